"""The one place that writes a ledger: a group of entries becomes one durable transaction, or nothing.

* Rows, leaves, complete tiles and the signed checkpoint are committed together, so no reader ever sees one without the other.
* A claim is decided by the unique index on `token_key`; a lease's change by the states it expects. The loser is told, the
  rest of the group goes on.
* After any failure of the disk nothing is acknowledged. The connection and the tree in memory are thrown away, and the
  next group starts from what the disk really holds, because a commit that failed may still have happened.
* A ledger whose root or checkpoint signature does not fit is not opened: writing on would sign what was tampered with.

Everything here is synchronous and belongs to one thread at a time.
"""

import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import create_engine, event
from sqlalchemy.pool import NullPool

from broker.errors import ConfigError, LedgerUnwritable
from broker.ledger import lock, migrate, statements
from broker.ledger.checkpoint import (
    BadNote,
    Checkpoint,
    VerifierKey,
    note_origin,
    open_checkpoint,
    sign_checkpoint,
)
from broker.ledger.merkle import root
from broker.ledger.reader import Reader
from broker.ledger.records import AlreadyRedeemed, LeaseChange, LeaseMoved
from broker.ledger.rows import Prepared, Row, change_values, move_values, moves, session_change_values, session_record
from broker.ledger.tiles import WIDTH, Tree, hashes_of
from broker.model import LeaseState

Outcome = Exception | None

_BUSY: Final = 2_000  # milliseconds to wait for a stranger's lock, such as a backup's
_SWEEP: Final = 500  # sessions deleted in one transaction
_PRAGMAS: Final = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # the log is synced at each commit: power loss takes nothing acknowledged
    f"PRAGMA busy_timeout = {_BUSY}",
    "PRAGMA cache_size = -6000",  # 6 MB: the upper pages of every index of some million rows; the kernel caches the rest
    "PRAGMA journal_size_limit = 67108864",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
)
# What one entry can cause by its own values; it must not fail the group.
_ENTRY_FAULTS: Final = (
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    sqlite3.DataError,
    OverflowError,
    ValueError,
    TypeError,
)


class LedgerDamaged(ConfigError):
    """The ledger on disk is not the one that was signed."""


class _ApartError(Exception):
    """The group cannot be written in one go: an entry lost, or is wrong."""


@dataclass(frozen=True, slots=True)
class Head:
    """What readers in memory are given after each commit."""

    tree: Tree
    note: bytes


