"""The ledger on a real SQLite file: who wins, what is durable, what is told."""

import asyncio
import multiprocessing
import re
import sqlite3
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from broker import ids
from broker.errors import ConfigError, LedgerUnwritable
from broker.keys.files import FileKeyStore
from broker.ledger import checkpoint, events, merkle, statements, tiles
from broker.ledger.fsck import verify_database
from broker.ledger.lock import LedgerInUse
from broker.ledger.records import AlreadyRedeemed, Entry, EventQuery, LeaseMoved, SessionChange
from broker.ledger.store import Ledger
from broker.ledger.writer import LedgerDamaged
from broker.model import LeaseState
from broker.turns import STOPS, TURN
from tests.unit.ledger.story import NOON, ORIGIN, everything, issuance, lease, move, open_ledger, refusal, session

ACTIVE, REVOKING, REVOKED = LeaseState.ACTIVE, LeaseState.REVOKING, LeaseState.REVOKED


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    opened = await open_ledger(tmp_path)
    yield opened
    await opened.close()


def proved(ledger: Ledger, tmp_path: Path) -> bool:
    report = verify_database(tmp_path / "ledger.db", ledger.key, now=NOON)
    assert report.ok, report.problems
    return True


async def test_what_is_written_is_read_back(ledger: Ledger) -> None:
    entry = issuance()
    assert entry.claim
    await ledger.write(entry)
    assert await ledger.session(entry.claim.id) == entry.claim
    assert await ledger.session_of_token(entry.claim.token_key) == entry.claim
    assert await ledger.lease(entry.leases[0].id) == entry.leases[0]
    assert await ledger.leases_of(entry.claim.id) == list(entry.leases)
    (event,) = await ledger.events(EventQuery())
    assert (event.id, event.seq, event.type, event.time) == (entry.events[0].id, 0, "issued", NOON)
    assert event.body["leases"][0]["handle_sha256"]
    assert await ledger.session(ids.new("ses")) is None
    assert await ledger.session_of_token(bytes(32)) is None
    assert await ledger.lease(ids.new("lse")) is None


async def test_200_claims_of_one_token_have_one_winner(ledger: Ledger, tmp_path: Path) -> None:
    key = issuance().claim.token_key  # type: ignore[union-attr]
    entries = [issuance(token_key=key) for _ in range(200)]
    strangers = [issuance() for _ in range(20)]
    results = await asyncio.gather(*(ledger.write(one) for one in [*entries, *strangers]), return_exceptions=True)
    winners = [one for one, result in zip(entries, results, strict=False) if result is None]
    assert len(winners) == 1
    assert all(
        isinstance(one, AlreadyRedeemed) and one.session == winners[0].claim for one in results[:200] if one is not None
    )
    assert results[200:] == [None] * 20
    assert ledger.size == 21
    assert [await ledger.lease(one.leases[0].id) is not None for one in entries] == [
        one is winners[0] for one in entries
    ]
    assert proved(ledger, tmp_path)


async def test_a_later_claim_is_told_the_winner(ledger: Ledger) -> None:
    first = issuance()
    assert first.claim
    await ledger.write(first)
    with pytest.raises(AlreadyRedeemed) as lost:
        await ledger.write(issuance(token_key=first.claim.token_key))
    assert lost.value.session == first.claim


async def test_of_many_changes_of_one_lease_one_happens(ledger: Ledger, tmp_path: Path) -> None:
    entry = issuance()
    await ledger.write(entry)
    one = entry.leases[0]
    change = move(one, REVOKING, ACTIVE, reason="raced", next_attempt=NOON)
    results = await asyncio.gather(
        *(ledger.write(Entry(changes=(change,))) for _ in range(30)), ledger.write(issuance()), return_exceptions=True
    )
    assert results.count(None) == 2
    moved = [result for result in results if isinstance(result, LeaseMoved)]
    assert len(moved) == 29
    assert {(result.lease, result.state) for result in moved} == {(one.id, REVOKING)}
    with pytest.raises(LeaseMoved) as unknown:
        await ledger.write(Entry(changes=(replace(change, lease=ids.new("lse")),)))
    assert unknown.value.state is None
    assert proved(ledger, tmp_path)


