"""The parts of docs/ that the code itself says: backends, issuer kinds, settings, events, errors, metrics.

`python -m tools.docs` writes them between their marks in the pages; `python -m tools.docs check` ends with 1 where a page is not current.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from broker.backends import BACKENDS
from broker.backends.seam import Backend, Templated
from broker.durations import render
from broker.errors import BrokerError, BrokerUnavailable, RequestRefused
from broker.issuers import ISSUERS, IssuerKind, Trust
from broker.issuers.settings import IssuerSettings
from broker.ledger import events
from broker.ledger.records import Event
from broker.metrics import REGISTRY
from broker.people.settings import PeopleSettings
from broker.settings import BrokerFile
from broker.web.problems import kebab

DOCS: Final = Path(__file__).resolve().parents[1] / "docs"
CLASSES: Final = {
    Trust.ID: "set by the platform, never handed to somebody else: anchor a policy on one",
    Trust.FACT: "set by the platform, true for this run",
    Trust.NAME: "set by the platform, but can be renamed and registered again",
    Trust.USER: "chosen by a committer, a pull request's author, an API caller or the job",
}


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Markdown; a pipe in a cell would end it."""
    titles = list(head)
    yield f"| {' | '.join(titles)} |"
    yield f"| {' | '.join('---' for _ in titles)} |"
    for row in rows:
        cells = [cell.replace("|", r"\|") for cell in row]
        yield f"| {' | '.join(cells)} |"


def backends() -> Iterator[str]:
    """Every kind on one screen."""
    yield from table(
        ("Kind", "Leaves a trace outside", "TTL", "Renewed", "How it ends early"),
        (
            (f"[`{kind}`](#{kind})", yes(one.trace), f"{render(one.shortest)} to {render(one.longest)}", yes(one.renewable), one.revocation)
            for kind, one in sorted(BACKENDS.items())
        ),
    )  # fmt: skip


def backend(kind: str) -> Callable[[], Iterator[str]]:
    """What an operator, a policy and a job may say of one kind."""

    def told() -> Iterator[str]:
        one: type[Backend] = BACKENDS[kind]
        for title, model in (
            ("In broker.yaml", one.Settings),
            ("In a grant's `with:`", one.Options),
            ("From the job", one.Params),
        ):
            if not model.model_fields:
                yield f"{title}: nothing to say."
                yield ""
                continue
            yield f"{title}:"
            yield ""
            yield from members(model, templates=model is one.Options)
            yield ""

    return told


def members(model: type[BaseModel], *, templates: bool = False) -> Iterator[str]:
    """A model's keys."""
    properties = model.model_json_schema(by_alias=True)
    definitions = properties.get("$defs", {})
    rows = []
    for name, field in model.model_fields.items():
        shown = field.alias or name
        schema = properties["properties"][shown]
        row = [f"`{shown}`", shape(schema, definitions), default(field)]
        if description := schema.get("description"):
            row[1] += f": {description}"
        if templates:
            row.append(yes(any(isinstance(item, Templated) for item in _marks(field))))
        rows.append(row)
    head = ["Key", "Is", "Left out", *(["Takes `{{ job.x }}`"] if templates else [])]
    yield from table(head, rows)


def _marks(item: Any) -> Iterator[Any]:
    """Everything that annotations say anywhere inside a type."""
    yield from getattr(item, "metadata", ()) or ()
    yield from getattr(item, "__metadata__", ()) or ()
    if (inner := getattr(item, "annotation", None)) is not None:
        yield from _marks(inner)
    if isinstance(item, type) and issubclass(item, BaseModel):
        for field in item.model_fields.values():
            yield from _marks(field)
    for argument in get_args(item):
        yield from _marks(argument)


