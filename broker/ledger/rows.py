"""Records to rows and back, in the order of the tables' columns. Pure.

`Prepared` is an Entry as the writer takes it: every leaf encoded and hashed, every row a tuple. It is made by the caller,
so that a body that cannot be written fails its own request and nobody else's.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, Final

import orjson

from broker.ledger import canonical
from broker.ledger.events import clip, unix_ms
from broker.ledger.merkle import leaf_hash
from broker.ledger.records import Entry, Event, LeaseChange, LeaseRecord, SessionChange, SessionRecord, StoredEvent
from broker.ledger.tiles import LONGEST_ENTRY
from broker.model import LeaseState, rfc3339
from broker.values import value

Row = tuple[Any, ...]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_changed: Final = attrgetter(*[field.name for field in fields(LeaseChange) if field.name != "lease"])


@value(frozen=True, slots=True)
class Prepared:
    """An Entry in rows. `events` rows lack `seq`, which the writer gives."""

    entry: Entry
    session: Row | None
    leases: tuple[Row, ...]
    events: tuple[Row, ...]
    size: int  # bytes of leaves, so that a group's memory is bounded


def prepare(entry: Entry) -> Prepared:
    """Encode an entry. Raises ValueError for an event that no leaf can hold."""
    events = tuple([event_row(event) for event in entry.events])
    return Prepared(
        entry,
        None if entry.claim is None else session_row(entry.claim),
        tuple([lease_row(lease) for lease in entry.leases]),
        events,
        sum([len(row[-2]) for row in events]),
    )


def instant(ms: int) -> datetime:
    """A stored instant."""
    return _EPOCH + timedelta(milliseconds=ms)


def instant_or_none(ms: int | None) -> datetime | None:
    """A stored instant that may be absent."""
    return None if ms is None else instant(ms)


def ms_or_none(when: datetime | None) -> int | None:
    """An instant that may be absent, to be stored."""
    return None if when is None else unix_ms(when)


def event_row(event: Event) -> Row:
    """Every column of `events` but `seq`. What RFC 8785 cannot say in a claim is written as text."""
    body = event.body
    try:
        leaf = canonical.dumps(leaf_of(event, body))
    except (ValueError, RecursionError):
        body = canonical.recordable(body)
        leaf = canonical.dumps(leaf_of(event, body))
    if len(leaf) > LONGEST_ENTRY:
        raise ValueError(f"a {event.type} event of {len(leaf)} bytes does not fit a leaf; the most is {LONGEST_ENTRY}")
    return (event.id, unix_ms(event.time), event.type, *search_columns(body), leaf, leaf_hash(leaf))


def leaf_of(event: Event, body: Mapping[str, Any]) -> dict[str, Any]:
    """The leaf as JSON. The event's own members win over a body's of the same name."""
    return {**body, "id": event.id, "time": rfc3339(event.time), "type": event.type}


def search_columns(body: Mapping[str, Any]) -> Row:
    """What `events` repeats of a body for searching, in the order of schema.EVENT_COLUMNS. A member of another type is no column."""
    job = body.get("job")
    if not isinstance(job, dict | Mapping):  # dict first: asking the abstract class takes ten times as long
        job = {}
    return (
        _text(body.get("issuer")),
        _text(job.get("project")),
        _text(job.get("run_id")),
        _text(body.get("session")),
        _text(body.get("issuance")),
        _text(body.get("lease")),
        _text(body.get("case")),
        _grants(body),
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _grants(body: Mapping[str, Any]) -> str | None:
    leases = body.get("leases")
    if not isinstance(leases, list | Sequence):
        leases = ()
    named: Iterable[Any] = [lease.get("grant") for lease in leases if isinstance(lease, dict | Mapping)]
    asked = body.get("grants")
    if isinstance(asked, Sequence) and not isinstance(asked, str):
        named = [*named, *asked]
    grants = [grant for grant in named if isinstance(grant, str)]
    return "\n" + "\n".join(grants) + "\n" if grants else None


def session_row(session: SessionRecord) -> Row:
    """Every column of `sessions`."""
    return (
        session.id,
        session.token_key,
        session.secret_hash,
        session.nonce_hash,
        session.issuer,
        session.claims,
        unix_ms(session.issued_at),
        unix_ms(session.token_expires_at),
        unix_ms(session.expires_at),
        unix_ms(session.keep_until),
        ms_or_none(session.ended_at),
    )


def session_record(row: Sequence[Any]) -> SessionRecord:
    """A row of `sessions`."""
    return SessionRecord(
        id=row[0],
        token_key=row[1],
        secret_hash=row[2],
        nonce_hash=row[3],
        issuer=row[4],
        claims=row[5],
        issued_at=instant(row[6]),
        token_expires_at=instant(row[7]),
        expires_at=instant(row[8]),
        keep_until=instant(row[9]),
        ended_at=instant_or_none(row[10]),
    )


def lease_row(lease: LeaseRecord) -> Row:
    """Every column of `leases`."""
    return (
        lease.id,
        lease.issuance,
        lease.session,
        lease.grant,
        lease.policy_version,
        lease.backend,
        lease.kind,
        lease.state.value,
        unix_ms(lease.minted_at),
        unix_ms(lease.expires_at),
        int(lease.renewable),
        lease.fingerprint,
        lease.sealed,
        None if lease.reason is None else clip(lease.reason),
        lease.attempts,
        ms_or_none(lease.next_attempt),
    )


def lease_record(row: Sequence[Any]) -> LeaseRecord:
    """A row of `leases`."""
    return LeaseRecord(
        id=row[0],
        issuance=row[1],
        session=row[2],
        grant=row[3],
        policy_version=row[4],
        backend=row[5],
        kind=row[6],
        state=LeaseState(row[7]),
        minted_at=instant(row[8]),
        expires_at=instant(row[9]),
        renewable=bool(row[10]),
        fingerprint=row[11],
        sealed=row[12],
        reason=row[13],
        attempts=row[14],
        next_attempt=instant_or_none(row[15]),
    )


def stored_event(row: Sequence[Any]) -> StoredEvent:
    """A row of (seq, id, time, type, leaf)."""
    return StoredEvent(seq=row[0], id=row[1], time=instant(row[2]), type=row[3], leaf=row[4])


def moves(changes: Sequence[LeaseChange]) -> tuple[LeaseState, frozenset[LeaseState]] | None:
    """The state that all these leases go to and the states they come from, where nothing else changes; None where it does."""
    first = changes[0]
    if first.state is LeaseState.REVOKING:  # keeps its next attempt
        return None
    plain = _changed(LeaseChange(lease="", expected=first.expected, state=first.state))
    return (first.state, first.expected) if all(_changed(one) == plain for one in changes) else None


def move_values(changes: Sequence[LeaseChange], state: LeaseState, expected: frozenset[LeaseState]) -> dict[str, Any]:
    """The parameters of statements.MOVE_LEASES."""
    return {
        "to_leases": orjson.dumps([change.lease for change in changes]).decode(),
        "to_state": state.value,
        **_from(expected),
    }


def change_values(change: LeaseChange) -> dict[str, Any]:
    """The parameters of statements.CHANGE_LEASE."""
    return {
        "to_lease": change.lease,
        "to_state": change.state.value,
        "to_expires_at": ms_or_none(change.expires_at),
        "to_sealed": change.sealed,
        "to_fingerprint": change.fingerprint,
        "to_renewable": None if change.renewable is None else int(change.renewable),
        "to_reason": None if change.reason is None else clip(change.reason),
        "to_attempts": change.attempts,
        "to_next_attempt": ms_or_none(change.next_attempt),
        **_from(change.expected),
    }


def _from(expected: frozenset[LeaseState]) -> dict[str, str | None]:
    states = sorted(state.value for state in expected)
    return {f"from_{at}": states[at] if at < len(states) else None for at in range(len(LeaseState))}


def session_change_values(change: SessionChange) -> dict[str, Any]:
    """The parameters of statements.change_session."""
    return {
        "to_session": change.session,
        "to_secret_hash": change.secret_hash,
        "to_ended_at": ms_or_none(change.ended_at),
    }
