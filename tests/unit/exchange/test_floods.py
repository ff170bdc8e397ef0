"""Refusals are limited and strangers are counted, in bounded memory."""

from datetime import UTC, datetime, timedelta

import pytest

from broker.errors import TooManyRefusals
from broker.exchange import floods
from broker.exchange.floods import BURST, MOST_CASES, WINDOW, Floods
from broker.model import JobIdentity, VerifiedToken

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def token(owner: str = "9123456", issuer: str = "github") -> VerifiedToken:
    return VerifiedToken(
        issuer=issuer,
        kind="github",
        claims={"repository_owner_id": owner},
        job=JobIdentity(owner_id=owner),
        unsafe_triggers=(),
        token_key=b"k" * 32,
        issued_at=NOON,
        expires_at=NOON + timedelta(minutes=5),
    )


def exhaust(table: Floods, who: VerifiedToken) -> None:
    for _ in range(int(BURST)):
        table.admit(who, now=NOON)
        table.refused(who, now=NOON)


def test_an_owner_is_limited_after_its_burst_and_told_when_to_come_back() -> None:
    table = Floods()
    exhaust(table, token())
    with pytest.raises(TooManyRefusals) as refused:
        table.admit(token(), now=NOON)
    assert refused.value.retry_after == 1
    table.admit(token(), now=NOON + timedelta(seconds=refused.value.retry_after))


def test_another_owner_and_the_same_owner_of_another_issuer_are_not_touched() -> None:
    table = Floods()
    exhaust(table, token())
    table.admit(token(owner="1"), now=NOON)
    table.admit(token(issuer="ghes"), now=NOON)


def test_strangers_of_one_window_become_one_event_and_each_has_a_case_of_its_own() -> None:
    """A number that came twice would tell a stranger that no policy is near: a near miss never gets the same."""
    table = Floods()
    cases = [table.stranger(token(), ("payments/deploy",), now=NOON)[0] for _ in range(500)]
    assert len(set(cases)) == 500
    assert all(table.window_of(case) is table.window_of(cases[0]) for case in cases)
    assert list(table.close_windows(now=NOON + WINDOW - timedelta(seconds=1))) == []
    (window,) = table.close_windows(now=NOON + WINDOW)
    assert (window.count, [window.case, *window.more]) == (500, cases)
    assert list(table.close_windows(now=NOON + WINDOW)) == []
    assert table.window_of(cases[0]) is None


def test_the_cases_of_a_window_are_bounded() -> None:
    table = Floods()
    cases = [table.stranger(token(), (), now=NOON)[0] for _ in range(MOST_CASES + 100)]
    (window,) = table.close_windows(now=NOON + WINDOW)
    assert (window.count, [window.case, *window.more]) == (MOST_CASES + 100, cases[: MOST_CASES + 1])


def test_a_clock_that_steps_back_does_not_fill_the_bucket() -> None:
    table = Floods()
    exhaust(table, token())
    with pytest.raises(TooManyRefusals):
        table.admit(token(), now=NOON - timedelta(hours=1))


def test_memory_is_bounded_and_no_counted_window_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floods, "MOST_OWNERS", 10)
    table = Floods()
    closed = 0
    for number in range(100):
        table.refused(token(owner=str(number)), now=NOON)
        closed += len(table.stranger(token(owner=str(number)), (), now=NOON)[1])
    assert closed + len(list(table.close_windows(now=NOON, every=True))) == 100
    assert len(table._buckets) == 10
