"""The past, judged again: which requests of the ledger would come out otherwise under another set of policies.

* A request gets all its grants or none, as it does from a broker. What jobs sent (params) is not in the ledger, so trust
  and templates are judged, and restrictions on params are not.
* Memory is bounded whatever the ledger holds: counts are exact, examples are the first few. Claim sets that differ only
  in what no statement reads (run, commit, time) are judged once.
* Pure: it takes the bodies of events one by one. Who reads the ledger is broker.cli.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from broker.issuers.seam import IssuerKind
from broker.model import GrantRequest, VerifiedToken
from broker.policy import AllowedGrant, PolicySet, Statement
from broker.policy.decide import judge
from broker.policy.examples import example_token

MOST_SHOWN: Final = 100  # changed requests that are told one by one
MOST_GROUPS: Final = 1_000  # of the same project, grants and change
MOST_JOBS: Final = 100_000  # that are told apart; beyond, only requests are counted
MOST_REMEMBERED: Final = 50_000  # claim sets whose answer is kept
REPLAYED: Final = frozenset({"issued", "refused", "observed", "refused-many"})


class Outcome(StrEnum):
    """What a request comes to."""

    ALLOWED = "allowed"
    OBSERVED = "observed"  # allowed by a policy that mints nothing
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A past request that the new set answers otherwise. Texts are as the ledger has them."""

    event: str  # evt_...
    time: str
    issuer: str
    project: str | None
    run: str | None
    run_url: str | None
    grants: tuple[str, ...]  # those whose answer differs
    before: Outcome
    after: Outcome
    requests: int = 1  # how many the event stands for, where a flood was recorded in one line