class Writer:
    """Owns the writing connection. `key` names and verifies what `sign` signs; `known` are older keys of this log."""

    def __init__(
        self, path: Path, *, key: VerifierKey, sign: Callable[[bytes], bytes], known: Sequence[bytes] = ()
    ) -> None:
        self.path = path
        self._key = key
        self._sign = sign
        self._known = (key.public, *known)
        self._lock: int | None = None
        self._connection: sqlite3.Connection | None = None
        self.head = Head(Tree(), b"")

    def open(self) -> None:
        """Lock, migrate, load. Raises ConfigError (in use, damaged, newer schema) and OSError or sqlite3.Error of the disk."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = lock.acquire(self.path)
        try:
            # Sealed handles and claims stand in it: nobody else reads it. SQLite gives its other files the same mode.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._migrate()
            self._connect()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection, which folds the write-ahead log into the database, and let go of the lock."""
        self._abandon()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def commit(self, group: Sequence[Prepared]) -> list[Outcome]:
        """Write a group durably. One outcome an entry: None, AlreadyRedeemed, LeaseMoved, LedgerUnwritable or ValueError."""
        try:
            connection = self._connection or self._connect()
            try:
                return self._together(connection, group)
            except (_ApartError, *_ENTRY_FAULTS):
                connection.execute("ROLLBACK")
                return self._one_by_one(connection, group)
        except Exception as error:  # noqa: BLE001  whatever it was, nothing is acknowledged and nothing is kept
            self._abandon()
            return [_unwritable(error) for _ in group]

    def probe(self) -> None:
        """Write the checkpoint once more, durably. Raises LedgerUnwritable where that does not work."""
        try:
            connection = self._connection or self._connect()
            size, note = self.head.tree.size, self.head.note
            connection.execute("BEGIN IMMEDIATE")
            # SQLite does not write a row that stays as it is, so it is another one first: within one transaction, never seen.
            for shown in (size + 1, size):
                connection.execute(statements.SET_CHECKPOINT, {"to_size": shown, "to_note": note})
            connection.execute("COMMIT")
        except Exception as error:
            self._abandon()
            raise _unwritable(error) from error

    def sweep(self, now_ms: int) -> int:
        """Delete sessions whose `keep_until` has passed; how many. Raises LedgerUnwritable."""
        swept = 0
        try:
            connection = self._connection or self._connect()
            while True:
                count = connection.execute(statements.SWEEP, {"now": now_ms, "most": _SWEEP}).rowcount
                swept += count
                if count < _SWEEP:
                    return swept
        except sqlite3.Error as error:
            self._abandon()
            raise _unwritable(error) from error

    def _together(self, connection: sqlite3.Connection, group: Sequence[Prepared]) -> list[Outcome]:
        """The whole group in few statements. Raises _ApartError where an entry did not get what it wanted."""
        connection.execute("BEGIN IMMEDIATE")
        claims = [one.session for one in group if one.session is not None]
        if _insert(connection, statements.CLAIM, claims) != len(claims):
            raise _ApartError
        _insert(connection, statements.LEASES, [lease for one in group for lease in one.leases])
        self._seldom(connection, group)
        events = [row for one in group for row in one.events]
        head = self._append(connection, self.head, events)
        connection.execute("COMMIT")
        self.head = head
        return [None] * len(group)

    def _seldom(self, connection: sqlite3.Connection, group: Sequence[Prepared]) -> None:
        for one in group:
            self._change(connection, one.entry.changes)
            for ended in one.entry.sessions:
                if connection.execute(statements.CHANGE_SESSION, session_change_values(ended)).rowcount != 1:
                    raise _ApartError
            versions = [(version.sha256, version.name, version.text) for version in one.entry.policies]
            _insert(connection, statements.POLICIES, versions)

    @staticmethod
    def _change(connection: sqlite3.Connection, changes: Sequence[LeaseChange]) -> None:
        """Raises _ApartError where a lease was not in the state it had to be in."""
        if len(changes) > 1 and (move := moves(changes)) is not None:
            if connection.execute(statements.MOVE_LEASES, move_values(changes, *move)).rowcount != len(changes):
                raise _ApartError
            return
        for change in changes:
            if connection.execute(statements.CHANGE_LEASE, change_values(change)).rowcount != 1:
                raise _ApartError

    def _one_by_one(self, connection: sqlite3.Connection, group: Sequence[Prepared]) -> list[Outcome]:
        """Each entry under its own savepoint, in the order they came."""
        connection.execute("BEGIN IMMEDIATE")
        outcomes: list[Outcome] = []
        events: list[Row] = []
        for one in group:
            connection.execute("SAVEPOINT entry")
            try:
                self._alone(connection, one)
                _insert(connection, statements.EVENTS, _numbered(one.events, self.head.tree.size + len(events)))
            except (AlreadyRedeemed, LeaseMoved) as lost:
                connection.execute("ROLLBACK TO entry")
                outcomes.append(lost)
            except _ENTRY_FAULTS as error:
                connection.execute("ROLLBACK TO entry")
                outcomes.append(ValueError(f"the entry does not fit the ledger: {error}"))
            else:
                events += one.events
                outcomes.append(None)
            connection.execute("RELEASE entry")
        head = self._append(connection, self.head, events, written=True)
        connection.execute("COMMIT")
        self.head = head
        return outcomes

    def _alone(self, connection: sqlite3.Connection, one: Prepared) -> None:
        if one.session is not None and _insert(connection, statements.CLAIM, [one.session]) != 1:
            winner = connection.execute(statements.SESSION_OF_TOKEN, {"token_key": one.session[1]}).fetchone()
            raise AlreadyRedeemed(session_record(winner))
        _insert(connection, statements.LEASES, one.leases)
        for change in one.entry.changes:
            if connection.execute(statements.CHANGE_LEASE, change_values(change)).rowcount != 1:
                found = connection.execute(statements.LEASE, {"id": change.lease}).fetchone()
                raise LeaseMoved(change.lease, None if found is None else LeaseState(found[7]))
        for ended in one.entry.sessions:
            if connection.execute(statements.CHANGE_SESSION, session_change_values(ended)).rowcount != 1:
                raise ValueError(f"there is no session {ended.session}")
        versions = [(version.sha256, version.name, version.text) for version in one.entry.policies]
        _insert(connection, statements.POLICIES, versions)

    def _append(
        self, connection: sqlite3.Connection, head: Head, events: Sequence[Row], *, written: bool = False
    ) -> Head:
        """Put the leaves into the tree, and the tree's new head under a signature."""
        if not events:
            return head
        if not written:
            _insert(connection, statements.EVENTS, _numbered(events, head.tree.size))
        tree, complete = head.tree.appended([row[-1] for row in events])
        _insert(connection, statements.TILES, [(tile.level, tile.index, tile.hashes) for tile in complete])
        note = self._signed(tree)
        connection.execute(statements.SET_CHECKPOINT, {"to_size": tree.size, "to_note": note})
        return Head(tree, note)

    def _signed(self, tree: Tree) -> bytes:
        return sign_checkpoint(Checkpoint(self._key.name, tree.size, tree.root()), self._key, self._sign)

    def _migrate(self) -> None:
        engine = create_engine(f"sqlite:///{self.path}", poolclass=NullPool)

        @event.listens_for(engine, "connect")
        def _manual(connection: sqlite3.Connection, _: object) -> None:
            connection.isolation_level = None  # SQLAlchemy begins by itself, below: the driver would leave DDL outside

        @event.listens_for(engine, "begin")
        def _begin(connection: Any) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

        try:
            with engine.begin() as connection:
                migrate.upgrade(connection)
        finally:
            engine.dispose()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, cached_statements=256)
        try:
            for pragma in _PRAGMAS:
                connection.execute(pragma)
            self.head = self._load(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _load(self, connection: sqlite3.Connection) -> Head:
        """The tree's right edge from the disk, checked against the signed checkpoint."""
        reader = Reader(connection)
        stored = reader.checkpoint()
        size = reader.next_seq()
        tree = load_tree(reader, size)
        if stored is None:
            if size:
                raise LedgerDamaged(f"{self.path}: events but no checkpoint; run `jobkey-broker audit verify`")
            note = self._signed(tree)
            connection.execute(statements.FIRST_CHECKPOINT, {"to_size": 0, "to_note": note})
            return Head(tree, note)
        try:
            checkpoint = self._verified(stored[1])
        except BadNote as error:
            raise LedgerDamaged(f"{self.path}: {error}; run `jobkey-broker audit verify`") from None
        if (checkpoint.size, checkpoint.root) != (size, tree.root()) or stored[0] != size:
            raise LedgerDamaged(
                f"{self.path}: the events are not those that were signed (checkpoint of {checkpoint.size}, {size} stored); "
                "run `jobkey-broker audit verify` and restore a copy that passes"
            )
        if checkpoint.origin == self._key.name:
            return Head(tree, stored[1])
        note = self._signed(tree)  # the broker's URL changed: the same tree under its new name
        connection.execute(statements.SET_CHECKPOINT, {"to_size": size, "to_note": note})
        return Head(tree, note)

    def _verified(self, note: bytes) -> Checkpoint:
        """The stored checkpoint, by any of this log's keys and under whatever origin it then had."""
        problem = BadNote("this log has no key")
        for public in self._known:
            try:
                return open_checkpoint(note, VerifierKey(note_origin(note), public))
            except BadNote as error:
                problem = error
        raise problem

    def _abandon(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            with suppress(sqlite3.Error):
                connection.close()


def load_tree(reader: Reader, size: int) -> Tree:
    """The right edge of a tree of `size`: the last leaf hashes, and the roots of complete tiles under no complete tile."""
    partial: list[tuple[bytes, ...]] = []
    level, count = 0, size
    while count:
        first = count // WIDTH * WIDTH
        if level == 0:
            row = tuple(reader.leaf_hashes_from(first))
        else:
            row = tuple(root(hashes_of(hashes)) for _, hashes in reader.tiles_from(level - 1, first))
        if len(row) != count - first:
            raise LedgerDamaged(f"the ledger lacks tiles or leaves at level {level}; run `jobkey-broker audit verify`")
        partial.append(row)
        level, count = level + 1, count // WIDTH
    return Tree.of(size, partial)


def _insert(connection: sqlite3.Connection, into: statements.InsertMany, rows: Sequence[Row]) -> int:
    return sum([connection.execute(text, values).rowcount for text, values in into.parts(rows)])


def _numbered(events: Sequence[Row], first: int) -> list[Row]:
    return [(first + at, *row) for at, row in enumerate(events)]


def _unwritable(error: Exception) -> LedgerUnwritable:
    return LedgerUnwritable(
        "the broker cannot write its ledger now, so it issues nothing; try again shortly",
        reason=f"{type(error).__name__}: {error}",
    )
