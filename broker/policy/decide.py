"""The answer: may this job have these grants, and if not, why not.

* `decide` is total and pure. It never raises; whatever it cannot judge is a denial.
* All grants of a request, or none.
* A refusal gives every miss of every statement, for the ledger and the policy's owners. The job never reads any of it:
  an unknown grant and a refused one are the same to it.
* What a job sent wrongly is told to it (`BadParams`) only after a statement trusts it.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, Literal

from pydantic import ValidationError

from broker.model import GrantRequest, VerifiedToken
from broker.policy.claims import absent
from broker.policy.policyset import Grant, Policy, PolicySet, Statement
from broker.policy.template import Unfillable
from broker.values import value

Code = Literal["unknown-grant", "no-statement", "trigger", "guardrail", "template", "params"]

LONGEST_SHOWN: Final = 200
MOST_EXPLAINED: Final = 64  # misses in one explanation; the rest are counted


@value(frozen=True, slots=True, kw_only=True)
class AllowedGrant:
    """One grant, narrowed and ready to be minted. With `observed`, nothing may be minted: the policy is on trial."""

    name: str  # payments/deploy
    policy: str
    policy_version: str  # sha256:<hex>
    statement: int  # which entry of `trust:`, from 0
    backend: str
    kind: str
    ttl: timedelta
    options: Any = field(repr=False)  # an instance of the backend's Options, templates filled in
    params: Any = field(repr=False)  # an instance of the backend's Params
    observed: bool = False


@value(frozen=True, slots=True)
class Allowed:
    """Every grant asked for."""

    grants: tuple[AllowedGrant, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """One condition that did not hold. Names policy content: for the ledger and the policy's owners only."""

    grant: str
    policy: str | None
    statement: int | None  # from 0; None where it concerns no statement
    key: str  # issuer, job.ref, claims.repository_id, allow_triggers, when, with, params.principal
    code: Code
    expected: str = field(repr=False)
    got: str = field(repr=False)

    def as_json(self) -> dict[str, str | int]:
        """Its members that are there, for an event."""
        members = {
            name: getattr(self, name) for name in ("grant", "policy", "statement", "key", "code", "expected", "got")
        }
        return {name: value for name, value in members.items() if value is not None}


class Denied:
    """No. `code` is the class of the nearest miss; `misses` holds every one.

    Saying why costs more than saying no, and a flood of strangers is told no only: both are found when somebody first asks.
    """

    __slots__ = ("_find", "_found")

    def __init__(self, find: Callable[[], tuple[Miss, ...]]) -> None:
        self._find = find
        self._found: tuple[Miss, ...] | None = None

    @property
    def misses(self) -> tuple[Miss, ...]:
        """Every miss of every statement of every grant that was asked for, in order."""
        if self._found is None:
            self._found = self._find()
        return self._found

    @property
    def code(self) -> Code:
        """The class of the refusal."""
        return min((miss.code for miss in self.misses), key=_NEAREST.index, default="unknown-grant")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Denied) and self.misses == other.misses

    def __hash__(self) -> int:
        return hash(self.misses)

    def __repr__(self) -> str:
        return f"Denied(code={self.code!r})"

    def near(self, grant: str | None = None) -> tuple[Miss, ...]:
        """The misses of the statement that came nearest, of `grant` or of all: what to look at first.

        Nearest is fewest misses; a statement for another issuer is never nearer than one for the job's own.
        """
        groups: dict[tuple[str, int | None], list[Miss]] = {}
        for miss in self.misses:
            if grant in {None, miss.grant}:
                groups.setdefault((miss.grant, miss.statement), []).append(miss)
        return nearest(list(groups.values()))

    def explain(self) -> str:
        """Some lines for the ledger: each grant, each statement, each miss with what was expected and what came."""
        lines: list[str] = []
        place: tuple[str, int | None] | None = None
        for miss in self.misses[:MOST_EXPLAINED]:
            if place != (miss.grant, miss.statement):
                place = (miss.grant, miss.statement)
                lines.append(f"{miss.grant}: " + ("refused" if miss.statement is None else f"trust[{miss.statement}]"))
            lines.append(f"  {miss.key}: expected {miss.expected}, got {miss.got}")
        if len(self.misses) > MOST_EXPLAINED:
            lines.append(f"  and {len(self.misses) - MOST_EXPLAINED} more")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParamProblem:
    """What is wrong with something the job sent. Safe to tell it: it speaks of the backend, not of the policy."""

    grant: str
    param: str  # "ttl", or a name in `params`; empty for all of them
    message: str