def shape(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """A JSON schema in two or three words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        inner = definitions[name]
        keys = ", ".join(f"`{key}`" for key in inner.get("properties", ()))
        return shape(inner, definitions) if "enum" in inner or not keys else f"a mapping with {keys}"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if any(key in schema for key in ("anyOf", "oneOf")):
        ways = [shape(way, definitions) for way in schema.get("anyOf") or schema["oneOf"] if way.get("type") != "null"]
        return ", or ".join(dict.fromkeys(ways))
    match schema.get("type"):
        case "array":
            return f"a list: {shape(schema.get('items', {}), definitions)}"
        case "object":
            inner = schema.get("additionalProperties")
            return f"a mapping of names to {shape(inner, definitions)}" if isinstance(inner, dict) else "a mapping"
        case "string":
            if "env:" in schema.get("pattern", ""):
                return "`env:NAME` or `file:PATH`"
            return "a duration such as `15m`" if "smhd" in schema.get("pattern", "") else "text"
        case "boolean":
            return "`true` or `false`"
        case "integer" | "number":
            return "a number"
        case _:
            return "anything"


def default(field: Any) -> str:
    """What holds where a key is left out."""
    if field.is_required():
        return "**needed**"
    value = field.default_factory() if field.default_factory is not None else field.default
    if value is None or value is PydanticUndefined or value in ([], {}):
        return "-"
    if isinstance(value, BaseModel):
        return ", ".join(f"`{name}: {item}`" for name, item in value.model_dump().items())
    if isinstance(value, timedelta):
        return f"`{render(value)}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def issuers() -> Iterator[str]:
    """Every kind on one screen."""
    yield from table(
        ("Kind", "CI", "Issuer", "Audience", "Fresh tokens", "Longest job", "Ids that nobody can register again"),
        (
            (
                f"[`{kind}`](#{kind})", one.title, f"`{one.url}`" if one.url else "your own",
                f"fixed: `{one.fixed_audience}`" if one.fixed_audience else "job asks, can be bound" if one.chooses_audience else "set in the CI's file",
                yes(one.fresh_tokens), render(one.longest_job), ", ".join(f"`{name}`" for name in one.immutable) or "none",
            )
            for kind, one in sorted(ISSUERS.items())
        ),
    )  # fmt: skip


def issuer_kinds() -> Iterator[str]:
    """A section each."""
    for kind, one in sorted(ISSUERS.items()):
        yield f"### {kind}"
        yield ""
        yield from issuer(one)


def issuer(one: IssuerKind) -> Iterator[str]:
    """One kind: what it takes, who chooses its claims, what its triggers can do."""
    yield f"{one.title}. Issuer URLs that may be configured: `{one.accepts}`"
    yield ""
    yield (
        f"Signed with {', '.join(one.algorithms)}; `jti` {one.jti}; accepted for {render(one.max_age)} from `iat`, with a life of at most"
        f" {render(one.max_lifetime)}. "
        + (f"A token needs {', '.join(f'`{claim}`' for claim in sorted(one.required))}." if one.required else "")
    ).rstrip()
    if one.docs:
        yield f"The CI's own page: <{one.docs}>"
    yield ""
    if one.claims:
        rows = [
            (f"**{trust.value}**: {says}", ", ".join(f"`{claim}`" for claim, given in one.claims.items() if given is trust))
            for trust, says in CLASSES.items()
            if trust in one.claims.values()
        ]  # fmt: skip
        yield from table(("Who chooses it", "Claims"), rows)
        yield ""
    if one.trigger_names:
        yield from table(
            ("Unsafe trigger", "The attack"), ((f"`{name}`", attack) for name, attack in one.trigger_names.items())
        )
        yield ""
    if one.examples:
        yield f"Examples for `$like`: {', '.join(f'`{name}`' for name in one.examples)}."
        yield ""


def broker_yaml() -> Iterator[str]:
    """The top level of broker.yaml."""
    yield from members(BrokerFile)


def issuer_settings() -> Iterator[str]:
    """One entry of `issuers:`."""
    yield from members(IssuerSettings)


def people_settings() -> Iterator[str]:
    """`people:`."""
    yield from members(PeopleSettings)


def event_types() -> Iterator[str]:
    """Every constructor of broker.ledger.events, in its order."""
    rows = []
    for name, function in vars(events).items():
        returns = str(inspect.signature(function).return_annotation) if inspect.isfunction(function) else ""
        if name.startswith("_") or name == "make" or Event.__name__ not in returns:
            continue
        text = " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())
        given = [f"`{key}`" for key in inspect.signature(function).parameters if key not in {"now", "at"}]
        rows.append((f"`{name.replace('_', '-')}`", text, ", ".join(given)))
    yield from table(("Type", "What it records", "Told by"), rows)


def problems() -> Iterator[str]:
    """Every leaf of the error tree."""
    yield from table(
        ("`type`", "Status", "Title", "At `/token`"),
        (
            (f"[`urn:jobkey:problem:{kebab(one.__name__)}`](jobs.md#{kebab(one.__name__)})", str(one.status), one.title, f"`{one.oauth_error}`")
            for one in leaves(BrokerError)
        ),
    )  # fmt: skip


def leaves(root: type[BrokerError]) -> list[type[BrokerError]]:
    """The errors that are raised, in the order of the tree."""
    below = [leaf for one in root.__subclasses__() for leaf in leaves(one)]
    return below or ([] if root in {BrokerError, RequestRefused, BrokerUnavailable} else [root])


def metrics() -> Iterator[str]:
    """Every metric of the registry."""
    rows = []
    for one in REGISTRY.collect():
        name = one.name + ("_total" if one.type == "counter" else "")
        rows.append((f"`{name}`", one.type, one.documentation))
    yield from table(("Metric", "Type", "Meaning"), rows)


def yes(value: bool) -> str:
    return "yes" if value else "no"


PARTS: Final[Mapping[str, tuple[str, Callable[[], Iterator[str]]]]] = {
    "backends": ("backends.md", backends),
    **{f"backend {kind}": ("backends.md", backend(kind)) for kind in sorted(BACKENDS)},
    "issuers": ("issuers.md", issuers),
    "issuer kinds": ("issuers.md", issuer_kinds),
    "broker.yaml": ("operators.md", broker_yaml),
    "issuer settings": ("operators.md", issuer_settings),
    "people settings": ("operators.md", people_settings),
    "metrics": ("operators.md", metrics),
    "events": ("auditors.md", event_types),
    "problems": ("api.md", problems),
}


def current(page: str, text: str) -> str:
    """The page with every generated part as the code says it now. Raises ValueError where a part has no place."""
    for name, (where, part) in PARTS.items():
        if where != page:
            continue
        begin, end = f"<!-- generated: {name} -->", f"<!-- end: {name} -->"
        marked = re.compile(f"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
        if len(marked.findall(text)) != 1:
            raise ValueError(f"{page} has no one place for the generated part {name!r}: {begin} ... {end}")
        body = re.sub(r"\n{3,}", "\n\n", "\n".join(part())).strip("\n")
        text = marked.sub(lambda _, new=f"{begin}\n{body}\n{end}": new, text)  # type: ignore[misc]  # a default argument binds it
    return text


def main(arguments: list[str]) -> int:
    """Write, or check; the exit code."""
    stale = 0
    for page in sorted({where for where, _ in PARTS.values()}):
        path = DOCS / page
        text = path.read_text()
        new = current(page, text)
        if new != text:
            stale += 1
            if arguments == ["check"]:
                print(f"{path.name} is not current; run: python -m tools.docs", file=sys.stderr)  # noqa: T201  a script
            else:
                path.write_text(new)
    return 1 if stale and arguments == ["check"] else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
