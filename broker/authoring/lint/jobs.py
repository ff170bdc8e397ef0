"""Jobs to try a policy with: those of its own examples, and those that an attacker would bring."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

from broker.authoring.lint.stated import Stated, claims_of
from broker.issuers.seam import Claims, IssuerKind
from broker.model import JobIdentity, VerifiedToken
from broker.policy.examples import LIKE, example_claims, example_token
from broker.policy.load import Checked
from broker.policy.policyset import Statement
from broker.policy.world import World
from broker.proof import Budget, Exhausted, region_of

# How the kinds name examples that are not the owner's own job, where no trigger shows it.
_FOREIGN: Final = re.compile(r"(?:^|-)(fork|other|outside|person)(?:-|$)")

MOST_GUESSING: Final = 2_000  # steps for one value of a regex


@dataclass(frozen=True)
class Job:
    """Claims of one job, with what the kind makes of them."""

    name: str
    claims: Claims = field(repr=False)
    kind: IssuerKind
    issuer: str = ""
    allowed: bool = False  # an example that has to get something

    @cached_property
    def identity(self) -> JobIdentity:
        return self.kind.identity(self.claims)

    @cached_property
    def token(self) -> VerifiedToken:
        return example_token(self.issuer, self.kind, self.claims)

    def trusted_by(self, statement: Statement) -> bool:
        """Whether the statement trusts it. Claims that no job of the kind can have are nobody's."""
        try:
            token = self.token
        except Exception:  # noqa: BLE001  made-up claims, of any shape
            return False
        return statement.trusts(token)


def jobs_of(checked: Checked, world: World, issuer: str) -> Iterator[Job]:
    """The jobs of a policy's examples that come from one issuer."""
    issuers = sorted({statement.issuer for statement in checked.policy.statements})
    kind = world.issuers[issuer]
    for example in checked.written.examples:
        if (example.issuer or issuers[0]) != issuer:
            continue
        claims: dict[str, Any] = {}
        if LIKE in example.claims:
            claims |= example_claims(kind, example.claims[LIKE]) or {}
            if issuer in world.issuer_urls:
                claims["iss"] = world.issuer_urls[issuer]
        claims |= {name: value for name, value in example.claims.items() if name != LIKE}
        claims = {name: value for name, value in claims.items() if value is not None}
        yield Job(example.name, claims, kind, issuer, bool(example.expect.allow))


def likely(stated: Stated, world: World, purse: Budget) -> Iterator[Job]:
    """Jobs that the statement's own words describe: each example of the kind, with the values that it writes out."""
    written: dict[str, Any] = {}
    for said in stated.said:
        value = _fitting(said.condition.spec, purse)
        if value is None:
            continue
        names = (said.name,) if said.raw else claims_of(stated.kind, said.name, world)
        written |= {name: str(value).lower() if isinstance(value, bool) and not said.raw else value for name in names}
    for name, claims in stated.kind.examples.items():
        yield Job(name, {**claims, **written}, stated.kind, stated.statement.issuer)


def _fitting(spec: Any, purse: Budget) -> Any:
    """A value that satisfies a condition, where one is plain to see, or soon found."""
    if isinstance(spec, list):
        return next((value for item in spec if (value := _fitting(item, purse)) is not None), None)
    if not isinstance(spec, Mapping):
        return spec
    if "glob" in spec:
        return re.sub(r"[*?]+", "x", spec["glob"])
    if "regex" not in spec:
        return None
    steps = min(MOST_GUESSING, purse.left)
    budget = Budget(steps)
    try:
        return next(region_of(spec).examples((), budget), None)
    except Exhausted:
        return None
    finally:
        purse.left -= steps - budget.left


def foreign(kind: IssuerKind) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The kind's examples of jobs that run other people's code, as (name, what differs from the kind's first example)."""
    names = iter(kind.examples)
    first = kind.examples[next(names)] if kind.examples else {}
    for name in names:
        claims = kind.examples[name]
        if _FOREIGN.search(name) or kind.unsafe_triggers(claims):
            yield name, _difference(first, claims)


def strangers(job: Job, world: World) -> Iterator[tuple[str, Job]]:
    """The same job of somebody else: under the same names registered again, and under names of their own."""
    ids = {claim for field in ("project_id", "owner_id") for claim in claims_of(job.kind, field, world)}
    names = {claim for field in ("project", "owner") for claim in claims_of(job.kind, field, world)} - ids
    again = {claim: _others(job.claims[claim]) for claim in ids if claim in job.claims}
    if any(job.claims[claim] == value for claim, value in again.items()):
        return
    if again:
        yield "whoever registers the names again", replace(job, claims={**job.claims, **again})
    own = {claim: _others(job.claims[claim]) for claim in names if claim in job.claims}
    if again and own:
        yield "a stranger's project", replace(job, claims={**job.claims, **again, **own})


def _others(value: Any) -> Any:
    """Another value of the same form, longer than any that stands beside it in a list. What is no text or number stays."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value * 100 + 77
    if not isinstance(value, str) or not value:
        return value
    return value + ("77" if value[-1].isdigit() else "-evil")


def _difference(before: Claims, after: Claims) -> dict[str, Any]:
    """What has to be laid over `before` to get `after`; None takes a member away."""
    changed: dict[str, Any] = {name: None for name in before if name not in after}
    for name, value in after.items():
        old = before.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            if inner := _difference(old, value):
                changed[name] = inner
        elif name not in before or old != value:
            changed[name] = value
    return changed


def overlaid(claims: Claims, changed: Mapping[str, Any]) -> Claims:
    """`claims` with these changes, objects member by member; what becomes None goes."""
    merged: dict[str, Any] = dict(claims)
    for name, value in changed.items():
        before = merged.get(name)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        merged[name] = overlaid(before, value) if both and before is not None else value
    return {name: value for name, value in merged.items() if value is not None}
