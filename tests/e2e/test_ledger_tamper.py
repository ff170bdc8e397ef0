"""Whatever is changed in a copy of the ledger or of the exported log, `verify` finds it with the public key alone.

What is no evidence is listed, not skipped silently: columns that only steer unfinished work are in no event.
"""

import asyncio
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.ledger.checkpoint import VerifierKey
from broker.ledger.export import export_log
from broker.ledger.fsck import verify_database
from broker.ledger.reader import open_reader
from broker.ledger.schema import metadata
from broker.ledger.verify import Report, verify_log
from tests.unit.ledger.story import NOON, everything, issuance, open_ledger, refusal

# Of a lease whose revocation is still to come: only the retry's own bookkeeping.
STEERING = {"reason", "attempts", "next_attempt"}
# Of a lease that was never delivered: what its credential would have been. Its `failed` event names the rest.
UNBORN = {"expires_at", "renewable", "fingerprint", "sealed"}
TABLES = {
    "events": "seq",
    "leases": "id",
    "sessions": "id",
    "checkpoint": "id",
    "policy_versions": "sha256",
    "alembic_version": "version_num",
}


@dataclass(frozen=True)
class Built:
    database: Path
    log: Path
    key: VerifierKey
    note: bytes
    names: dict[str, str]


def build(folder: Path, *, more: int) -> Built:
    async def write() -> tuple[VerifierKey, bytes, dict[str, str]]:
        ledger = await open_ledger(folder)
        names = await everything(ledger)
        note = ledger.checkpoint()
        await asyncio.gather(*(ledger.write(refusal() if n % 3 else issuance()) for n in range(more)))
        await ledger.close()
        return ledger.key, note, names

    key, note, names = asyncio.run(write())
    with open_reader(folder / "ledger.db") as reader:
        export_log(reader, folder / "log")
    return Built(folder / "ledger.db", folder / "log", key, note, names)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("small"), more=1)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("large"), more=560)


def check(database: Path, built: Built, **more: Any) -> Report:
    return verify_database(database, built.key, now=NOON, **more)


