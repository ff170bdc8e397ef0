"""From a policy file to its compiled, frozen form; every problem is found in one go and has its place.

Nothing here reads files or decides. `World` is what the file is checked against.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final, get_args, get_type_hints

from pydantic import BaseModel, ValidationError

from broker.documents import Document, Path, problems_of, suggestion, validated
from broker.durations import render
from broker.errors import ConfigError
from broker.issuers.seam import IssuerKind
from broker.model import JOB_FIELDS, JobIdentity, VerifiedToken
from broker.policy.claims import reader
from broker.policy.conditions import Condition, compile_condition
from broker.policy.document import GrantPart, PolicyFile, StatementPart
from broker.policy.expressions import Expression, compile_expression
from broker.policy.guardrails import Guardrails
from broker.policy.policyset import Bound, Grant, Policy, Read, Statement, Target
from broker.policy.template import compile_options

_TYPES: Final = {name: get_args(hint)[0] for name, hint in get_type_hints(JobIdentity).items()}
_ANCHORS: Final = ("project", "project_id", "owner", "owner_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What policies are checked against. `targets` is None where the backends are not known."""

    issuers: Mapping[str, IssuerKind]
    issuer_urls: Mapping[str, str]
    targets: Mapping[str, Target] | None
    guardrails: Guardrails
    _jobs: dict[str, list[tuple[Mapping[str, Any], JobIdentity]]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def says(self, kind: IssuerKind, path: str, fields: Iterable[str]) -> bool:
        """Whether the claim at `path` is one of these JobIdentity fields under its raw name.

        Told by the kind's own examples: in every one, the claim's value is that of the field. A trust class would not
        do: a run's number is set by the platform too, and says nothing about whose run it is.
        """
        if kind.name not in self._jobs:
            self._jobs[kind.name] = [(claims, kind.identity(claims)) for claims in kind.examples.values()]
        read = reader(path)
        known = [(read(claims), job) for claims, job in self._jobs[kind.name]]
        for name in fields:
            pairs = [(value, getattr(job, name)) for value, job in known if getattr(job, name) is not None]
            if pairs and all(value is not None and str(value) == said for value, said in pairs):
                return True
        return False


@dataclass(frozen=True, slots=True)
class Reporter:
    """Collects problems below one path of a document."""

    document: Document
    problems: list[str]
    path: Path = ()

    def __call__(self, path: Path, message: str) -> None:
        self.problems.append(self.document.problem((*self.path, *path), message))

    def at(self, *path: str | int) -> "Reporter":
        return Reporter(self.document, self.problems, (*self.path, *path))


def compile_policy(document: Document, text: str, *, folder: str, file: str, world: World) -> tuple[Policy, PolicyFile]:
    """Check a parsed file against the world. Raises ConfigError with every problem. Its examples are not run here."""
    written = validated(PolicyFile, document)
    report = Reporter(document, [])
    _check_owners(written, world.guardrails, report)
    for number, example in enumerate(written.examples):
        names = [example.grant, *example.expect.allow] if example.grant else example.expect.allow
        for name in names:
            if name not in written.grants:
                report(("examples", number, "expect"), f"no grant {name!r} here{suggestion(name, written.grants)}")
    if all(example.expect.allow for example in written.examples):
        report(
            ("examples",),
            "no example is refused; add one with `expect: refuse` that comes near, so that what the policy keeps out is proved",
        )
    statements = [
        _statement(number, part, folder, world, report.at("trust", number)) for number, part in enumerate(written.trust)
    ]
    grants = {
        name: _grant(f"{written.policy}/{name}", part, folder, world, report.at("grants", name))
        for name, part in written.grants.items()
    }
    if report.problems:
        raise ConfigError(*report.problems)
    policy = Policy(
        name=written.policy,
        description=written.description,
        owners=tuple(written.owners),
        observed=written.mode == "observe",
        version="sha256:" + hashlib.sha256(text.encode()).hexdigest(),
        statements=tuple(statement for statement in statements if statement is not None),
        grants={name: grant for name, grant in grants.items() if grant is not None},
        file=file,
        text=text,
    )
    return policy, written


def _check_owners(written: PolicyFile, guardrails: Guardrails, report: Reporter) -> None:
    for number, owner in enumerate(written.owners):
        if not guardrails.admits_owner(owner):
            report(("owners", number), f"{owner} may not own a policy; the guardrails name who may")


def _statement(number: int, part: StatementPart, folder: str, world: World, report: Reporter) -> Statement | None:
    before = len(report.problems)
    kind = world.issuers.get(part.issuer)
    if kind is None:
        report(("issuer",), f"no issuer {part.issuer!r} is configured{suggestion(part.issuer, world.issuers)}")
    for name, limits in world.guardrails.limits(folder):
        if limits.issuers is not None and part.issuer not in limits.issuers:
            report(("issuer",), f"the guardrails do not let policies in {name!r} trust the issuer {part.issuer!r}")
    conditions = [*_job(part, report), *_claims(part, kind, world, report)]
    if not part.job and not part.claims:
        report(
            (),
            "a statement without a condition under job or claims trusts every job of the issuer; say whose job it is",
        )
    when = _when(part.when, report)
    never = world.guardrails.triggers_never_allowed
    for place, trigger in enumerate(part.allow_triggers):
        if kind is not None and trigger not in kind.trigger_names:
            report(
                ("allow_triggers", place),
                f"{kind.title} has no unsafe trigger {trigger!r}{suggestion(trigger, kind.trigger_names)}",
            )
        if trigger in never:
            report(("allow_triggers", place), f"the guardrails never allow {trigger!r}")
    _check_wildcards(conditions, world.guardrails, report)
    whole = len(report.problems) == before  # or an id that was written wrongly would be missed, too
    if kind is not None and world.guardrails.require_immutable_id and whole:
        _check_pinned(conditions, kind, world, report)
    if len(report.problems) > before:
        return None
    return Statement(
        number=number,
        issuer=part.issuer,
        conditions=tuple(conditions),
        when=when,
        allow_triggers=frozenset(part.allow_triggers),
        never_triggers=never,
        tests=tuple((bound.read, bound.condition.holds) for bound in conditions),
    )


def _job(part: StatementPart, report: Reporter) -> Iterator[Bound]:
    for name, spec in part.job.items():
        here = report.at("job", name)
        if name not in _TYPES:
            here((), f"a job has no {name!r}{suggestion(name, JOB_FIELDS)}; a raw claim stands under `claims`")
            continue
        condition = compile_condition(spec, here, only=_TYPES[name])
        if condition is not None:
            yield Bound(key=f"job.{name}", read=attrgetter(f"job.{name}"), condition=condition, anchor=name in _ANCHORS)


def _claims(part: StatementPart, kind: IssuerKind | None, world: World, report: Reporter) -> Iterator[Bound]:
    for name, spec in part.claims.items():
        here = report.at("claims", name)
        try:
            read = _of_claims(reader(name))
        except ValueError as error:
            here((), str(error))
            continue
        condition = compile_condition(spec, here)
        if condition is not None:
            anchor = kind is not None and world.says(kind, name, _ANCHORS)
            yield Bound(key=f"claims.{name}", read=read, condition=condition, anchor=anchor)


def _of_claims(read: Callable[[Mapping[str, Any]], Any]) -> Read:
    def from_token(token: VerifiedToken) -> Any:
        return read(token.claims)

    return from_token


def _when(source: str | None, report: Reporter) -> Expression | None:
    if source is None:
        return None
    try:
        return compile_expression(source)
    except ValueError as error:
        report(("when",), str(error))
        return None


def _check_pinned(conditions: list[Bound], kind: IssuerKind, world: World, report: Reporter) -> None:
    """A statement writes an immutable id out. Where a kind has none, its issuer is one installation, and a name does."""
    ids = kind.immutable or ("project",)
    for bound in conditions:
        where, _, name = bound.key.partition(".")
        if bound.condition.exact is not None and (name in ids if where == "job" else world.says(kind, name, ids)):
            return
    if kind.immutable:
        wanted = " or ".join(f"job.{name}" for name in ids)
        report((), f"a name can be registered again by somebody else: write out an immutable id too, {wanted}")
    else:
        report((), f"{kind.title} signs no immutable id: write out job.project, as a value and not a pattern")


def _check_wildcards(conditions: list[Bound], guardrails: Guardrails, report: Reporter) -> None:
    for bound in conditions:
        only_absent = bound.condition.shown == '{"absent": true}'
        if bound.key in guardrails.no_wildcards and bound.condition.exact is None and not only_absent:
            where, _, name = bound.key.partition(".")
            report(
                (where, name),
                "the guardrails want this written out: a value or a list of values, no pattern and no `not`",
            )


def _grant(name: str, part: GrantPart, folder: str, world: World, report: Reporter) -> Grant | None:
    for limited, limits in world.guardrails.limits(folder):
        if limits.backends is not None and part.backend not in limits.backends:
            report(("backend",), f"the guardrails do not let policies in {limited!r} use the backend {part.backend!r}")
    if world.targets is None:
        return _unchecked_grant(name, part, report)
    target = world.targets.get(part.backend)
    if target is None:
        report(("backend",), f"no backend {part.backend!r} is configured{suggestion(part.backend, world.targets)}")
        return None
    _check_ttl(part, target, world.guardrails, report)
    for param in part.params:
        known = [info.alias or field for field, info in target.params.model_fields.items()]
        if param not in known:
            report(("params", param), f"a job cannot send {param!r} to {target.kind}{suggestion(param, known)}")
    found = compile_options(part.options, target.options, report.at("with"))
    options = _options(part, target, found[1] if found else frozenset(), report)
    return Grant(
        name=name,
        backend=target.backend,
        kind=target.kind,
        ttl=world.guardrails.longest(target.kind, part.ttl),
        shortest=target.shortest,
        options_model=target.options,
        options=options,
        fill=found[0] if found else None,
        params_model=target.params,
        restrictions=tuple(_restrictions(part, report)),
        no_params=_no_params(target.params),
    )


def _unchecked_grant(name: str, part: GrantPart, report: Reporter) -> Grant:
    """Where no backend is known, everything that does not depend on one is still checked."""
    return Grant(
        name=name, backend=part.backend, kind="unknown", ttl=part.ttl, shortest=part.ttl, options_model=None,
        options=part.options, fill=None, params_model=None, restrictions=tuple(_restrictions(part, report)), no_params={},
    )  # fmt: skip


def _check_ttl(part: GrantPart, target: Target, guardrails: Guardrails, report: Reporter) -> None:
    if part.ttl < target.shortest:
        report(("ttl",), f"{target.kind} credentials live {render(target.shortest)} or longer")
    if part.ttl > target.longest:
        report(("ttl",), f"{target.kind} credentials live {render(target.longest)} at most")
    elif part.ttl > guardrails.longest(target.kind, part.ttl):
        report(
            ("ttl",),
            f"the guardrails let {target.kind} credentials live {render(guardrails.longest_ttl[target.kind])} at most",
        )


def _restrictions(part: GrantPart, report: Reporter) -> Iterator[tuple[str, Condition]]:
    for name, spec in part.params.items():
        condition = compile_condition(spec, report.at("params", name))
        if condition is not None:
            yield name, condition


def _options(part: GrantPart, target: Target, templated: frozenset[Path], report: Reporter) -> Any:
    """The validated options, or None where templates are still to be filled in or something is wrong.

    With templates, what can be checked without their values is: a problem that a templated value takes part in is left
    to the examples and to the moment of the decision.
    """
    try:
        return target.options.model_validate_json(json.dumps(part.options))
    except ValidationError as error:
        at = (*report.path, "with")
        but = {(*at, *path[:length]) for path in templated for length in range(len(path) + 1)}
        report.problems.extend(problems_of(error, target.options, report.document, at=at, but=but))
        return None


def _no_params(model: type[BaseModel]) -> Any:
    try:
        return model.model_validate_json("{}")
    except ValidationError:
        return None
