"""The windows between two commits, held open: sessions that end during a mint, ledgers that fail in it, slow targets.

A real ledger, real keys and the real keeper; the target is a true fake that knows what lives in it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from broker import ids
from broker.backends.seam import Backend, BackendError, Gone, Handle, Minted, NoParams, Order, Record, Strict
from broker.errors import BackendFailed, LedgerUnwritable, SessionRejected
from broker.exchange import sessions
from broker.exchange.floods import Floods
from broker.exchange.leases import LeaseKeeper
from broker.exchange.making import Caller, Decided, Maker
from broker.exchange.requests import CredentialRequest
from broker.keys.files import FileKeyStore
from broker.ledger import events
from broker.ledger.checkpoint import VerifierKey
from broker.ledger.fsck import verify_database
from broker.ledger.records import Entry, EventQuery, SessionChange
from broker.ledger.store import Ledger
from broker.model import GrantRequest, JobIdentity, LeaseState, VerifiedToken
from broker.policy import AllowedGrant

SOON = 5.0


class Target(Backend):
    """Holds what was made. `gate` keeps a mint open after `entered`; `hangs` keeps a revocation; `broken` fails a mint."""

    kind, trace, Settings, Options, revocation = "target", True, Strict, Strict, "dropped"

    def __init__(self, name: str = "target", *_: Any, trace: bool = True) -> None:
        self.name, self.trace = name, trace  # type: ignore[misc]  # a fake of either sort
        self.alive: set[str] = set()
        self.entered, self.gate, self.hangs = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.broken = False
        self.gate.set()
        self.hangs.set()

    def plan(self, order: Order) -> Handle:
        return {"lease": order.lease}

    async def mint(self, order: Order, record: Record) -> Minted:
        if self.broken:
            raise BackendError("the target said no")
        self.entered.set()
        await self.gate.wait()
        self.alive.add(order.lease)
        return Minted(
            type="target", values={}, secrets=(), env={}, expires_at=order.expires_at, fingerprinted=order.lease,
            handle={"lease": order.lease}, renewable=True,
        )  # fmt: skip

    async def revoke(self, handle: Handle) -> Gone:
        await self.hangs.wait()
        self.alive.discard(handle["lease"])
        return Gone()


class Failing(Ledger):
    """A disk that fails for entries that `full` holds for."""

    full: Callable[[Entry], bool] = staticmethod(lambda _: False)

    async def write(self, entry: Entry) -> None:
        if self.full(entry):
            raise LedgerUnwritable("full")
        await super().write(entry)


def verified(now: datetime) -> VerifiedToken:
    return VerifiedToken(
        issuer="ci", kind="github", claims={"sub": "x"}, job=JobIdentity(project="acme/payments"), unsafe_triggers=(),
        token_key=ids.new("tok").encode().ljust(32)[:32], issued_at=now, expires_at=now + timedelta(minutes=5),
    )  # fmt: skip


@dataclass
class Scene:
    ledger: Failing
    keys: FileKeyStore
    keeper: LeaseKeeper
    targets: dict[str, Target]
    maker: Maker
    path: Path
    floods: Floods
    key: VerifierKey = field(init=False)

    def __post_init__(self) -> None:
        self.key = self.ledger.key

    def stranger(self, *, ago: timedelta) -> str:
        """One refusal that is only counted; its case."""
        now = datetime.now(UTC)
        return self.floods.stranger(verified(now), ("payments/one",), now=now - ago)[0]

    async def counted(self) -> dict[str, list[int]]:
        """What the ledger says of strangers: case -> the count of each event."""
        found: dict[str, list[int]] = {}
        for event in await self.ledger.events(EventQuery(type="refused-many")):
            found.setdefault(event.body["case"], []).append(event.body["count"])
        return found

    def decided(self, *backends: str, ttl: float = 60) -> Decided:
        now = datetime.now(UTC)
        token = verified(now)
        session = ids.new("ses")
        secret = sessions.new_secret(session)
        record = sessions.open_session(token, '{"sub":"x"}', session=session, secret=secret, nonce=None)
        granted = [
            AllowedGrant(
                name=f"payments/{name}", policy="payments", policy_version="sha256:" + "0" * 64, statement=0, backend=name,
                kind="target", ttl=timedelta(seconds=ttl), options=NoParams(), params=NoParams(),
            )
            for name in backends
        ]  # fmt: skip
        request = CredentialRequest(bearer=secret, grants=tuple(GrantRequest(grant=one.name) for one in granted))
        return Decided(Caller(token, record, secret), request, granted, "sha256:" + "1" * 64, now)

    async def states(self, session: str) -> list[LeaseState]:
        return [lease.state for lease in await self.ledger.leases_of(session)]

    async def become(self, session: str, *wanted: LeaseState) -> None:
        async with asyncio.timeout(SOON):
            while await self.states(session) != list(wanted):
                await asyncio.sleep(0.01)

    def prove(self) -> None:
        report = verify_database(self.path, self.key)
        assert report.ok, [str(problem) for problem in report.problems]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    keys = FileKeyStore(tmp_path / "keys")
    path = tmp_path / "ledger.db"
    ledger = await Failing.open(f"sqlite:///{path}", keys=keys, origin="broker.example")
    assert isinstance(ledger, Failing)
    targets = {"one": Target("one"), "two": Target("two"), "signer": Target("signer", trace=False)}
    floods = Floods()
    keeper = LeaseKeeper(ledger, targets, keys, floods)
    await keeper.start()
    maker = Maker(backends=targets, ledger=ledger, keys=keys, keeper=keeper)
    yield Scene(ledger, keys, keeper, targets, maker, path, floods)
    await keeper.close()
    await ledger.close()


async def test_a_session_that_ends_during_a_mint_never_has_an_active_lease(scene: Scene) -> None:
    """Whoever ends it moves the pending lease; before the request lets go of it nobody revokes what is not made yet."""
    one, first = scene.targets["one"], scene.decided("signer")
    await scene.maker.make(first)
    session = first.caller.record.id
    decided = replace(scene.decided("one"), caller=replace(first.caller, secret=None))
    one.gate.clear()
    making = asyncio.create_task(scene.maker.make(decided))
    await one.entered.wait()
    at = datetime.now(UTC).replace(microsecond=0)
    also = Entry(
        sessions=(SessionChange(session=session, ended_at=at),),
        events=(events.session_ended(session=session, why="over", at=at),),
    )
    _, ended = await scene.keeper.end(
        await scene.ledger.leases_of(session), why="over", by="job", also=also, now=datetime.now(UTC)
    )
    assert ended.state == LeaseState.REVOKING
    one.gate.set()
    with pytest.raises(SessionRejected):
        await making
    assert (await scene.states(session))[1:] == [LeaseState.REVOKED]
    assert not one.alive
    assert len(await scene.ledger.events(EventQuery(type="issued"))) == 1
    scene.prove()


async def test_a_session_that_ended_before_is_seen_before_anything_is_made(scene: Scene) -> None:
    first = scene.decided("one")
    await scene.maker.make(first)
    caller = replace(first.caller, secret=None, record=replace(first.caller.record, secret_hash=b"o" * 32))
    scene.targets["one"].entered.clear()
    with pytest.raises(SessionRejected):
        await scene.maker.make(replace(first, caller=caller))
    assert not scene.targets["one"].entered.is_set()


@pytest.mark.parametrize("also_the_undo", [False, True], ids=["the record", "the record and the undo"])
async def test_a_running_broker_takes_back_what_its_ledger_could_not_record(scene: Scene, also_the_undo: bool) -> None:
    decided = scene.decided("one", "two")
    session = decided.caller.record.id
    if also_the_undo:
        scene.targets["two"].gate.clear()

    def full(entry: Entry) -> bool:
        return also_the_undo if not entry.events else True

    made = asyncio.create_task(scene.maker.make(decided))
    await scene.targets["one"].entered.wait()
    scene.ledger.full = full  # type: ignore[method-assign]
    scene.targets["two"].gate.set()
    with pytest.raises(LedgerUnwritable):
        await made
    assert scene.targets["one"].alive
    scene.ledger.full = lambda _: False  # type: ignore[method-assign]
    await scene.become(session, LeaseState.REVOKED, LeaseState.REVOKED)
    assert not scene.targets["one"].alive | scene.targets["two"].alive
    scene.prove()


async def test_a_target_that_hangs_delays_no_other_lease(scene: Scene) -> None:
    slow, quick = scene.decided("one"), scene.decided("two", ttl=0.6)
    await scene.maker.make(slow)
    scene.targets["one"].hangs.clear()
    leases = await scene.ledger.leases_of(slow.caller.record.id)
    ending = asyncio.create_task(
        scene.keeper.end(leases, why="x", by="job", now=datetime.now(UTC) - timedelta(hours=1))
    )
    await scene.maker.make(quick)
    await scene.become(quick.caller.record.id, LeaseState.EXPIRED)
    assert await scene.states(slow.caller.record.id) == [LeaseState.REVOKING]
    scene.targets["one"].hangs.set()
    await ending


async def test_a_lease_that_is_renewed_is_not_expired_by_its_old_end(scene: Scene) -> None:
    decided = scene.decided("one", ttl=0.4)
    issued = await scene.maker.make(decided)
    async with scene.keeper.renewing(issued.credentials[0].lease):
        await asyncio.sleep(1)
        assert await scene.states(decided.caller.record.id) == [LeaseState.ACTIVE]
    await scene.become(decided.caller.record.id, LeaseState.EXPIRED)


async def test_renewals_of_one_lease_take_turns(scene: Scene) -> None:
    inside = 0

    async def renew() -> None:
        nonlocal inside
        async with scene.keeper.renewing("lse_x"):
            inside += 1
            await asyncio.sleep(0.01)
            assert inside == 1
            inside -= 1

    await asyncio.gather(*(renew() for _ in range(5)))


async def test_a_failed_signature_of_an_unspent_token_leaves_a_ledger_that_proves(scene: Scene) -> None:
    scene.targets["signer"].broken = True
    decided = scene.decided("signer")
    with pytest.raises(BackendFailed) as failed:
        await scene.maker.make(decided)
    assert await scene.ledger.session(decided.caller.record.id) is None  # the token is still good
    assert failed.value.case is not None
    event = await scene.ledger.event(failed.value.case)
    assert event is not None
    assert event.body["reason"] == "the target said no"
    scene.prove()
    scene.targets["signer"].broken = False
    await scene.maker.make(decided)


async def test_a_revocation_that_could_not_be_recorded_is_recorded_soon(scene: Scene) -> None:
    decided = scene.decided("one")
    await scene.maker.make(decided)
    session = decided.caller.record.id
    scene.ledger.full = lambda entry: any(event.type == "revoked" for event in entry.events)  # type: ignore[method-assign]
    with pytest.raises(LedgerUnwritable):
        await scene.keeper.end(await scene.ledger.leases_of(session), why="x", by="job", now=datetime.now(UTC))
    assert await scene.states(session) == [LeaseState.REVOKING]
    scene.ledger.full = lambda _: False  # type: ignore[method-assign]
    await scene.become(session, LeaseState.REVOKED)  # long before the attempt that the ledger has it down for


async def test_the_keeper_outlives_a_surprise_and_says_whether_it_lives(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    due = scene.ledger.due
    monkeypatch.setattr(scene.ledger, "due", lambda *_: (_ for _ in ()).throw(RuntimeError("surprise")))
    scene.keeper.expect(datetime.now(UTC))
    await asyncio.sleep(0.5)
    assert scene.keeper.alive
    monkeypatch.setattr(scene.ledger, "due", due)
    await scene.keeper.close()
    assert not scene.keeper.alive


async def test_what_falls_due_between_the_keepers_look_and_its_sleep_is_not_slept_past(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided, next_due, issued = scene.decided("signer", ttl=0.1), scene.ledger.next_due, asyncio.Event()

    async def then_one_is_issued() -> datetime | None:
        following = await next_due()
        if not issued.is_set():
            issued.set()
            await scene.maker.make(decided)  # the keeper has looked, and found nothing for as long as it ever sleeps
        return following

    monkeypatch.setattr(scene.ledger, "next_due", then_one_is_issued)
    scene.keeper.expect(datetime.now(UTC))
    async with asyncio.timeout(SOON):
        await issued.wait()
    async with asyncio.timeout(SOON):
        while await scene.states(decided.caller.record.id) != [LeaseState.EXPIRED]:
            await asyncio.sleep(0.01)


async def test_a_wake_up_ends_a_long_sleep_and_a_later_instant_does_not_put_it_off(scene: Scene) -> None:
    await asyncio.sleep(0.4)  # it sleeps for as long as it ever does
    decided = scene.decided("signer", ttl=0.1)
    await scene.maker.make(decided)
    scene.keeper.expect(datetime.now(UTC) + timedelta(hours=1))
    async with asyncio.timeout(SOON):
        while await scene.states(decided.caller.record.id) != [LeaseState.EXPIRED]:
            await asyncio.sleep(0.01)


def counts(entry: Entry) -> bool:
    return any(event.type == "refused-many" for event in entry.events)


async def test_counted_strangers_wait_for_a_ledger_that_is_full(scene: Scene) -> None:
    tried = asyncio.Event()

    def full(entry: Entry) -> bool:
        if counts(entry):
            tried.set()
        return counts(entry)

    scene.ledger.full = full  # type: ignore[method-assign]
    first = scene.stranger(ago=timedelta(minutes=2))
    for _ in range(2):
        tried.clear()
        scene.keeper.expect(datetime.now(UTC))
        async with asyncio.timeout(SOON):
            await tried.wait()
    second = scene.stranger(ago=timedelta(minutes=2))  # the first window is closed: another case
    scene.ledger.full = lambda _: False  # type: ignore[method-assign]
    scene.keeper.expect(datetime.now(UTC))
    async with asyncio.timeout(SOON):
        while not (counted := await scene.counted()):
            await asyncio.sleep(0.01)
    assert counted == {first: [1], second: [1]}
    await scene.keeper.close()
    assert await scene.counted() == counted
    scene.prove()


async def test_counted_strangers_are_recorded_at_shutdown(scene: Scene) -> None:
    """Those whose minute is not over, and those that a full ledger had left."""
    tried = asyncio.Event()

    def full(entry: Entry) -> bool:
        if counts(entry):
            tried.set()
        return counts(entry)

    scene.ledger.full = full  # type: ignore[method-assign]
    left = scene.stranger(ago=timedelta(minutes=2))
    scene.keeper.expect(datetime.now(UTC))
    async with asyncio.timeout(SOON):
        await tried.wait()
    fresh = [scene.stranger(ago=timedelta()) for _ in range(3)]  # a case each; the event goes by the first
    scene.ledger.full = lambda _: False  # type: ignore[method-assign]
    await scene.keeper.close()
    assert await scene.counted() == {left: [1], fresh[0]: [3]}
    scene.prove()


async def test_strangers_are_counted_once_where_the_keeper_stops_while_it_records_them(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = scene.ledger.write, asyncio.Event()

    async def slow(entry: Entry) -> None:
        await write(entry)
        if counts(entry) and not written.is_set():
            written.set()
            await asyncio.Event().wait()  # durable, and the keeper not yet told

    monkeypatch.setattr(scene.ledger, "write", slow)
    case = scene.stranger(ago=timedelta(minutes=2))
    scene.keeper.expect(datetime.now(UTC))
    async with asyncio.timeout(SOON):
        await written.wait()
    await scene.keeper.close()
    assert await scene.counted() == {case: [1]}
