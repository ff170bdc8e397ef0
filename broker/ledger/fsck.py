"""Prove a ledger's database, live or copied, with the public key alone. Reads only.

On top of what broker.ledger.verify proves of the leaves: the file itself is sound, the schema is ours (no trigger or view
slipped in), each event's columns are its leaf's, and the rows of leases, sessions and policies are what the events say.
"""

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, Final

from sqlalchemy import select

from broker.errors import ConfigError
from broker.ledger import merkle, migrate, schema
from broker.ledger.checkpoint import Checkpoint, VerifierKey
from broker.ledger.events import unix_ms
from broker.ledger.reader import Reader, open_reader
from broker.ledger.replay import Replay
from broker.ledger.rows import search_columns
from broker.ledger.statements import compiled
from broker.ledger.verify import Chain, Report, event_id, open_signed, read_leaf

_EVENTS: Final = compiled(select(schema.events).order_by(schema.events.c.seq))
_LEASES: Final = compiled(select(schema.leases).order_by(schema.leases.c.id))
_SESSIONS: Final = compiled(select(schema.sessions).order_by(schema.sessions.c.id))
_POLICIES: Final = compiled(select(schema.policy_versions).order_by(schema.policy_versions.c.sha256))
_CHECKPOINTS: Final = compiled(select(schema.checkpoint))
_TILES: Final = compiled(select(schema.tiles.c.level, schema.tiles.c["index"]))
_COLUMNS: Final = ("id", "time", "type", *schema.EVENT_COLUMNS)


def verify_database(path: Path, key: VerifierKey, *, since: bytes | None = None, now: datetime | None = None) -> Report:
    """Prove the database at `path` without changing it. `now` decides which sessions may have been swept by today.

    Raises ConfigError where there is nothing to read.
    """
    report = Report()
    try:
        with open_reader(path) as reader:
            _verify(reader, key, since, now or datetime.now(UTC), report)
    except ConfigError as error:
        if isinstance(error.__cause__, sqlite3.DatabaseError | UnicodeDecodeError):
            report.add(f"the database file is damaged: {error.__cause__}")
        else:
            raise
    return report


def _verify(reader: Reader, key: VerifierKey, since: bytes | None, now: datetime, report: Report) -> None:
    for (line,) in reader.connection.execute("PRAGMA integrity_check(20)"):
        if line != "ok":
            report.add(f"the database file is damaged: {line}")
    _schema(reader, report)
    signed = _checkpoint(reader, key, report)
    older = None if since is None else open_signed(since, key, report, "the older checkpoint")
    replay = Replay()
    try:
        _events(reader, signed, older, replay, report)
        _rows(reader, replay, now, report)
    finally:
        replay.close()


def _schema(reader: Reader, report: Report) -> None:
    """Tables and indexes by name and text, as the migrations make them in an empty database."""
    ours = migrate.schema_of_head()
    found = dict(reader.connection.execute("SELECT type || ' ' || name, sql FROM sqlite_schema").fetchall())
    for name in sorted(ours.keys() | found.keys()):
        if ours.get(name, "") != found.get(name, ""):
            what = (
                "is not part of a ledger" if name not in ours else "is missing" if name not in found else "was changed"
            )
            report.add(f"schema: {name} {what}")
    versions = [row[0] for row in reader.connection.execute("SELECT version_num FROM alembic_version")]
    if versions != [migrate.head()]:
        report.add(f"schema: revision {versions}, and this program knows {migrate.head()}")


def _checkpoint(reader: Reader, key: VerifierKey, report: Report) -> Checkpoint | None:
    rows = reader.connection.execute(_CHECKPOINTS).fetchall()
    if len(rows) != 1 or rows[0][0] != 1 or not isinstance(rows[0][2], bytes):
        report.add("there is no one signed checkpoint")
        return None
    signed = open_signed(rows[0][2], key, report, "checkpoint")
    if signed is not None and rows[0][1] != signed.size:
        report.add(f"checkpoint: its row says {rows[0][1]} leaves, its note {signed.size}")
    report.checkpoint = signed
    return signed


def _events(
    reader: Reader, signed: Checkpoint | None, older: Checkpoint | None, replay: Replay, report: Report
) -> None:
    seen: set[tuple[int, int]] = set()

    def stored(level: int, index: int, _width: int) -> bytes | None:
        seen.add((level, index))
        return reader.tile(level, index)

    size = signed.size if signed is not None else reader.next_seq()
    proof = Chain(report, stored, size=size, since=older, partials=False)
    expected = 0
    for row in reader.connection.execute(_EVENTS):
        body = _event(row, expected, report)
        if body is not None:
            try:
                replay.feed(row[0], body)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                report.add(f"a {body['type']} event without what it must say ({error})", row[0], body["id"])
        proof.add(merkle.leaf_hash(row[-2] if isinstance(row[-2], bytes) else b""), event_id(body))
        expected = row[0] + 1 if isinstance(row[0], int) else expected + 1
    proof.finish(signed)
    for level, index in reader.connection.execute(_TILES):
        if (level, index) not in seen:
            report.add(f"tile {level}/{index} belongs to no leaves")


def _event(row: Any, expected: int, report: Report) -> dict[str, Any] | None:
    """One row of `events` against its own leaf."""
    seq, leaf, stored_hash = row[0], row[-2], row[-1]
    if seq != expected:
        report.add(
            f"the leaves from {expected} to {seq - 1} are missing" if seq > expected else "out of order", expected
        )
    if not isinstance(leaf, bytes):
        report.add("the leaf is not bytes", seq)
        return None
    event = row[1] if isinstance(row[1], str) else None
    if merkle.leaf_hash(leaf) != stored_hash:
        report.add("the leaf does not have the hash stored with it", seq, event)
    try:
        body = read_leaf(leaf)
        columns = (body["id"], unix_ms(datetime.fromisoformat(body["time"])), body["type"], *search_columns(body))
    except (ValueError, TypeError) as error:
        report.add(str(error), seq, event)
        return None
    for name, wanted, found in zip(_COLUMNS, columns, row[1:-2], strict=True):
        if type(wanted) is not type(found) or wanted != found:
            report.add(f"the column {name} is not what the leaf says", seq, body["id"])
    return body


def _rows(reader: Reader, replay: Replay, now: datetime, report: Report) -> None:
    unfinished: set[str] = set()

    def leases() -> Iterator[Any]:
        for row in reader.connection.execute(_LEASES):
            if row[7] in ("pending", "revoking"):
                unfinished.add(row[2])
            yield row

    sessions, policies = reader.connection.execute(_SESSIONS), reader.connection.execute(_POLICIES)
    for leaf, what in chain(
        replay.leases(leases()), replay.sessions(sessions, unfinished, now), replay.policies(policies)
    ):
        found = (
            None
            if leaf is None
            else reader.connection.execute("SELECT id FROM events WHERE seq = ?", (leaf,)).fetchone()
        )
        report.add(what, leaf, None if found is None else str(found[0]))