def edited(built: Built, folder: Path, *statements: tuple[str, tuple[Any, ...]]) -> Path:
    """A copy of the database with these statements run on it. Raises IntegrityError where SQLite itself refuses one."""
    copy = folder / "copy.db"
    shutil.copyfile(built.database, copy)
    db = sqlite3.connect(copy, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("PRAGMA ignore_check_constraints = ON")
        for text, parameters in statements:
            assert db.execute(text, parameters).rowcount != 0, text
    finally:
        db.close()
    return copy


def altered(value: Any) -> Iterator[Any]:
    """The same value with one byte changed, at each end and in the middle; and a value where there was none."""
    match value:
        case None:
            yield from (0, "x", b"")
        case int():
            yield from (value + 1, value ^ 1 << 12, str(value) + "x", None)
        case str():
            for at in {0, len(value) // 2, len(value) - 1} & set(range(len(value))):
                yield value[:at] + chr(ord(value[at]) ^ 1) + value[at + 1 :]
            yield value + " "
        case bytes():
            for at in {0, len(value) // 2, len(value) - 1} & set(range(len(value))):
                yield value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]
            yield value + b"\0"


def is_steering(table: str, row: dict[str, Any], column: str, built: Built) -> bool:
    if table != "leases":
        return False
    unjudged = {built.names["revoking"]: STEERING, built.names["failed"]: UNBORN, built.names["pending"]: set(row)}
    return column in unjudged.get(row["id"], ())


def rows_of(built: Built, table: str) -> list[dict[str, Any]]:
    db = sqlite3.connect(f"file:{built.database}?mode=ro", uri=True)
    db.row_factory = sqlite3.Row
    rows = [dict(row) for row in db.execute(f'SELECT rowid AS "rowid!", * FROM {table}')]
    db.close()
    return rows


def test_the_untouched_copies_are_proved(small: Built, large: Built) -> None:
    for built in (small, large):
        before = {file.name: file.stat().st_mtime_ns for file in built.database.parent.iterdir()}
        assert check(built.database, built).problems == []
        assert check(built.database, built, since=built.note).problems == []
        assert verify_log(built.log, built.key, since=built.note).problems == []
        assert {file.name: file.stat().st_mtime_ns for file in built.database.parent.iterdir()} == before


@pytest.mark.parametrize("table", TABLES)
def test_every_cell_counts(table: str, small: Built, tmp_path: Path) -> None:
    tried = 0
    for row in rows_of(small, table):
        where = row.pop("rowid!")
        for column, value in row.items():
            if is_steering(table, row, column, small):
                continue
            for other in altered(value):
                try:
                    copy = edited(
                        small, tmp_path, (f'UPDATE {table} SET "{column}" = ? WHERE rowid = ?', (other, where))
                    )
                except sqlite3.IntegrityError:
                    continue  # the database itself refuses this value here
                report = check(copy, small)
                assert not report.ok, (table, row, column, value, other)
                assert len(report.problems) < 10, "one cell is a few problems, not a flood"
                tried += 1
    assert tried >= 4


@pytest.mark.parametrize("table", TABLES)
def test_every_row_counts(table: str, small: Built, tmp_path: Path) -> None:
    for row in rows_of(small, table):
        if table == "leases" and row["id"] == small.names["pending"]:
            continue
        copy = edited(small, tmp_path, (f"DELETE FROM {table} WHERE rowid = ?", (row["rowid!"],)))
        report = check(copy, small)
        assert not report.ok, (table, row)
        if table == "events":
            assert report.first is not None
            assert report.first.leaf is not None or row["seq"] == len(rows_of(small, "events")) - 1


def test_a_tile_that_is_changed_dropped_or_made_up(large: Built, tmp_path: Path) -> None:
    rows = rows_of(large, "tiles")
    assert len(rows) == 2
    for row in rows:
        where = row.pop("rowid!")
        for column, value in row.items():
            for other in altered(value):
                try:
                    copy = edited(large, tmp_path, (f'UPDATE tiles SET "{column}" = ? WHERE rowid = ?', (other, where)))
                except sqlite3.IntegrityError:
                    continue  # the database itself refuses this value here
                assert not check(copy, large).ok, (column, other)
        assert not check(edited(large, tmp_path, ("DELETE FROM tiles WHERE rowid = ?", (where,))), large).ok
    made_up = edited(large, tmp_path, ("INSERT INTO tiles VALUES (3, 0, x'00')", ()))
    assert any("belongs to no leaves" in problem.what for problem in check(made_up, large).problems)


@pytest.mark.parametrize(("one", "other"), [(0, 1), (3, 9), (4, 300), (255, 256), (511, 512), (560, 561)])
def test_events_that_change_places(one: int, other: int, large: Built, tmp_path: Path) -> None:
    swap = "UPDATE events SET seq = ? WHERE seq = ?"
    copy = edited(large, tmp_path, (swap, (-1, one)), (swap, (one, other)), (swap, (other, -1)))
    report = check(copy, large)
    assert not report.ok
    if one < 512:  # a complete tile knows each leaf; at the right edge only the root knows
        assert report.first is not None
        assert report.first.leaf == one


def test_an_editor_who_recomputes_everything_but_the_signature(large: Built, tmp_path: Path) -> None:
    """Leaf, columns and hash all changed to fit each other: the complete tile still names the leaf."""
    from broker.ledger.merkle import leaf_hash

    row = next(row for row in rows_of(large, "events") if row["type"] == "refused" and 100 < row["seq"] < 200)
    leaf = row["leaf"].replace(b"refs/pull/7/merge", b"refs/pull/8/merge")
    copy = edited(
        large,
        tmp_path,
        ("UPDATE events SET leaf = ?, leaf_hash = ? WHERE seq = ?", (leaf, leaf_hash(leaf), row["seq"])),
    )
    report = check(copy, large)
    assert report.first is not None
    assert (report.first.leaf, report.first.event) == (row["seq"], row["id"])
    assert "root" in " ".join(problem.what for problem in report.problems)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("CREATE TRIGGER quiet AFTER INSERT ON events BEGIN DELETE FROM leases; END", "schema: trigger quiet is not part"),
        ("CREATE VIEW v AS SELECT 1", "schema: view v is not part"),
        ("DROP INDEX events_id", "schema: index events_id is missing"),
        ("ALTER TABLE leases ADD COLUMN extra", "schema: table leases was changed"),
        ("INSERT INTO checkpoint VALUES (2, 0, x'00')", "no one signed checkpoint"),
        ("INSERT INTO policy_versions VALUES ('00', 'p', 't')", "does not have the SHA-256"),
    ],
)  # fmt: skip
def test_what_does_not_belong(statement: str, said: str, small: Built, tmp_path: Path) -> None:
    report = check(edited(small, tmp_path, (statement, ())), small)
    assert any(said in problem.what for problem in report.problems), report.problems


