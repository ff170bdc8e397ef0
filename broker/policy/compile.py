"""From a policy file to its compiled, frozen form; every problem is found in one go and has its place.

Nothing here reads files or decides. `World` is what the file is checked against.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from typing import Any, Final, get_args, get_type_hints

from pydantic import BaseModel, ValidationError

from broker.documents import Document, Path, problems_of, suggestion, validated
from broker.errors import ConfigError
from broker.issuers.seam import IssuerKind
from broker.model import JOB_FIELDS, JobIdentity, VerifiedToken
from broker.policy.claims import reader
from broker.policy.conditions import Condition, compile_condition
from broker.policy.document import GrantPart, PolicyFile, StatementPart
from broker.policy.expressions import Expression, compile_expression
from broker.policy.limits import (
    check_backend,
    check_issuer,
    check_owners,
    check_pinned,
    check_triggers,
    check_ttl,
    check_wildcards,
)
from broker.policy.policyset import Bound, Grant, Policy, Read, Statement, Target
from broker.policy.template import compile_options
from broker.policy.world import Reporter, World

_TYPES: Final = {name: get_args(hint)[0] for name, hint in get_type_hints(JobIdentity).items()}
_ANCHORS: Final = ("project", "project_id", "owner", "owner_id")


def compile_policy(document: Document, text: str, *, folder: str, file: str, world: World) -> tuple[Policy, PolicyFile]:
    """Check a parsed file against the world. Raises ConfigError with every problem. Its examples are not run here."""
    written = validated(PolicyFile, document)
    report = Reporter(document, [])
    check_owners(written, folder, world.guardrails, report)
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


def _statement(number: int, part: StatementPart, folder: str, world: World, report: Reporter) -> Statement | None:
    before = len(report.problems)
    kind = world.issuers.get(part.issuer)
    if kind is None:
        report(("issuer",), f"no issuer {part.issuer!r} is configured{suggestion(part.issuer, world.issuers)}")
    check_issuer(part, folder, world.guardrails, report)
    conditions = [*_job(part, report), *_claims(part, kind, world, report)]
    if not part.job and not part.claims:
        report(
            (),
            "a statement without a condition under job or claims trusts every job of the issuer; say whose job it is",
        )
    when = _when(part.when, report)
    check_triggers(part, world.guardrails, report)
    for place, trigger in enumerate(part.allow_triggers):
        if kind is not None and trigger not in kind.trigger_names:
            report(
                ("allow_triggers", place),
                f"{kind.title} has no unsafe trigger {trigger!r}{suggestion(trigger, kind.trigger_names)}",
            )
    check_wildcards(conditions, world.guardrails, report)
    whole = len(report.problems) == before  # or an id that was written wrongly would be missed, too
    if kind is not None and world.guardrails.require_immutable_id and whole:
        check_pinned(conditions, kind, world, report)
    if len(report.problems) > before:
        return None
    return Statement(
        number=number,
        issuer=part.issuer,
        conditions=tuple(conditions),
        when=when,
        allow_triggers=frozenset(part.allow_triggers),
        never_triggers=world.guardrails.triggers_never_allowed,
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


def _grant(name: str, part: GrantPart, folder: str, world: World, report: Reporter) -> Grant | None:
    check_backend(part, folder, world.guardrails, report)
    if world.targets is None:
        return _unchecked_grant(name, part, report)
    target = world.targets.get(part.backend)
    if target is None:
        report(("backend",), f"no backend {part.backend!r} is configured{suggestion(part.backend, world.targets)}")
        return None
    check_ttl(part, folder, target, world.guardrails, report)
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
        ttl=world.guardrails.longest(target.kind, part.ttl, folder),
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
