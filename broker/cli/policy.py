"""`jobkey-broker policy`: check trust policies and explain decisions, without a running broker.

* With `--config broker.yaml`, exactly what the broker would load: its issuers, backends and guardrails.
* Without, issuers are taken by the names of their kinds, and what depends on a backend is not checked; the output says so.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from broker.errors import ConfigError
from broker.model import GrantRequest, VerifiedToken
from broker.policy.compile import World
from broker.policy.decide import Allowed, BadParams, Decision, Denied, checks, decide
from broker.policy.examples import example_claims, example_token
from broker.policy.guardrails import load_guardrails
from broker.policy.load import PolicyText, compile_all, load_policies, read_folder, read_one
from broker.policy.policyset import PolicySet

app = typer.Typer(name="policy", help="Check trust policies, and explain what they decide.", no_args_is_help=True)

_PLACE: Final = re.compile(r"(?P<file>.+?):(?P<line>[0-9]+):(?P<column>[0-9]+): (?P<message>.*)", re.DOTALL)
LARGEST_CLAIMS: Final = 1 << 20

Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="The broker's own broker.yaml: its issuers, backends, guardrails.")
]


@dataclass(frozen=True, slots=True)
class Setting:
    """What to check against, and where the policies are when nobody says."""

    world: World
    policies: Path


@app.command()
def check(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Policy files, or folders of them.")],
    config: Config = None,
    guardrails: Annotated[Path | None, typer.Option(help="guardrails.yaml, where no --config names it.")] = None,
) -> None:
    """Load policies as the broker would, run their examples, and show every problem where it stands."""
    out = Console(highlight=False, soft_wrap=True)
    problems: list[str] = []
    try:
        setting = _setting(config, guardrails)
        texts, folders = _texts(paths, problems)
        found = compile_all(texts, setting.world, problems, folders=folders)
    except ConfigError as error:
        for problem in error.problems:
            for line in _excerpt(problem):
                out.print(line)
        count = len(error.problems)
        out.print(f"[red]{count} problem{'' if count == 1 else 's'}[/red]; nothing would be loaded")
        raise typer.Exit(1) from None
    statements = sum(len(policy.statements) for policy in found.policies.values())
    out.print(
        f"[green]good[/green]: {_count(len(found.policies), 'policy', 'policies')}, {_count(statements, 'statement')}, "
        f"{_count(len(found.grants), 'grant')}; every example came out as it says"
    )
    if setting.world.targets is None:
        out.print("not checked: backends and their options (`with`), for want of --config broker.yaml")


@app.command()
def explain(
    *,
    claims: Annotated[Path, typer.Option("--claims", help="A JSON file with a token's claims; - for standard input.")],
    grant: Annotated[str, typer.Option("--grant", "-g", help="The grant the job asks for: policy/grant.")],
    policies: Annotated[Path | None, typer.Option("--policies", "-p", help="The folder of policies.")] = None,
    issuer: Annotated[str | None, typer.Option("--issuer", "-i", help="The issuer's name in broker.yaml.")] = None,
    config: Config = None,
    params: Annotated[str | None, typer.Option("--params", help="What the job sends, as a JSON object.")] = None,
) -> None:
    """Decide one request and show each statement, each condition, what it expected and what came.

    Exit code 0: allowed (or allowed but for what the job sent). 1: refused. 2: the question itself is wrong.
    """
    out = Console(highlight=False, soft_wrap=True)
    try:
        setting = _setting(config, None)
        found = load_policies(
            policies or setting.policies,
            issuers=setting.world.issuers,
            issuer_urls=setting.world.issuer_urls,
            targets=setting.world.targets,
            guardrails=setting.world.guardrails,
        )
        token = _token(claims, issuer, grant, found, setting.world)
        request = GrantRequest(grant=grant, params=_object(params, "--params") if params else None)
    except ConfigError as error:
        for problem in error.problems:
            for line in _excerpt(problem):
                out.print(line)
        raise typer.Exit(2) from None
    decision = decide(found, token, [request], now=datetime.now(UTC))
    for line in _explained(found, token, grant, decision):
        out.print(line)
    if setting.world.targets is None:
        out.print("not checked: the backend's options and params, for want of --config broker.yaml")
    if isinstance(decision, Denied):
        raise typer.Exit(1)


def _setting(config: Path | None, guardrails: Path | None) -> Setting:
    if config is not None:
        from broker.catalog import policy_inputs
        from broker.settings import load_settings

        settings = load_settings(config)
        issuers, urls, targets = policy_inputs(settings)
        limits = load_guardrails(guardrails or settings.guardrails)
        return Setting(World(issuers=issuers, issuer_urls=urls, targets=targets, guardrails=limits), settings.policies)
    from broker.issuers import ISSUERS

    public = {name: kind.url for name, kind in ISSUERS.items() if kind.url}
    world = World(issuers=ISSUERS, issuer_urls=public, targets=None, guardrails=load_guardrails(guardrails))
    return Setting(world, Path("policies"))


def _texts(paths: list[Path], problems: list[str]) -> tuple[list[PolicyText], set[str] | None]:
    """The files to check. Folders of guardrails are known only where one whole folder of policies is given."""
    texts: list[PolicyText] = []
    for path in paths:
        if path.is_dir():
            texts.extend(read_folder(path, problems))
        elif (text := read_one(path, path.name, problems)) is not None:
            texts.append(text)
    if len(paths) == 1 and paths[0].is_dir():
        folders = {"."}
        for text in texts:
            parts = text.folder.split("/")
            folders |= {"/".join(parts[:length]) for length in range(1, len(parts) + 1)}
        return texts, folders
    return texts, None


def _token(path: Path, issuer: str | None, grant: str, policies: PolicySet, world: World) -> VerifiedToken:
    """What the broker would make of these claims, their signature taken for granted. Raises ConfigError."""
    given = _object(_read(path), str(path))
    if issuer is None:
        by_url = [name for name, url in world.issuer_urls.items() if url == given.get("iss")]
        entry = policies.grants.get(grant)
        by_policy = sorted({statement.issuer for statement in entry[0].statements}) if entry else []
        candidates = by_url or by_policy
        if len(candidates) != 1:
            known = ", ".join(candidates or sorted(world.issuers))
            raise ConfigError(f"{path}:1:1: iss: no single issuer has this URL; say --issuer, one of {known}")
        issuer = candidates[0]
    kind = world.issuers.get(issuer)
    if kind is None:
        raise ConfigError(
            f"{path}:1:1: no issuer {issuer!r} is configured; there are: {', '.join(sorted(world.issuers))}"
        )
    like = given.pop("$like", None)
    if like is not None:
        base = example_claims(kind, str(like))
        if base is None:
            raise ConfigError(
                f"{path}:1:1: $like: {kind.title} has no example {like!r}; there are: {', '.join(kind.examples)}"
            )
        given = {**base, **given}
    try:
        return example_token(issuer, kind, given)
    except Exception as error:  # noqa: BLE001  claims of any shape, from a person
        raise ConfigError(
            f"{path}:1:1: {kind.title} could not have signed these claims ({type(error).__name__})"
        ) from None


def _read(path: Path) -> str:
    try:
        if str(path) == "-":
            return typer.get_text_stream("stdin").read(LARGEST_CLAIMS)
        with path.open(encoding="utf-8") as file:
            return file.read(LARGEST_CLAIMS)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}:1:1: cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None


def _object(text: str, name: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        line, column = getattr(error, "lineno", 1), getattr(error, "colno", 1)
        raise ConfigError(f"{name}:{line}:{column}: not JSON: {getattr(error, 'msg', 'nested too deeply')}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{name}:1:1: a JSON object is expected; decode the token's second part for it")
    return value


def _excerpt(problem: str) -> Iterator[Text | str]:
    """The problem, and the line it is about with a caret below it."""
    match = _PLACE.fullmatch(problem)
    if match is None:
        yield Text(problem)
        return
    place = f"{match['file']}:{match['line']}:{match['column']}"
    yield Text.assemble((place, "bold"), ": ", match["message"])
    try:
        with Path(match["file"]).open(encoding="utf-8", errors="replace") as file:
            lines = file.read(LARGEST_CLAIMS).splitlines()
        source = lines[int(match["line"]) - 1]
    except (OSError, IndexError):
        return
    column = int(match["column"])
    shown = "".join(character if character.isprintable() else " " for character in source)
    gutter = f"{match['line']:>5} | "
    yield Text.assemble((gutter, "dim"), shown)
    yield Text.assemble((" " * 5 + " | ", "dim"), " " * (column - 1), ("^", "bold red"))


def _explained(policies: PolicySet, token: VerifiedToken, grant: str, decision: Decision) -> Iterator[Text | str]:
    entry = policies.grants.get(grant)
    if entry is None:
        yield f"[red]refused[/red]: no policy has the grant {escape(repr(grant))}"
        return
    policy, found = entry
    for statement in policy.statements:
        tried = list(checks(statement, token))
        good = all(one.held for one in tried)
        yield Text.assemble(
            (f"{policy.name} trust[{statement.number}]", "bold"), ": ", "holds" if good else "does not hold"
        )
        first = True
        for one in tried:
            mark, style = ("ok  ", "green") if one.held else ("miss", "red")
            pointer = "  <- first miss" if not one.held and first else ""
            first = first and one.held
            yield Text.assemble(
                "  ", (mark, style), f" {one.key}: expected {one.expected}, got {one.got}", (pointer, "bold red")
            )
    match decision:
        case Allowed(grants=grants):
            allowed = grants[0]
            how = (
                "observed: judged and recorded, nothing is minted"
                if allowed.observed
                else f"by trust[{allowed.statement}]"
            )
            seconds = int(allowed.ttl.total_seconds())
            yield Text.assemble(("allowed", "green"), f": {grant}, {how}; {found.backend}, {seconds}s at most")
        case BadParams(problems=problems):
            yield Text.assemble(("allowed", "green"), f": {grant}, once the job sends what the backend needs")
            for problem in problems:
                yield Text(f"  {problem.param or 'params'}: {problem.message}")
        case Denied() as denied:
            yield Text.assemble(("refused", "red"), f": {grant} ({denied.code})")
            for miss in denied.misses:
                if miss.code in {"template", "params"}:
                    yield Text(f"  {miss.key}: expected {miss.expected}, got {miss.got}")


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
