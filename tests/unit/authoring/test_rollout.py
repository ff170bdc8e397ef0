"""When a version on trial may take over: counted from events, and only from those since its own text came into force."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from broker.authoring.rollout import Standing, Trial, in_force, rollout
from broker.policy import PolicySet
from tests.unit.policy.world import load, policy_text

START = datetime(2026, 11, 1, tzinfo=UTC)
WEEK = timedelta(days=7)
NEXT = """\
next:
  trust: [{issuer: github, job: {project_id: "512345678", environment: staging}}]
  examples: [{name: production, claims: {$like: github-environment, repository_id: "512345678"}, expect: refuse}]
"""


def on_trial(*, observed: bool = False) -> PolicySet:
    return load(policy_text(top="mode: observe") if observed else policy_text() + NEXT)


def event(kind: str, number: int, days: float, **body: Any) -> tuple[datetime, dict[str, Any]]:
    return START + timedelta(days=days), {"type": kind, "id": f"evt_{number}", **body}


def issued(number: int, days: float, grant: str = "payments/deploy") -> tuple[datetime, dict[str, Any]]:
    return event("issued", number, days, leases=[{"grant": grant}], job={"project": "acme/payments"})


def differs(number: int, days: float, would: str = "refuse", **job: str) -> tuple[datetime, dict[str, Any]]:
    return event(
        "next-differs", number, days, job=job or {"ref": "refs/heads/main"},
        changes=[{"grant": "payments/deploy", "would": would, "why": "job.environment: expected staging, got production"}],
    )  # fmt: skip


def trial(policies: PolicySet, *events: tuple[datetime, dict[str, Any]], version: str | None = None) -> Trial:
    (policy,) = policies.policies.values()
    (told,) = rollout([policy], {"payments": (version or policy.version, START)}, events)
    return told


@pytest.mark.parametrize(
    ("events", "days", "standing"),
    [
        pytest.param([issued(1, 1)], 8, Standing.SAFE, id="a week, asked for, no difference"),
        pytest.param([issued(1, 1)], 6, Standing.WAIT, id="too short"),
        pytest.param([], 8, Standing.WAIT, id="nobody asked"),
        pytest.param([issued(1, 1), differs(2, 1)], 8, Standing.LOOK, id="somebody would be refused"),
        pytest.param([issued(1, 1), differs(2, 1, "allow")], 8, Standing.LOOK, id="somebody would be allowed"),
        pytest.param([issued(1, 1), differs(2, -1)], 8, Standing.SAFE, id="a difference of an older text"),
        pytest.param([issued(1, -1)], 8, Standing.WAIT, id="asked for before the trial"),
        pytest.param([issued(1, 1, "other/deploy")], 8, Standing.WAIT, id="another policy's grant"),
    ],
)
def test_when_a_next_version_may_take_over(
    events: list[tuple[datetime, dict[str, Any]]], days: int, standing: Standing
) -> None:
    assert trial(on_trial(), *events).standing(START + timedelta(days=days), least=WEEK) is standing


def test_an_older_text_in_force_says_nothing_of_this_one() -> None:
    told = trial(on_trial(), issued(1, 1), version="sha256:other")
    assert told.since is None
    assert told.standing(START + timedelta(days=30), least=WEEK) is Standing.WAIT


def test_jobs_that_are_alike_are_one_line_with_the_latest_event() -> None:
    told = trial(on_trial(), *(differs(n, n) for n in (1, 3, 2)), differs(9, 1, ref="refs/heads/other"))
    assert sorted((jobs.count, jobs.event) for jobs in told.kinds.values()) == [(1, "evt_9"), (3, "evt_3")]


@pytest.mark.parametrize(
    ("events", "standing"),
    [
        pytest.param([("observed", True)], Standing.SAFE, id="allowed"),
        pytest.param([("observed", True), ("refused", False)], Standing.LOOK, id="one refused"),
        pytest.param([], Standing.WAIT, id="nobody asked"),
    ],
)
def test_an_observed_policy_is_safe_where_those_who_asked_would_be_allowed(
    events: list[tuple[str, bool]], standing: Standing
) -> None:
    bodies = [
        event(kind, n, 1, grants=["payments/deploy"], allowed=allowed, job={}, reason="payments/deploy: trust[0]\n  job.ref: no")
        for n, (kind, allowed) in enumerate(events)
    ]  # fmt: skip
    told = trial(on_trial(observed=True), *bodies)
    assert told.standing(START + timedelta(days=8), least=WEEK) is standing
    assert told.asked == {"payments/deploy": len(events)}
    assert {kind.why for kind in told.kinds if kind.would == "refuse"} <= {"job.ref: no"}


def test_the_text_in_force_and_since_when() -> None:
    changes = [
        (START, {"policies": {"a": "1", "b": "1"}}),
        (START + WEEK, {"policies": {"a": "2"}, "removed": ["b"]}),
        (START + 2 * WEEK, {"policies": {"a": "2"}}),
        (START + 3 * WEEK, {"policies": {"b": "1"}}),
    ]
    assert in_force(changes) == {"a": ("2", START + WEEK), "b": ("1", START + 3 * WEEK)}