async def test_a_lost_entry_leaves_nothing(ledger: Ledger) -> None:
    entry = issuance()
    await ledger.write(entry)
    size, note = ledger.size, ledger.checkpoint()
    other = issuance()
    with pytest.raises(LeaseMoved):
        await ledger.write(replace(other, changes=(move(entry.leases[0], REVOKED, REVOKING),)))
    assert other.claim
    assert await ledger.session(other.claim.id) is None
    assert await ledger.lease(other.leases[0].id) is None
    assert (ledger.size, ledger.checkpoint()) == (size, note)


async def test_none_leaves_a_column_and_next_attempt_belongs_to_revoking(ledger: Ledger) -> None:
    entry = issuance()
    await ledger.write(entry)
    one = entry.leases[0]
    await ledger.write(Entry(changes=(move(one, REVOKING, ACTIVE, reason="why", attempts=1, next_attempt=NOON),)))
    await ledger.write(Entry(changes=(move(one, REVOKING, REVOKING, attempts=2),)))
    assert await ledger.lease(one.id) == replace(one, state=REVOKING, reason="why", attempts=2, next_attempt=NOON)
    await ledger.write(Entry(changes=(move(one, REVOKED, REVOKING),)))
    assert await ledger.lease(one.id) == replace(one, state=REVOKED, reason="why", attempts=2, next_attempt=None)


async def test_sessions_change_and_are_swept_in_their_time(ledger: Ledger) -> None:
    early, late = session(), session(keep_until=NOON + timedelta(days=2))
    await asyncio.gather(ledger.write(Entry(claim=early)), ledger.write(Entry(claim=late)))
    await ledger.write(Entry(sessions=(SessionChange(session=late.id, secret_hash=b"n" * 32),)))
    await ledger.write(Entry(sessions=(SessionChange(session=late.id, ended_at=NOON),)))
    assert await ledger.session(late.id) == replace(late, secret_hash=b"n" * 32, ended_at=NOON)
    assert await ledger.sweep(early.keep_until) == 0
    assert await ledger.sweep(early.keep_until + timedelta(milliseconds=1)) == 1
    assert await ledger.session(early.id) is None
    assert await ledger.session(late.id) is not None
    with pytest.raises(ValueError, match="no session"):
        await ledger.write(Entry(sessions=(SessionChange(session=early.id, ended_at=NOON),)))


async def test_due_work_comes_revocations_first(ledger: Ledger) -> None:
    assert await ledger.next_due() is None
    entries = [issuance(NOON + timedelta(minutes=n)) for n in range(4)]
    for entry in entries:
        await ledger.write(entry)
    leases = [entry.leases[0] for entry in entries]
    assert await ledger.next_due() == leases[0].expires_at
    await ledger.write(Entry(changes=(move(leases[3], REVOKING, ACTIVE, next_attempt=NOON),)))
    assert await ledger.next_due() == NOON
    assert [one.id for one in await ledger.due(leases[1].expires_at, 10)] == [leases[3].id, leases[0].id, leases[1].id]
    assert [one.id for one in await ledger.due(leases[1].expires_at, 2)] == [leases[3].id, leases[0].id]
    assert await ledger.due(NOON - timedelta(seconds=1), 10) == []
    active = sorted(one.id for one in leases[:3])  # ids of one millisecond are in no order of their own
    assert [one.id for one in await ledger.in_state(REVOKING, ACTIVE)] == [leases[3].id, *active]
    assert [one.id for one in await ledger.in_state(REVOKING, ACTIVE, limit=2)] == [leases[3].id, active[0]]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (EventQuery(), 3), (EventQuery(type="issued"), 2), (EventQuery(project="acme/payments"), 3), (EventQuery(project="acme"), 0),
        (EventQuery(run="42", type="refused"), 1), (EventQuery(grant="payments/deploy"), 3), (EventQuery(grant="payments/dep"), 0),
        (EventQuery(issuer="github"), 3), (EventQuery(since=NOON), 3), (EventQuery(until=NOON), 0), (EventQuery(limit=1), 1),
        (EventQuery(since=NOON + timedelta(seconds=1)), 1), (EventQuery(after=0), 2), (EventQuery(before=1), 1),
    ],
)  # fmt: skip
async def test_events_are_found(ledger: Ledger, query: EventQuery, found: int) -> None:
    for entry in (issuance(), refusal(), issuance(NOON + timedelta(seconds=2))):
        await ledger.write(entry)
    result = await ledger.events(query)
    assert len(result) == found
    assert [one.seq for one in result] == sorted((one.seq for one in result), reverse=True)
    assert [one.seq for one in await ledger.events(replace(query, newest_first=False))] == sorted(
        one.seq for one in await ledger.events(replace(query, newest_first=False))
    )


