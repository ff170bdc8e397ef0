"""The ledger's SQL, written in SQLAlchemy Core and compiled once: running text costs a tenth of executing an expression.

Several rows go in one statement (`insert_many`): each statement that a thread runs gives up the interpreter's lock and has
to win it back, so a group of fifty rows wants three statements, not fifty.
"""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Table, bindparam, case, delete, func, insert, literal_column, null, select, update
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql import ClauseElement, Select

from broker.ledger.events import unix_ms
from broker.ledger.records import EventQuery
from broker.ledger.schema import checkpoint, events, leases, policy_versions, sessions, tiles
from broker.model import LeaseState

_DIALECT: Final = sqlite.dialect(paramstyle="named")
_ZERO: Final[Any] = literal_column("0")
_SIZES: Final = (64, 48, 32, 24, 16, 12, 8, 6, 5, 4, 3, 2, 1)  # a row count is written as a sum of these, mostly of two


def compiled(statement: ClauseElement) -> str:
    """The statement's text with `:name` parameters, all of which the caller gives."""
    made = statement.compile(dialect=_DIALECT)
    assert all(value is None for value in made.params.values()), f"a constant became a parameter: {made}"
    return str(made)


class InsertMany:
    """INSERT of many rows in few statements."""

    def __init__(self, table: Table, suffix: str = "") -> None:
        text = compiled(insert(table))
        self.width = len(table.columns)
        head = text[: text.index(" VALUES ")] + " VALUES "
        one = "(" + ", ".join("?" * self.width) + ")"
        self._texts = {size: head + ", ".join([one] * size) + suffix for size in _SIZES}

    def parts(self, rows: Sequence[Sequence[Any]]) -> list[tuple[str, list[Any]]]:
        """Texts and their parameters, which together insert the rows in order."""
        made, at = [], 0
        while at < len(rows):
            size = next(size for size in _SIZES if size <= len(rows) - at)
            made.append((self._texts[size], [value for row in rows[at : at + size] for value in row]))
            at += size
        return made


CLAIM: Final = InsertMany(sessions, " ON CONFLICT (token_key) DO NOTHING")
LEASES: Final = InsertMany(leases)
EVENTS: Final = InsertMany(events)
TILES: Final = InsertMany(tiles)
POLICIES: Final = InsertMany(policy_versions, " ON CONFLICT DO NOTHING")

_to_state: Final[Any] = bindparam("to_state")


def _given(name: str, column: Any) -> Any:
    return func.coalesce(bindparam(f"to_{name}"), column)


CHANGE_LEASE: Final = compiled(
    update(leases)
    .where(
        leases.c.id == bindparam("to_lease"),
        leases.c.state.in_([bindparam(f"from_{at}") for at in range(len(LeaseState))]),
    )
    .values(
        state=_to_state,
        expires_at=_given("expires_at", leases.c.expires_at),
        sealed=_given("sealed", leases.c.sealed),
        fingerprint=_given("fingerprint", leases.c.fingerprint),
        renewable=_given("renewable", leases.c.renewable),
        reason=_given("reason", leases.c.reason),
        attempts=_given("attempts", leases.c.attempts),
        next_attempt=case(
            (
                _to_state == literal_column(f"'{LeaseState.REVOKING.value}'"),
                _given("next_attempt", leases.c.next_attempt),
            ),
            else_=bindparam("to_next_attempt"),
        ),
    )
)

_named: Final = func.json_each(bindparam("to_leases")).table_valued("value")
# Many leases that only change their state, as those that expire do: one statement for a thousand.
MOVE_LEASES: Final = compiled(
    update(leases)
    .where(
        leases.c.id.in_(select(_named.c.value)),
        leases.c.state.in_([bindparam(f"from_{at}") for at in range(len(LeaseState))]),
    )
    .values(state=_to_state, next_attempt=null())
)

CHANGE_SESSION: Final = compiled(
    update(sessions)
    .where(sessions.c.id == bindparam("to_session"))
    .values(secret_hash=_given("secret_hash", sessions.c.secret_hash), ended_at=_given("ended_at", sessions.c.ended_at))
)
SET_CHECKPOINT: Final = compiled(update(checkpoint).values(size=bindparam("to_size"), note=bindparam("to_note")))
FIRST_CHECKPOINT: Final = compiled(
    insert(checkpoint).values(id=literal_column("1"), size=bindparam("to_size"), note=bindparam("to_note"))
)
SWEEP: Final = compiled(
    delete(sessions).where(
        sessions.c.id.in_(
            select(sessions.c.id)
            .where(sessions.c.keep_until < bindparam("now"))
            .limit(bindparam("most"))
            .offset(_ZERO)
            .scalar_subquery()
        )
    )
)

