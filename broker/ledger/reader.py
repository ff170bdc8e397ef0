"""Reads of a ledger, on one connection of one thread. Nothing here writes.

* `open_reader` never changes what it opens: a live ledger is opened read-only, a copy that nobody writes as immutable,
  and a copy that still has a write-ahead log is read from a private duplicate.
"""

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from broker import ids
from broker.errors import ConfigError
from broker.ledger import statements
from broker.ledger.lock import is_locked
from broker.ledger.records import EventQuery, LeaseRecord, SessionRecord, StoredEvent
from broker.ledger.rows import instant, lease_record, session_record, stored_event
from broker.ledger.tiles import WIDTH, bundle
from broker.model import LeaseState


class Reader:
    """Typed questions to one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def session(self, session: str) -> SessionRecord | None:
        """The session of this id."""
        row = self._one(statements.SESSION, {"id": session})
        return None if row is None else session_record(row)

    def session_of_token(self, token_key: bytes) -> SessionRecord | None:
        """The session that a subject token became."""
        row = self._one(statements.SESSION_OF_TOKEN, {"token_key": token_key})
        return None if row is None else session_record(row)

    def lease(self, lease: str) -> LeaseRecord | None:
        """The lease of this id."""
        row = self._one(statements.LEASE, {"id": lease})
        return None if row is None else lease_record(row)

    def leases_of(self, session: str) -> list[LeaseRecord]:
        """A session's leases, oldest first."""
        return self._leases(statements.LEASES_OF, {"session": session})

    def in_state(self, *states: LeaseState, limit: int) -> list[LeaseRecord]:
        """Leases in any of these states, oldest first within each."""
        found: list[LeaseRecord] = []
        for state in states:
            found += self._leases(statements.IN_STATE[state], {"most": limit - len(found)})
        return found

    def due(self, now_ms: int, limit: int) -> list[LeaseRecord]:
        """Leases to be revoked again, then active ones past their end."""
        found = self._leases(statements.DUE_REVOKING, {"now": now_ms, "most": limit})
        return found + self._leases(statements.DUE_ACTIVE, {"now": now_ms, "most": limit - len(found)})

    def next_due(self) -> datetime | None:
        """When `due` will next have something."""
        times = [self._one(text, {}) for text in (statements.NEXT_ACTIVE, statements.NEXT_REVOKING)]
        known = [row[0] for row in times if row is not None and row[0] is not None]
        return instant(min(known)) if known else None

    def events(self, query: EventQuery) -> list[StoredEvent]:
        """Events that fit every member of the query."""
        text, parameters = statements.events_matching(query)
        return [stored_event(row) for row in self.connection.execute(text, parameters)]

    def event(self, name: str) -> StoredEvent | None:
        """The event of this id, the refusal of this case, or the oldest event of this issuance, session or lease."""
        prefix = name.partition("_")[0]
        if not ids.is_id(name, prefix):
            return None
        if prefix == "evt":
            row = self._one(statements.EVENT, {"id": name})
            return None if row is None else stored_event(row)
        query = EventQuery(
            issuance=name if prefix == "iss" else None,
            session=name if prefix == "ses" else None,
            lease=name if prefix == "lse" else None,
            case=name if prefix == "case" else None,
            newest_first=False,
            limit=1,
        )
        found = self.events(query)
        return found[0] if found else None

    def policy_text(self, name: str, sha256: str) -> str | None:
        """The text of a policy, or of guardrails.yaml, under its digest (hex)."""
        row = self._one(statements.POLICY_TEXT, {"sha256": sha256, "name": name})
        return None if row is None else str(row[0])

    def checkpoint(self) -> tuple[int, bytes] | None:
        """The size and the signed note that were committed last."""
        row = self._one(statements.CHECKPOINT, {})
        return None if row is None else (row[0], row[1])

    def next_seq(self) -> int:
        """One more than the last event's."""
        row = self._one(statements.NEXT_SEQ, {})
        return 0 if row is None else int(row[0])

    def tile(self, level: int, index: int) -> bytes | None:
        """A complete tile."""
        row = self._one(statements.TILE, {"level": level, "index": index})
        return None if row is None else bytes(row[0])

    def tiles_from(self, level: int, first: int) -> Iterator[tuple[int, bytes]]:
        """Complete tiles of a level, in order."""
        return self.connection.execute(statements.TILES_FROM, {"level": level, "first": first})

    def leaf_hashes_from(self, first: int) -> list[bytes]:
        """The leaf hashes at and after an index."""
        return [row[0] for row in self.connection.execute(statements.LEAF_HASHES_FROM, {"first": first})]

    def entries(self, index: int, width: int) -> bytes | None:
        """An entry bundle; None unless all its entries are there."""
        first = index * WIDTH
        rows = self.connection.execute(statements.LEAVES, {"first": first, "last": first + width}).fetchall()
        return bundle([row[0] for row in rows]) if rows and len(rows) == width else None

    def _one(self, text: str, parameters: Mapping[str, Any]) -> Any:
        return self.connection.execute(text, parameters).fetchone()

    def _leases(self, text: str, parameters: Mapping[str, Any]) -> list[LeaseRecord]:
        return [lease_record(row) for row in self.connection.execute(text, parameters)]


def connect_read_only(path: Path, *, immutable: bool = False) -> sqlite3.Connection:
    """A connection that cannot write. `immutable` also takes no locks and leaves no file beside the database."""
    uri = f"file:{quote(str(path))}?mode=ro{'&immutable=1' if immutable else ''}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA trusted_schema = OFF")  # a hostile copy's schema must not run functions
    connection.execute("PRAGMA cell_size_check = ON")
    return connection


def _text(data: bytes) -> str:
    """Text of a file that may be damaged: what is no UTF-8 is shown, and is not what any event says."""
    return data.decode("utf-8", "replace")


@contextmanager
def open_reader(path: Path) -> Iterator[Reader]:
    """A Reader over one snapshot of a ledger, live or copied. Raises ConfigError where there is none."""
    if not path.is_file():
        raise ConfigError(f"{path}: there is no ledger here; give the broker's data folder or a copy of its ledger.db")
    wal = path.with_name(path.name + "-wal")
    with tempfile.TemporaryDirectory(prefix="jobkey-ledger-") as private:
        if is_locked(path):
            connection = connect_read_only(path)
        elif wal.is_file() and wal.stat().st_size:
            # Reading a write-ahead log makes an index file beside it, and may fold it into the database at the end.
            duplicate = Path(private, path.name)
            shutil.copyfile(path, duplicate)
            shutil.copyfile(wal, duplicate.with_name(wal.name))
            connection = connect_read_only(duplicate)
        else:
            connection = connect_read_only(path, immutable=True)
        connection.text_factory = _text
        try:
            connection.execute("BEGIN")  # one snapshot, however long the reading takes
            yield Reader(connection)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the driver decodes names of columns itself
            raise ConfigError(f"{path}: not a readable ledger: {error}") from error
        finally:
            connection.close()
