"""Session secrets: found by id, compared by hash, the same refusal for unknown and for wrong."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from broker import ids
from broker.errors import SessionRejected
from broker.exchange import sessions
from broker.ledger.records import SessionRecord
from broker.model import JobIdentity, Secret, VerifiedToken

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
TOKEN = VerifiedToken(
    issuer="github",
    kind="github",
    claims={},
    job=JobIdentity(),
    unsafe_triggers=(),
    token_key=b"k" * 32,
    issued_at=NOON,
    expires_at=NOON + timedelta(minutes=5),
    longest_job=timedelta(hours=6),
)


def opened() -> tuple[SessionRecord, Secret]:
    session = ids.new("ses")
    secret = sessions.new_secret(session)
    return sessions.open_session(TOKEN, "{}", session=session, secret=secret, nonce=Secret("n" * 22)), secret


def test_a_secret_finds_and_opens_its_session() -> None:
    record, secret = opened()
    assert sessions.looks_like_session(secret)
    assert sessions.session_id(secret) == record.id
    assert sessions.check(record, secret, now=NOON) is record


def test_a_session_lasts_as_long_as_the_longest_job_and_its_row_outlives_both() -> None:
    record, _ = opened()
    assert record.expires_at == NOON + timedelta(hours=6)
    assert record.keep_until > max(record.expires_at, record.token_expires_at)


def test_neither_secret_nor_nonce_stands_in_the_row_or_its_repr() -> None:
    record, secret = opened()
    assert secret.reveal() not in repr(record)
    assert secret.reveal().encode() not in record.secret_hash
    assert repr(record.secret_hash) not in repr(record)


def test_unknown_and_wrong_are_told_alike() -> None:
    record, secret = opened()
    with pytest.raises(SessionRejected) as unknown:
        sessions.check(None, secret, now=NOON)
    with pytest.raises(SessionRejected) as wrong:
        sessions.check(record, sessions.new_secret(record.id), now=NOON)
    assert unknown.value.detail == wrong.value.detail


@pytest.mark.parametrize(
    "changed",
    [pytest.param({"ended_at": NOON}, id="ended"), pytest.param({"expires_at": NOON}, id="expires this instant")],
)
def test_a_dead_session_opens_nothing(changed: dict[str, datetime]) -> None:
    record, secret = opened()
    with pytest.raises(SessionRejected):
        sessions.check(replace(record, **changed), secret, now=NOON)


@pytest.mark.parametrize(
    "text",
    [
        "jks_",
        "jks_01_x",
        "jks_" + "U" * 26 + "_" + "a" * 43,
        "jks_" + "0" * 26 + "_" + "a" * 43 + "\n",
        "ses_" + "0" * 26,
    ],
)
def test_what_is_not_a_secret_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(SessionRejected) as refused:
        sessions.session_id(Secret(text))
    assert text not in refused.value.detail