@dataclass(slots=True, kw_only=True)
class Group:
    """Changed requests of one project that asked for the same and changed the same way."""

    first: Changed
    requests: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Unused:
    """What of the new set no request of that time used."""

    policies: tuple[str, ...]
    grants: tuple[str, ...]  # of policies that were used
    statements: tuple[tuple[str, int], ...]  # policy and number from 0, of policies that were used


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What a replay found."""

    events: int  # that were judged
    requests: int  # that they stand for
    changed: Mapping[tuple[Outcome, Outcome], int]  # (before, after) -> requests
    jobs: int  # that made the changed requests; MOST_JOBS + 1 means more than that
    groups: tuple[Group, ...]  # the most frequent first
    left_out: int  # changed requests that are in no group, for want of room
    shown: tuple[Changed, ...]  # the first ones
    otherwise: int  # requests that the ledger tells otherwise than the old set: another version decided them
    not_judged: Mapping[str, int]  # why -> events
    unused: Unused


@dataclass(frozen=True, slots=True)
class _Answer:
    """By which statement each of the two versions of a policy trusts a job; None is by none."""

    old: int | None
    new: int | None


_NOBODY: Final = _Answer(None, None)
Read = Callable[[VerifiedToken], Any]


@dataclass(slots=True)
class Replay:
    """Takes events; `result` tells what they came to."""

    old: PolicySet
    new: PolicySet
    kinds: Mapping[str, IssuerKind]
    _events: int = 0
    _requests: int = 0
    _otherwise: int = 0
    _left_out: int = 0
    _changed: Counter[tuple[Outcome, Outcome]] = field(default_factory=Counter)
    _groups: dict[tuple[Any, ...], Group] = field(default_factory=dict)
    _shown: list[Changed] = field(default_factory=list)
    _jobs: set[int] = field(default_factory=set)
    _not_judged: Counter[str] = field(default_factory=Counter)
    _used: set[tuple[str, int]] = field(default_factory=set)  # policy and statement of the new set
    _used_grants: set[str] = field(default_factory=set)
    _reads: dict[tuple[str, str], tuple[Read, ...]] = field(default_factory=dict)
    _answers: dict[tuple[Any, ...], _Answer] = field(default_factory=dict)

    def take(self, body: Mapping[str, Any]) -> None:
        """One event as the ledger has it. Other types than REPLAYED are passed over."""
        kind = body.get("type")
        if kind not in REPLAYED:
            return
        asked = body.get("sample") if kind == "refused-many" else body
        issuer, claims = body.get("issuer"), asked.get("claims") if isinstance(asked, Mapping) else None
        if not isinstance(asked, Mapping) or not isinstance(issuer, str) or not isinstance(claims, Mapping):
            self._not_judged["the event holds no claims"] += 1
            return
        known = self.kinds.get(issuer)
        if known is None:
            self._not_judged[f"no issuer {issuer!r} is configured"] += 1
            return
        try:
            token = example_token(issuer, known, claims)
        except Exception:  # noqa: BLE001  claims of any shape, which another version of the kind could read
            self._not_judged["the issuer's kind does not read these claims any more"] += 1
            return
        self._judge(body, asked, token)

    def _judge(self, body: Mapping[str, Any], asked: Mapping[str, Any], token: VerifiedToken) -> None:
        grants = tuple(_grants(body, asked))
        stands_for = body["count"] if type(body.get("count")) is int else 1
        answers = [self._outcomes(name, token) for name in grants]
        before, after = (_together([pair[side] for pair in answers]) for side in (0, 1))
        self._events += 1
        self._requests += stands_for
        if _differs(body, before):
            self._otherwise += stands_for
        if before is after:
            return
        self._changed[before, after] += stands_for
        job = token.job
        if len(self._jobs) <= MOST_JOBS:
            self._jobs.add(hash((token.issuer, job.project_id or job.project, job.run_id, job.job_id, job.attempt)))
        one = Changed(
            event=str(body.get("id")), time=str(body.get("time")), issuer=token.issuer, project=job.project,
            run=job.run_id, run_url=job.run_url, before=before, after=after, requests=stands_for,
            grants=tuple(name for name, (was, now) in zip(grants, answers, strict=True) if was is not now),
        )  # fmt: skip
        if len(self._shown) < MOST_SHOWN:
            self._shown.append(one)
        key = (one.issuer, one.project, one.grants, before, after)
        if key not in self._groups and len(self._groups) >= MOST_GROUPS:
            self._left_out += stands_for
        else:
            self._groups.setdefault(key, Group(first=one)).requests += stands_for

    def result(self) -> Replayed:
        """What was found so far."""
        return Replayed(
            events=self._events,
            requests=self._requests,
            changed=dict(self._changed),
            jobs=len(self._jobs),
            groups=tuple(sorted(self._groups.values(), key=lambda group: -group.requests)),
            left_out=self._left_out,
            shown=tuple(self._shown),
            otherwise=self._otherwise,
            not_judged=dict(self._not_judged),
            unused=self._unused(),
        )

    def _unused(self) -> Unused:
        used = {policy for policy, _ in self._used}
        return Unused(
            policies=tuple(name for name in self.new.policies if name not in used),
            grants=tuple(
                name
                for name, (policy, _) in sorted(self.new.grants.items())
                if policy.name in used and name not in self._used_grants
            ),
            statements=tuple(
                (policy.name, statement.number)
                for policy in self.new.policies.values()
                if policy.name in used
                for statement in policy.statements
                if (policy.name, statement.number) not in self._used
            ),
        )

    def _outcomes(self, name: str, token: VerifiedToken) -> tuple[Outcome, Outcome]:
        """What the two sets say of one grant."""
        answer = self._trust(name.partition("/")[0], token)
        outcomes = (_outcome(self.old, name, token, answer.old), _outcome(self.new, name, token, answer.new))
        if outcomes[1] is not Outcome.REFUSED and answer.new is not None:
            self._used.add((name.partition("/")[0], answer.new))
            self._used_grants.add(name)
        return outcomes

    def _trust(self, policy: str, token: VerifiedToken) -> _Answer:
        """By which statements, from memory where a job that reads the same was judged before."""
        place = (policy, token.issuer)
        reads = self._reads.get(place)
        if reads is None:
            if policy not in self.old.policies and policy not in self.new.policies:
                return _NOBODY  # and no memory is spent on names that jobs make up
            reads = self._reads[place] = tuple(self._plan(policy, token.issuer))
        # Text of values: 1, 1.0, True and "1" are four different ones, and lists can be looked up too.
        key = (*place, token.unsafe_triggers, repr([read(token) for read in reads]))
        answer = self._answers.get(key)
        if answer is None:
            if len(self._answers) >= MOST_REMEMBERED:
                self._answers.clear()
            answer = self._answers[key] = _Answer(
                _trusting(self.old, policy, token), _trusting(self.new, policy, token)
            )
        return answer

    def _plan(self, policy: str, issuer: str) -> Iterator[Read]:
        """Everything that a statement of either version looks at in a job of this issuer."""
        for statement in self._statements(policy):
            if statement.issuer != issuer:
                continue
            for bound in statement.conditions:
                yield bound.read
            if statement.when is not None:
                claims, job = statement.when.reads
                yield _picked(claims, lambda token: token.claims)
                yield _picked(job, lambda token: token.job.present())

    def _statements(self, policy: str) -> Iterator[Statement]:
        for policies in (self.old, self.new):
            if policy in policies.policies:
                yield from policies.policies[policy].statements


def _picked(names: frozenset[str] | None, whole: Callable[[VerifiedToken], Mapping[str, Any]]) -> Read:
    if names is None:
        return whole
    ordered = sorted(names)

    def read(token: VerifiedToken) -> list[Any]:
        members = whole(token)
        return [members.get(name) for name in ordered]

    return read


def _grants(body: Mapping[str, Any], asked: Mapping[str, Any]) -> Iterator[str]:
    """What was asked for. An `issued` event names it with the leases."""
    leases = body.get("leases")
    if body.get("type") == "issued" and isinstance(leases, Sequence):
        yield from (str(lease["grant"]) for lease in leases if isinstance(lease, Mapping) and "grant" in lease)
    elif isinstance(names := asked.get("grants"), Sequence) and not isinstance(names, str):
        yield from map(str, names)


def _trusting(policies: PolicySet, policy: str, token: VerifiedToken) -> int | None:
    found = policies.policies.get(policy)
    if found is None:
        return None
    return next((statement.number for statement in found.statements if statement.trusts(token)), None)


def _outcome(policies: PolicySet, name: str, token: VerifiedToken, statement: int | None) -> Outcome:
    found = policies.grants.get(name)
    if found is None or statement is None:
        return Outcome.REFUSED
    policy, grant = found
    if grant.fill is not None and not isinstance(
        judge(policy, grant, token, GrantRequest(grant=name), trust_only=True), AllowedGrant
    ):
        return Outcome.REFUSED
    return Outcome.OBSERVED if policy.observed else Outcome.ALLOWED


def _together(outcomes: list[Outcome]) -> Outcome:
    """All grants of a request, or none."""
    if not outcomes or Outcome.REFUSED in outcomes:
        return Outcome.REFUSED
    return Outcome.OBSERVED if Outcome.OBSERVED in outcomes else Outcome.ALLOWED


def _differs(body: Mapping[str, Any], before: Outcome) -> bool:
    """Whether the ledger tells otherwise than the old set. What a job sent, or could not prove, is not the policies' doing."""
    match body["type"]:
        case "issued":
            return before is not Outcome.ALLOWED
        case "observed":
            return before is not Outcome.OBSERVED
        case _:
            return before is not Outcome.REFUSED and body.get("code") not in {"params", "verifier"}