CHECKPOINT: Final = compiled(select(checkpoint.c.size, checkpoint.c.note))
NEXT_SEQ: Final = compiled(select(func.coalesce(func.max(events.c.seq) + literal_column("1"), _ZERO)))
SESSION: Final = compiled(select(sessions).where(sessions.c.id == bindparam("id")))
SESSION_OF_TOKEN: Final = compiled(select(sessions).where(sessions.c.token_key == bindparam("token_key")))
POLICY_TEXT: Final = compiled(
    select(policy_versions.c.text).where(
        policy_versions.c.sha256 == bindparam("sha256"), policy_versions.c.name == bindparam("name")
    )
)
LEASE: Final = compiled(select(leases).where(leases.c.id == bindparam("id")))
LEASES_OF: Final = compiled(select(leases).where(leases.c.session == bindparam("session")).order_by(leases.c.id))
# The states stand in the text, not in a parameter, so that the partial indexes apply.
_ACTIVE: Final = leases.c.state == literal_column("'active'")
# The partial index's own condition has to stand there too, word for word: SQLite does not conclude it, and without it looks
# through every lease there ever was, four times a second.
_UNFINISHED: Final = leases.c.state.in_([literal_column("'pending'"), literal_column("'revoking'")])
_REVOKING: Final = (leases.c.state == literal_column("'revoking'")) & _UNFINISHED
DUE_ACTIVE: Final = compiled(
    select(leases)
    .where(_ACTIVE, leases.c.expires_at <= bindparam("now"))
    .order_by(leases.c.expires_at)
    .limit(bindparam("most"))
    .offset(_ZERO)
)
DUE_REVOKING: Final = compiled(
    select(leases)
    .where(_REVOKING, func.coalesce(leases.c.next_attempt, _ZERO) <= bindparam("now"))
    .order_by(leases.c.next_attempt)
    .limit(bindparam("most"))
    .offset(_ZERO)
)
NEXT_ACTIVE: Final = compiled(select(func.min(leases.c.expires_at)).where(_ACTIVE))
NEXT_REVOKING: Final = compiled(select(func.min(func.coalesce(leases.c.next_attempt, _ZERO))).where(_REVOKING))
IN_STATE: Final = {
    state: compiled(
        select(leases)
        .where(
            leases.c.state == literal_column(f"'{state.value}'"),
            *([_UNFINISHED] if state in {LeaseState.PENDING, LeaseState.REVOKING} else []),
        )
        .order_by(leases.c.id)
        .limit(bindparam("most"))
        .offset(_ZERO)
    )
    for state in LeaseState
}
TILE: Final = compiled(
    select(tiles.c.hashes).where(tiles.c.level == bindparam("level"), tiles.c["index"] == bindparam("index"))
)
TILES_FROM: Final = compiled(
    select(tiles.c["index"], tiles.c.hashes)
    .where(tiles.c.level == bindparam("level"), tiles.c["index"] >= bindparam("first"))
    .order_by(tiles.c["index"])
)
_STORED: Final = (events.c.seq, events.c.id, events.c.time, events.c.type, events.c.leaf)
LEAF_HASHES_FROM: Final = compiled(
    select(events.c.leaf_hash).where(events.c.seq >= bindparam("first")).order_by(events.c.seq)
)
LEAVES: Final = compiled(
    select(events.c.leaf)
    .where(events.c.seq >= bindparam("first"), events.c.seq < bindparam("last"))
    .order_by(events.c.seq)
)
EVENT: Final = compiled(select(*_STORED).where(events.c.id == bindparam("id")))


def events_matching(query: EventQuery) -> tuple[str, dict[str, Any]]:
    """The text and parameters of a search."""
    found: Select[Any] = select(*_STORED)
    for name in ("type", "issuer", "project", "run", "issuance", "session", "lease", "case"):
        if (value := getattr(query, name)) is not None:
            found = found.where(events.c[name] == value)
    if query.grant is not None:
        found = found.where(func.instr(events.c.grants, f"\n{query.grant}\n") > _ZERO)
    if query.with_case:
        found = found.where(events.c.case.is_not(None))
    if query.case_from is not None:
        found = found.where(events.c.case >= query.case_from)
    if query.case_to is not None:
        found = found.where(events.c.case <= query.case_to)
    if query.since is not None:
        found = found.where(events.c.time >= unix_ms(query.since))
    if query.until is not None:
        found = found.where(events.c.time < unix_ms(query.until))
    if query.before is not None:
        found = found.where(events.c.seq < query.before)
    if query.after is not None:
        found = found.where(events.c.seq > query.after)
    found = found.order_by(events.c.seq.desc() if query.newest_first else events.c.seq).limit(query.limit)
    made = found.compile(dialect=_DIALECT)
    return str(made), dict(made.params)