@dataclass(frozen=True, slots=True)
class BadParams:
    """The job is trusted, and what it sent is wrong. `missing` lists (grant, param) that it has to make and send."""

    problems: tuple[ParamProblem, ...]
    missing: tuple[tuple[str, str], ...] = ()


Decision = Allowed | Denied | BadParams


def decide(policies: PolicySet, token: VerifiedToken, requests: Sequence[GrantRequest], *, now: datetime) -> Decision:  # noqa: ARG001  an answer may depend on the instant it is asked for; no condition needs it yet
    """May this job have all of these? See the module's promises."""
    allowed: list[AllowedGrant] = []
    misses: list[Callable[[], Iterable[Miss]]] = []
    problems: list[ParamProblem] = []
    missing: list[tuple[str, str]] = []
    for request in requests:
        found = policies.grants.get(request.grant)
        if found is None:
            misses.append(partial(_unknown, request.grant))
            continue
        statement = trusting(found[0], token)
        if statement is None:
            misses.append(partial(_every_miss, *found, token))
            continue
        match _granted(*found, statement, token, request):
            case AllowedGrant() as grant:
                allowed.append(grant)
            case BadParams() as bad:
                problems.extend(bad.problems)
                missing.extend(bad.missing)
            case missed:
                misses.append(partial(iter, missed))
    if misses:
        return Denied(lambda: tuple(miss for found in misses for miss in found()))
    if problems:
        return BadParams(tuple(problems), tuple(missing))
    if not allowed:
        return Denied(tuple)
    return Allowed(tuple(allowed))


_NEAREST: Final[Sequence[Code]] = ("params", "template", "guardrail", "trigger", "no-statement", "unknown-grant")


def judge(
    policy: Policy, grant: Grant, token: VerifiedToken, request: GrantRequest, *, trust_only: bool = False
) -> AllowedGrant | BadParams | list[Miss]:
    """One grant. With `trust_only`, what the job sends is left out of it: an example that says nothing about params."""
    statement = trusting(policy, token)
    if statement is None:
        return list(_every_miss(policy, grant, token))
    return _granted(policy, grant, statement, token, request, trust_only=trust_only)


def trusting(policy: Policy, token: VerifiedToken) -> Statement | None:
    """The first statement that trusts this job."""
    for statement in policy.statements:
        if statement.trusts(token):
            return statement
    return None


def _granted(
    policy: Policy,
    grant: Grant,
    statement: Statement,
    token: VerifiedToken,
    request: GrantRequest,
    *,
    trust_only: bool = False,
) -> AllowedGrant | BadParams | list[Miss]:
    options = grant.options
    if grant.fill is not None:
        try:
            options = _filled(grant, token)
        except Unfillable as error:
            check = Check(key="with", code="template", expected="values that fit the options", got=str(error))
            return [_miss(policy, grant, statement, check)]
    params = None if trust_only else _params(policy, grant, statement, request)
    if isinstance(params, list | BadParams):
        return params
    ttl = grant.ttl if request.ttl is None else min(request.ttl, grant.ttl)
    if ttl < grant.shortest:
        message = f"the shortest life here is {int(grant.shortest.total_seconds())}s; ask for that or more"
        return BadParams((ParamProblem(grant=grant.name, param="ttl", message=message),))
    return AllowedGrant(
        name=grant.name,
        policy=policy.name,
        policy_version=policy.version,
        statement=statement.number,
        backend=grant.backend,
        kind=grant.kind,
        ttl=ttl,
        options=options,
        params=params,
        observed=policy.observed,
    )


def _filled(grant: Grant, token: VerifiedToken) -> Any:
    """The options with this job's values in them, validated as a whole. Raises Unfillable."""
    assert grant.fill is not None
    data = grant.fill(token)
    if grant.options_model is None:
        return data
    try:
        return grant.options_model.model_validate_json(json.dumps(data))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        raise Unfillable(
            f"with these values {'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}"
        ) from None


def _params(policy: Policy, grant: Grant, statement: Statement, request: GrantRequest) -> Any:
    sent = request.params or {}
    if sent or grant.no_params is None:
        params = _validated(grant, sent)
        if isinstance(params, BadParams):
            return params
    else:
        params = grant.no_params
    if misses := list(_restricted(policy, grant, statement, sent)):
        return misses
    return params


