"""How long credentials were needed, by events: given back, run out, taken away, renewed, or still at work."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from broker.authoring.history import ENOUGH, Past, Uses

START = datetime(2026, 11, 1, tzinfo=UTC)
TTL = 900  # seconds
GRANT = "payments/deploy"
Event = tuple[float, dict[str, Any]]


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def issued(number: int, *, ttl: int = TTL, when: float = 0, grants: tuple[str, ...] = (GRANT,)) -> Event:
    leases = [
        {
            "lease": f"lse_{number}_{place}",
            "grant": grant,
            "minted_at": at(when).isoformat(),
            "expires_at": at(when + ttl).isoformat(),
        }
        for place, grant in enumerate(grants)
    ]
    return when, {"type": "issued", "session": f"ses_{number}", "leases": leases}


def ended(number: int, when: float) -> Event:
    return when, {"type": "session-ended", "session": f"ses_{number}"}


def gone(number: int, when: float, by: str = "job") -> Event:
    return when, {"type": "revoked", "lease": f"lse_{number}_0", "by": by}


def of(*events: Event, now: float = 10_000) -> Past:
    uses = Uses()
    for seconds, body in events:
        uses.take(at(seconds), body)
    return uses.result(at(now))


def usual(seconds: float = 30, count: int = ENOUGH) -> list[Event]:
    """So many jobs that end after so long."""
    return [event for number in range(1000, 1000 + count) for event in (issued(number), ended(number, seconds))]


def longest(*events: Event, now: float = 10_000) -> float | None:
    found = of(*usual(), *events, now=now).longest.get(GRANT)
    return None if found is None else found.total_seconds()


LATER = {"type": "renewed", "lease": "lse_1_0", "expires_at": at(2 * TTL).isoformat()}
BEGUN = {"type": "renewing", "lease": "lse_1_0", "until": at(3 * TTL).isoformat()}
OUT: Event = (TTL, {"type": "expired", "leases": ["lse_1_0"]})
STAYS: Event = (60, {"type": "irrevocable", "lease": "lse_1_0"})


@pytest.mark.parametrize(
    ("events", "seconds"),
    [
        pytest.param([], 30, id="sessions that ended"),
        pytest.param([issued(1), ended(1, 90)], 90, id="one that took longer"),
        pytest.param([issued(1), gone(1, 45)], 45, id="given back"),
        pytest.param([issued(1), gone(1, 45, "bearer")], 45, id="given back by whoever held it"),
        pytest.param([issued(1), gone(1, 45, "person dana")], 45, id="taken away by a person: at least so long"),
        pytest.param([issued(1), ended(1, 40), gone(1, 700)], 40, id="a revocation that took its time"),
        pytest.param([issued(1), OUT], TTL, id="run out"),
        pytest.param([issued(1), STAYS], TTL, id="cannot be taken back"),
        pytest.param([issued(1), ended(1, 50), (60, STAYS[1])], 50, id="cannot be taken back, and its session ended"),
        pytest.param([issued(1)], TTL, id="nobody saw its end"),
        pytest.param([issued(1), (800, LATER), ended(1, 1000)], 1000, id="renewed"),
        pytest.param([issued(1), (800, LATER), (2 * TTL, OUT[1])], 2 * TTL, id="renewed, and run out"),
        pytest.param([issued(1), (800, BEGUN)], 3 * TTL, id="perhaps renewed"),
        pytest.param([issued(1), ended(1, 5000)], TTL, id="never longer than it lives"),
        pytest.param([gone(7, 5), ended(8, 5), (5, {"type": "expired", "leases": ["lse_9_0"]})], 30, id="of before"),
        pytest.param([(5, {"type": "refused", "case": "x"})], 30, id="what is about something else"),
    ],
)
def test_the_longest_that_was_needed(events: list[Event], seconds: float) -> None:
    assert longest(*events) == seconds


def test_few_say_nothing() -> None:
    assert of(*usual(count=ENOUGH - 1)).longest == {}
    assert of(*usual(count=ENOUGH - 1), issued(1), gone(1, 5, "person dana")).longest == {}, "no job ended that one"
    assert of(*usual(count=ENOUGH - 1), issued(1), gone(1, 5)).longest == {GRANT: timedelta(seconds=30)}


def test_what_still_works_may_be_needed_to_its_end_and_is_not_counted() -> None:
    assert of(*usual(), issued(1, when=100), now=110).longest == {GRANT: timedelta(seconds=TTL)}
    assert of(*usual(count=ENOUGH - 1), issued(1, when=100), now=110).longest == {}


def test_each_grant_of_an_issuance_is_its_own() -> None:
    both = (GRANT, "payments/shell")
    events = [
        event
        for number in range(ENOUGH)
        for event in (issued(number, grants=both), gone(number, 10), ended(number, 20))
    ]
    past = of(*events)
    assert past.longest == {GRANT: timedelta(seconds=10), "payments/shell": timedelta(seconds=20)}
    assert (past.credentials, past.grants, past.since) == (2 * ENOUGH, 2, START)


def test_an_empty_ledger() -> None:
    assert of() == Past(longest={}, credentials=0, grants=0, since=None)