async def test_one_event_by_any_of_its_names(ledger: Ledger) -> None:
    names = await everything(ledger)
    for name, kind in (("case", "refused"), ("issuance", "issued"), ("revoked", "revoked"), ("session", "issued")):
        found = await ledger.event(names[name])
        assert found is not None
        assert found.type == kind
        assert await ledger.event(found.id) == found
    for name in ("", "case_", "evt_01", ids.new("case"), "lse_' OR 1=1 --"):
        assert await ledger.event(name) is None


async def test_the_log_is_served_as_its_checkpoint_says(ledger: Ledger) -> None:
    await asyncio.gather(*(ledger.write(refusal()) for _ in range(600)))
    signed = checkpoint.open_checkpoint(ledger.checkpoint(), ledger.key)
    assert signed.size == ledger.size == 600
    hashes: list[bytes] = []
    for index, width in ((0, 256), (1, 256), (2, 88)):
        tile, bundle = await ledger.tile(0, index, width), await ledger.entries(index, width)
        assert tile is not None
        assert bundle is not None
        assert [merkle.leaf_hash(leaf) for leaf in tiles.unbundle(bundle)] == tiles.hashes_of(tile)
        hashes += tiles.hashes_of(tile)
    assert merkle.root(hashes) == signed.root
    assert await ledger.tile(1, 0, 2) == merkle.root(hashes[:256]) + merkle.root(hashes[256:512])
    whole = await ledger.tile(0, 1)
    assert whole is not None
    assert await ledger.tile(0, 1, 17) == whole[: 17 * 32]  # a partial tile that has become complete
    for level, index, width in (
        (0, 2, 89),
        (0, 2, 256),
        (0, 3, 1),
        (1, 0, 3),
        (1, 1, 1),
        (2, 0, 1),
        (0, 0, 0),
        (0, 0, 257),
        (0, -1, 1),
    ):
        assert await ledger.tile(level, index, width) is None
    for index, width in ((2, 89), (3, 1), (0, 0), (-1, 256)):
        assert await ledger.entries(index, width) is None


async def test_the_tree_goes_on_after_a_restart(tmp_path: Path) -> None:
    sizes = [0, 1, 255, 256, 257, 513]
    for size in sizes:
        ledger = await open_ledger(tmp_path)
        await asyncio.gather(*(ledger.write(refusal()) for _ in range(size - ledger.size)))
        await ledger.close()
        again = await open_ledger(tmp_path)
        assert again.size == size
        assert again.checkpoint() == ledger.checkpoint()
        assert proved(again, tmp_path)
        await again.close()