@pytest.mark.parametrize(
    ("statement", "who", "said"),
    [
        ("UPDATE leases SET state = 'active', reason = NULL, attempts = 0 WHERE id = ?", "revoked", "the events say revoked"),
        ("UPDATE leases SET state = 'expired' WHERE id = ?", "active", "the events say active"),
        ("UPDATE leases SET state = 'revoked' WHERE id = ?", "revoking", "the events say active"),
        ("UPDATE leases SET state = 'active' WHERE id = ?", "pending", "no event says so"),
        ("UPDATE leases SET expires_at = expires_at + 3600000 WHERE id = ?", "renewed", "expires_at"),
        ("DELETE FROM leases WHERE id = ?", "expired", "its row is missing"),
        ("DELETE FROM sessions WHERE id = ?", "session", "missing before its time"),
        ("UPDATE sessions SET ended_at = NULL WHERE id = ?", "ended session", "ended_at"),
        ("UPDATE sessions SET secret_hash = zeroblob(32) WHERE id = ?", "session", "not the one its event describes"),
    ],
)  # fmt: skip
def test_rows_that_contradict_the_events(statement: str, who: str, said: str, small: Built, tmp_path: Path) -> None:
    report = check(edited(small, tmp_path, (statement, (small.names[who],))), small)
    assert any(said in problem.what and small.names[who] in problem.what for problem in report.problems), (
        report.problems
    )


def test_a_rollback_is_found_by_a_remembered_checkpoint_and_only_by_it(
    small: Built, large: Built, tmp_path: Path
) -> None:
    """An older, genuine copy of the same ledger proves by itself; the newer checkpoint shows what was lost."""
    folder = tmp_path / "ledger"
    folder.mkdir()

    async def write(count: int) -> tuple[VerifierKey, bytes]:
        ledger = await open_ledger(folder)
        for _ in range(count):
            await ledger.write(refusal())
        await ledger.close()
        return ledger.key, ledger.checkpoint()

    key, early = asyncio.run(write(3))
    shutil.copyfile(folder / "ledger.db", tmp_path / "old.db")
    _, later = asyncio.run(write(3))
    assert verify_database(folder / "ledger.db", key, since=early, now=NOON).ok
    assert verify_database(tmp_path / "old.db", key, now=NOON).ok
    report = verify_database(tmp_path / "old.db", key, since=later, now=NOON)
    assert [problem.what for problem in report.problems] == ["the log has 3 leaves, and once had 6: it was rolled back"]

    shutil.copyfile(tmp_path / "old.db", folder / "ledger.db")  # and then another history grows from the old copy
    asyncio.run(write(5))
    report = verify_database(folder / "ledger.db", key, since=later, now=NOON)
    assert [problem.what for problem in report.problems] == [
        "the first 6 leaves are not those of the older checkpoint: history was rewritten"
    ]
    assert not check(small.database, small, since=large.note).ok, "a checkpoint of another log"