def _validated(grant: Grant, sent: Mapping[str, Any]) -> Any:
    if grant.params_model is None:
        return dict(sent)
    try:
        return grant.params_model.model_validate_json(json.dumps(dict(sent), allow_nan=False))
    except ValidationError as error:
        problems, missing = [], []
        for item in error.errors(include_input=False, include_url=False, include_context=False):
            name = str(item["loc"][0]) if item["loc"] else ""
            message = item["msg"].removeprefix("Value error, ")
            if item["type"] == "missing" and len(item["loc"]) == 1:
                missing.append((grant.name, name))
                message = "this is needed"
            elif item["type"] == "extra_forbidden" and len(item["loc"]) == 1:
                name, message = _shown(name), "this is not known here"
            problems.append(ParamProblem(grant=grant.name, param=name, message=message))
        return BadParams(tuple(problems), tuple(missing))
    except (TypeError, ValueError, RecursionError):
        return BadParams((ParamProblem(grant=grant.name, param="", message="params have to be a JSON object"),))


def _restricted(policy: Policy, grant: Grant, statement: Statement, sent: Mapping[str, Any]) -> Iterator[Miss]:
    for name, condition in grant.restrictions:
        value = sent.get(name)
        if not condition.holds(value):
            check = Check(key=f"params.{name}", code="params", expected=condition.shown, got=_shown(value))
            yield _miss(policy, grant, statement, check)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One condition of a statement, tried. Every statement gives at least one, its issuer."""

    key: str
    code: Code
    expected: str = field(repr=False)
    got: str = field(repr=False)
    held: bool = False


def checks(statement: Statement, token: VerifiedToken) -> Iterator[Check]:
    """Every condition of a statement with what came. A statement for another issuer is asked nothing more."""
    own = token.issuer == statement.issuer
    yield Check(key="issuer", code="no-statement", expected=statement.issuer, got=token.issuer, held=own)
    if not own:
        return
    for bound in statement.conditions:
        value = bound.read(token)
        held = bound.condition.holds(value)
        yield Check(key=bound.key, code="no-statement", expected=bound.condition.shown, got=_shown(value), held=held)
    for trigger in token.unsafe_triggers:
        if trigger in statement.never_triggers:
            yield Check(key="guardrails", code="guardrail", expected="never this trigger", got=trigger, held=False)
        named = ", ".join(sorted(statement.allow_triggers)) or "none"
        yield Check(
            key="allow_triggers", code="trigger", expected=named, got=trigger, held=trigger in statement.allow_triggers
        )
    if statement.when is not None:
        verdict = statement.when.verdict(token.job, token.claims)
        yield Check(
            key="when", code="no-statement", expected=statement.when.source, got=verdict, held=verdict == "true"
        )


def _every_miss(policy: Policy, grant: Grant, token: VerifiedToken) -> Iterator[Miss]:
    for statement in policy.statements:
        yield from _misses(policy, grant, statement, token)


def _misses(policy: Policy, grant: Grant, statement: Statement, token: VerifiedToken) -> Iterator[Miss]:
    missed = [check for check in checks(statement, token) if not check.held]
    plain = any(check.code == "no-statement" for check in missed)
    for check in missed:
        # The class of a refusal is that of what alone stood in the way.
        code: Code = "no-statement" if plain else check.code
        yield _miss(policy, grant, statement, replace(check, code=code))


def _miss(policy: Policy, grant: Grant, statement: Statement, check: Check) -> Miss:
    return Miss(
        grant=grant.name,
        policy=policy.name,
        statement=statement.number,
        key=check.key,
        code=check.code,
        expected=check.expected,
        got=check.got,
    )


def _unknown(name: str) -> tuple[Miss, ...]:
    miss = Miss(
        grant=_shown(name), policy=None, statement=None, key="grant", code="unknown-grant",
        expected="a grant of some policy", got=_shown(name),
    )  # fmt: skip
    return (miss,)


def nearest(groups: Iterable[Sequence[Miss]]) -> tuple[Miss, ...]:
    """The group, one per statement, that came nearest to none."""
    found = sorted(groups, key=lambda misses: (misses[0].key == "issuer", len(misses)))
    return tuple(found[0]) if found else ()


def _shown(value: Any) -> str:
    """A value on one bounded line: text as it is where that is safe to print, JSON where not."""
    if absent(value):
        return "absent"
    try:
        text = value if isinstance(value, str) and value.isprintable() else json.dumps(value, default=str)
    except (RecursionError, ValueError):
        text = f"a {type(value).__name__} nested too deeply to show"
    return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "..."