async def test_one_writer_a_ledger(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(LedgerInUse, match=r"another broker \(process \d+\)"):
        await open_ledger(tmp_path)
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        said = await asyncio.to_thread(pool.apply, _try_to_open, (str(tmp_path),))
    assert "another broker" in said
    await ledger.write(issuance())


def _try_to_open(folder: str) -> str:
    async def run() -> str:
        try:
            await open_ledger(Path(folder))
        except ConfigError as error:
            return str(error)
        return "opened"

    return asyncio.run(run())


async def test_a_locked_or_broken_disk_acknowledges_nothing_and_is_recovered_from(
    ledger: Ledger, tmp_path: Path
) -> None:
    await ledger.write(issuance())
    stranger = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    stranger.execute("BEGIN IMMEDIATE")
    entry = issuance()
    with pytest.raises(LedgerUnwritable) as refused:
        await ledger.write(entry)
    assert "locked" in refused.value.reason
    assert "locked" not in refused.value.detail
    with pytest.raises(LedgerUnwritable):
        await ledger.ready()
    stranger.execute("ROLLBACK")
    stranger.close()
    assert ledger.size == 1
    await ledger.ready()
    await ledger.write(entry)
    assert ledger.size == 2
    assert proved(ledger, tmp_path)


async def test_an_entry_that_no_ledger_can_hold_fails_alone(ledger: Ledger, tmp_path: Path) -> None:
    big = events.make("odd", {"text": "x" * 70_000}, now=NOON)
    surrogate = replace(issuance(), claim=session(claims="\ud800"))
    first = issuance()
    twice = Entry(leases=first.leases)
    huge = Entry(leases=(lease(session(), attempts=2**70),))
    results = await asyncio.gather(
        *(ledger.write(one) for one in (first, Entry(events=(big,)), surrogate, twice, huge, issuance())),
        return_exceptions=True,
    )
    assert [type(one) for one in results] == [type(None), ValueError, ValueError, ValueError, ValueError, type(None)]
    assert ledger.size == 2
    assert proved(ledger, tmp_path)


@pytest.mark.parametrize(
    "claim", [2**60, -(2**53), 1e20, 1e16, 0.1, float("inf"), "\ud800", {"a": [2**80, None]}, {"\udc00": 1}]
)
async def test_no_claim_can_stop_its_own_record(ledger: Ledger, tmp_path: Path, claim: object) -> None:
    await ledger.write(
        Entry(events=(events.make("refused", {"claims": {"odd": claim}, "job": {"project": claim}}, now=NOON),))
    )
    assert proved(ledger, tmp_path)


async def test_a_request_that_goes_away_does_not_take_its_entry_with_it(ledger: Ledger) -> None:
    entry = issuance()
    task = asyncio.create_task(ledger.write(entry))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await ledger.write(issuance())
    assert await ledger.lease(entry.leases[0].id) == entry.leases[0]


async def test_close_writes_what_waits_and_then_refuses(tmp_path: Path) -> None:
    ledger = await open_ledger(tmp_path)
    waiting = [asyncio.create_task(ledger.write(issuance())) for _ in range(20)]
    await asyncio.sleep(0)
    await ledger.close()
    await ledger.close()
    assert await asyncio.gather(*waiting) == [None] * 20
    with pytest.raises(LedgerUnwritable):
        await ledger.write(issuance())
    with pytest.raises(LedgerUnwritable):
        await ledger.sweep(NOON)


@pytest.mark.parametrize(
    "text",
    [
        statements.DUE_ACTIVE, statements.DUE_REVOKING, statements.NEXT_ACTIVE, statements.NEXT_REVOKING, statements.SWEEP,
        statements.IN_STATE[LeaseState.PENDING], statements.IN_STATE[LeaseState.REVOKING], statements.MOVE_LEASES,
        statements.SESSION, statements.SESSION_OF_TOKEN, statements.LEASE, statements.LEASES_OF, statements.EVENT,
    ],
)  # fmt: skip
async def test_what_is_asked_all_the_time_never_scans_a_table(ledger: Ledger, tmp_path: Path, text: str) -> None:
    """Four times a second, or for each request: it must not cost more as the ledger grows."""
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        asked = dict.fromkeys(re.findall(r":(\w+)", text), "[]")
        plan = [row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + text, asked)]
    connection.close()
    assert not [step for step in plan if step.startswith("SCAN") and "VIRTUAL" not in step], plan


async def test_many_leases_move_together_or_not_at_all(ledger: Ledger, tmp_path: Path) -> None:
    of = session()
    rows = [lease(of, renewable=False) for _ in range(1_200)]
    held = [replace(one, state=LeaseState.REVOKING, next_attempt=NOON, reason="held") for one in rows[:2]]
    await ledger.write(
        Entry(claim=of, leases=(*held, *rows[2:]), events=(events.session_renewed(session=of, why="made", now=NOON),))
    )

    changes = tuple(move(one, LeaseState.EXPIRED, LeaseState.ACTIVE) for one in rows)
    with pytest.raises(LeaseMoved) as lost:  # two of them are being revoked
        await ledger.write(Entry(changes=changes, events=events.expired(leases=[one.id for one in rows], now=NOON)))
    assert lost.value.state is LeaseState.REVOKING
    assert {one.state for one in await ledger.leases_of(of.id)} == {LeaseState.ACTIVE, LeaseState.REVOKING}

    await ledger.write(Entry(changes=changes[2:], events=events.expired(leases=[one.id for one in rows[2:]], now=NOON)))
    now = {one.id: one for one in await ledger.leases_of(of.id)}
    assert [now[one.id] for one in rows[2:]] == [replace(one, state=LeaseState.EXPIRED) for one in rows[2:]]
    assert [now[one.id] for one in held] == held
    both = tuple(move(one, LeaseState.REVOKED, LeaseState.REVOKING) for one in held)
    await ledger.write(Entry(changes=both))
    ended = [await ledger.lease(one.id) for one in held]
    assert ended == [replace(one, state=LeaseState.REVOKED, next_attempt=None) for one in held]
    again = Entry(changes=(changes[2], changes[2]))
    with pytest.raises(LeaseMoved):
        await ledger.write(again)