def test_another_key_proves_nothing(small: Built) -> None:
    other = VerifierKey(small.key.name, bytes(32))
    assert not verify_database(small.database, other, now=NOON).ok
    assert not verify_log(small.log, other).ok


def _flipped(file: Path, at: int, bit: int) -> bytes:
    data = file.read_bytes()
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def test_every_byte_of_an_exported_log_counts(tmp_path: Path) -> None:
    async def write() -> VerifierKey:
        ledger = await open_ledger(tmp_path)
        for _ in range(2):
            await ledger.write(refusal())
        await ledger.close()
        return ledger.key

    key = asyncio.run(write())
    with open_reader(tmp_path / "ledger.db") as reader:
        export_log(reader, tmp_path / "log")
    files = [file for file in (tmp_path / "log").rglob("*") if file.is_file()]
    assert len(files) == 3
    assert verify_log(tmp_path / "log", key).ok
    for file in files:
        whole = file.read_bytes()
        for at in range(len(whole)):
            file.write_bytes(_flipped(file, at, at % 8))
            assert not verify_log(tmp_path / "log", key).ok, (file, at)
            file.write_bytes(whole)
        for other in (b"", whole[:-1], whole + b"\0", whole * 2):
            file.write_bytes(other)
            assert not verify_log(tmp_path / "log", key).ok, (file, len(other))
        file.unlink()
        assert not verify_log(tmp_path / "log", key).ok
        file.write_bytes(whole)
    (tmp_path / "log" / "tile" / "stranger").write_bytes(b"")
    assert not verify_log(tmp_path / "log", key).ok


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_byte_of_a_large_exported_log_counts(data: st.DataObject, large: Built) -> None:
    file = data.draw(st.sampled_from(sorted(file for file in large.log.rglob("*") if file.is_file())))
    whole = file.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    try:
        file.write_bytes(_flipped(file, at, data.draw(st.integers(0, 7))))
        report = verify_log(large.log, large.key)
    finally:
        file.write_bytes(whole)
    assert not report.ok, (file, at)
    if "entries" in file.parts:
        first = report.first
        assert first is not None
        assert first.leaf is not None


def test_a_mirror_may_keep_older_partial_tiles_but_not_false_ones(large: Built, tmp_path: Path) -> None:
    log = tmp_path / "log"
    shutil.copytree(large.log, log)
    whole = (log / "tile/0/000").read_bytes()
    (log / "tile/0/000.p").mkdir()
    (log / "tile/0/000.p/17").write_bytes(whole[: 17 * 32])
    assert verify_log(log, large.key).ok
    for data in (whole[: 16 * 32], whole[32 : 18 * 32], b"", whole[: 17 * 32 + 1]):
        (log / "tile/0/000.p/17").write_bytes(data)
        assert not verify_log(log, large.key).ok


def _content(path: Path) -> list[Any]:
    """Every row of the tables that the broker reads, asked by name: what the file says of itself may be what was changed."""
    with open_reader(path) as reader:
        return [
            (name, sorted(reader.connection.execute(f"SELECT * FROM {name}").fetchall(), key=repr))
            for name in sorted(metadata.tables)
        ]


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_byte_of_the_database_file_counts_or_says_nothing(
    data: st.DataObject, small: Built, tmp_path: Path
) -> None:
    """A byte that verify does not mind is one that no row is made of: free space, or a counter in the file's header."""
    whole = small.database.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    copy = tmp_path / "flipped.db"
    copy.write_bytes(_flipped(small.database, at, data.draw(st.integers(0, 7))))
    if check(copy, small).ok:
        assert _content(copy) == _content(small.database)
