"""Whether a version on trial may take over: what the ledger says of the jobs it was judged by, beside the version that decides.

* A policy in `mode: observe` was asked for credentials that nobody got; a `next:` version was judged with each request.
* Only what happened since this very text came into force counts: an older trial says nothing of a newer one.
* Events come one by one, oldest or newest first, and none is kept.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from broker.policy.policyset import Policy

Body = Mapping[str, Any]

TYPES: Final = ("issued", "refused", "observed", "next-differs")
_SHOWN_OF_A_JOB: Final = ("project", "ref", "environment", "trigger")


class Standing(StrEnum):
    """May it take over?"""

    SAFE = "safe"  # long enough, every grant was asked for, and nothing would change
    LOOK = "look"  # some jobs would come out otherwise: a person decides whether they should
    WAIT = "wait"  # too short a time, or a grant that nobody asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Jobs that came out in the same way: what a person looks at once, however many there were."""

    grant: str  # policy/grant
    would: str  # allow, refuse
    job: tuple[tuple[str, str], ...]  # what is shown of it: project, ref, environment, trigger
    why: str


@dataclass(slots=True)
class Jobs:
    """How many of one kind, and the latest."""

    count: int = 0
    event: str = ""
    at: datetime | None = None
    run_url: str | None = None


@dataclass(slots=True)
class Trial:
    """One policy's trial. `asked` counts requests a grant, `kinds` those that would come out otherwise."""

    policy: str
    observed: bool  # mode: observe; else a version under `next:`
    since: datetime | None  # when this text came into force; None where the ledger does not know it
    asked: dict[str, int]
    kinds: dict[Kind, Jobs] = field(default_factory=dict)

    @property
    def silent(self) -> tuple[str, ...]:
        """Grants that nobody asked for."""
        return tuple(grant for grant, count in self.asked.items() if not count)

    def standing(self, now: datetime, *, least: timedelta) -> Standing:
        """What to do. An observed policy is safe where the jobs that asked would have been allowed."""
        if any(kind.would == "refuse" or not self.observed for kind in self.kinds):
            return Standing.LOOK
        if self.since is None or now - self.since < least or self.silent:
            return Standing.WAIT
        return Standing.SAFE


def on_trial(policies: Iterable[Policy]) -> list[Policy]:
    """Those that `rollout` can say something about."""
    return [policy for policy in policies if policy.observed or policy.next is not None]


def in_force(changes: Iterable[tuple[datetime, Body]]) -> dict[str, tuple[str, datetime]]:
    """Policy -> (version, since when), from `policy-changed` events, oldest first."""
    known: dict[str, tuple[str, datetime]] = {}
    for at, body in changes:
        for name, version in body["policies"].items():
            if known.get(name, ("",))[0] != version:
                known[name] = version, at
        for name in body.get("removed", ()):
            known.pop(name, None)
    return known


def rollout(
    policies: Iterable[Policy], known: Mapping[str, tuple[str, datetime]], events: Iterable[tuple[datetime, Body]]
) -> list[Trial]:
    """A trial a policy. `events` are (time, body) of TYPES; those before a policy's own text came into force do not count."""
    trials: dict[str, Trial] = {}
    for policy in on_trial(policies):
        version, since = known.get(policy.name, ("", None))
        names = policy.next.grants if policy.next is not None else policy.grants
        trials[policy.name] = Trial(
            policy=policy.name,
            observed=policy.observed,
            since=since if version == policy.version else None,
            asked={f"{policy.name}/{name}": 0 for name in names},
        )
    for at, body in events:
        _count(trials, at, body)
    return list(trials.values())


def _count(trials: Mapping[str, Trial], at: datetime, body: Body) -> None:
    if body["type"] == "next-differs":
        for change in body["changes"]:
            if (trial := _trial(trials, at, change["grant"])) is not None:
                _note(trial, at, body, _kind(body, change["grant"], change["would"], change.get("why", "")))
        return
    grants = [lease["grant"] for lease in body["leases"]] if body["type"] == "issued" else body.get("grants", ())
    for grant in grants:
        trial = _trial(trials, at, grant)
        if trial is None or grant not in trial.asked:
            continue
        trial.asked[grant] += 1
        if trial.observed:
            allowed = body["type"] == "observed" and body.get("allowed", False)
            _note(trial, at, body, _kind(body, grant, *(("allow", "") if allowed else ("refuse", _first(body)))))


def _trial(trials: Mapping[str, Trial], at: datetime, grant: str) -> Trial | None:
    """The trial that an event of this instant counts for."""
    trial = trials.get(grant.partition("/")[0])
    return None if trial is None or trial.since is None or at < trial.since else trial


def _kind(body: Body, grant: str, would: str, why: str) -> Kind:
    job = body.get("job") or {}
    shown = tuple((name, str(job[name])) for name in _SHOWN_OF_A_JOB if name in job)
    return Kind(grant=grant, would=would, job=shown, why=why)


def _note(trial: Trial, at: datetime, body: Body, kind: Kind) -> None:
    jobs = trial.kinds.setdefault(kind, Jobs())
    jobs.count += 1
    if jobs.at is None or at >= jobs.at:
        jobs.at, jobs.event, jobs.run_url = at, body["id"], (body.get("job") or {}).get("run_url")


def _first(body: Body) -> str:
    """Why a request was refused, on one line."""
    near = body.get("near") or ()
    if near:
        return f"{near[0]['key']}: expected {near[0]['expected']}, got {near[0]['got']}"
    lines = str(body.get("reason", "")).splitlines()
    return (lines[1] if len(lines) > 1 else lines[0]).strip() if lines else ""