async def test_a_group_is_one_commit(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    groups: list[int] = []
    commit = ledger._writer.commit
    monkeypatch.setattr(ledger._writer, "commit", lambda group: groups.append(len(group)) or commit(group))
    await asyncio.gather(*(ledger.write(issuance()) for _ in range(40)))
    assert groups == [40]


async def test_requests_that_are_still_on_their_way_share_the_commit(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[int] = []
    commit = ledger._writer.commit
    monkeypatch.setattr(ledger._writer, "commit", lambda group: groups.append(len(group)) or commit(group))

    async def arrives_after(turns: int) -> None:
        for _ in range(turns):
            await TURN
        await ledger.write(issuance())

    await asyncio.gather(*(arrives_after(turns) for turns in (0, 0, 3, STOPS, 2 * STOPS)))
    assert groups == [5]
    groups.clear()
    await asyncio.gather(
        *(arrives_after(turns) for turns in range(200))
    )  # a stream that never pauses is no reason to wait
    assert groups[0] in range(60, 70)
    assert sum(groups) == 200


async def test_the_files_are_private(ledger: Ledger, tmp_path: Path) -> None:
    await ledger.write(issuance())
    for name in ("ledger.db", "ledger.db-wal", "ledger.db.lock"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM events WHERE seq = 2",
        "UPDATE events SET leaf_hash = zeroblob(32) WHERE seq = 1",
        "UPDATE checkpoint SET note = CAST(replace(note, x'0a330a', x'0a320a') AS BLOB)",
        "UPDATE checkpoint SET note = x'00'",
        "DELETE FROM checkpoint",
        "INSERT INTO events SELECT seq + 1, 'evt_x', time, type, issuer, project, run, session, issuance, lease, \"case\", grants, leaf, leaf_hash FROM events WHERE seq = 2",
    ],
)  # fmt: skip
async def test_a_damaged_ledger_is_not_signed_again(tmp_path: Path, damage: str) -> None:
    ledger = await open_ledger(tmp_path)
    for _ in range(3):
        await ledger.write(refusal())
    await ledger.close()
    with sqlite3.connect(tmp_path / "ledger.db") as db:
        db.execute(damage)
    db.close()
    with pytest.raises(LedgerDamaged, match="audit verify"):
        await open_ledger(tmp_path)


async def test_a_new_url_signs_the_same_tree_under_its_new_name(tmp_path: Path) -> None:
    ledger = await open_ledger(tmp_path)
    await ledger.write(refusal())
    await ledger.close()
    keys = FileKeyStore(tmp_path / "keys")
    moved = await Ledger.open(f"sqlite:///{tmp_path}/ledger.db", keys=keys, origin="new.example")
    assert checkpoint.open_checkpoint(moved.checkpoint(), moved.key).origin == "new.example"
    assert moved.size == 1
    await moved.close()
    with pytest.raises(LedgerDamaged, match="not signed by"):
        await Ledger.open(str(tmp_path / "ledger.db"), keys=FileKeyStore(tmp_path / "other"), origin=ORIGIN)


async def test_a_ledger_of_a_newer_broker_is_refused(tmp_path: Path) -> None:
    await (await open_ledger(tmp_path)).close()
    with sqlite3.connect(tmp_path / "ledger.db") as db:
        db.execute("UPDATE alembic_version SET version_num = '9999'")
    db.close()
    with pytest.raises(ConfigError, match="newer"):
        await open_ledger(tmp_path)


async def test_another_kind_of_database_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="postgresql is not supported"):
        await Ledger.open("postgresql://db/jobkey", keys=FileKeyStore(tmp_path / "keys"), origin=ORIGIN)
