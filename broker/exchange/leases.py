"""The end of leases: expiry, revocation, recovery. Every lease ends in a recorded outcome.

* A lease somebody wants gone is `revoking` in the ledger before the target system is asked, so a crash cannot forget it.
* A pending lease belongs to the request that makes it, which holds it here. Another may say that it has to go; the
  request then cannot activate it, and takes it back itself: revoking what is still being made would find nothing yet.
* A pending lease that nobody holds is undone: after a crash, and in a running broker whose ledger failed in between.
* A lease that is being renewed is not expired by an end that was read before.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from weakref import WeakValueDictionary

import structlog

from broker.backends.seam import Backend
from broker.errors import LedgerUnwritable
from broker.exchange.floods import MOST_OWNERS, Floods, Strangers, owner_of
from broker.exchange.requests import Ended
from broker.exchange.revoking import SLOWEST, Revoker
from broker.keys import KeyStore
from broker.ledger import events
from broker.ledger.records import Entry, Event, LeaseChange, LeaseMoved, LeaseRecord
from broker.ledger.store import Ledger
from broker.metrics import ENDED as ENDED_COUNT
from broker.model import LeaseState

log: Final = structlog.get_logger("jobkey.leases")

BATCH: Final = 500
IDLE: Final = 30.0  # seconds between looks when nothing is due
BEAT: Final = 0.25  # seconds at least: what falls due meanwhile is one commit, well within a second of the promise
SWEEP: Final = timedelta(minutes=1)
TRIES: Final = 5
OPEN: Final = frozenset({LeaseState.PENDING, LeaseState.ACTIVE})
ACTIVE: Final = frozenset({LeaseState.ACTIVE})
UNMADE: Final = frozenset({LeaseState.PENDING, LeaseState.REVOKING})
NEVER: Final = datetime.max.replace(tzinfo=UTC)


class LeaseKeeper:
    """One background task per broker, and the calls by which jobs end their own leases."""

    def __init__(self, ledger: Ledger, backends: Mapping[str, Backend], keys: KeyStore, floods: Floods) -> None:
        self._ledger, self._floods = ledger, floods
        self._revoker = Revoker(ledger, backends, keys, self.expect)
        self.seal, self.unseal = self._revoker.seal, self._revoker.unseal
        self._held: set[str] = set()  # leases that a living request is making
        self._stranded = False  # a request let go of leases that may still be pending
        self._owed: dict[str, str] = {}  # lease -> why it has to end, where that could not be written down
        self._renewals: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._renewing: set[str] = set()
        self._renewed: set[str] = set()  # since the keeper last asked what is due
        self._wake = asyncio.Event()
        self._next = NEVER  # the first instant that somebody expects something at
        self._windows: list[Strangers] = []  # closed, not yet recorded
        self._swept = datetime.min.replace(tzinfo=UTC)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Undo what a crash left pending, then run. Gives the number of leases recovered. Raises LedgerUnwritable."""
        recovered = await self._recover("the broker stopped before this was delivered")
        # A revocation that the last broker did not finish is not made to wait for its next attempt.
        for lease in await self._ledger.in_state(LeaseState.REVOKING, limit=20 * BATCH):
            self._revoker.start(lease)
        self._task = asyncio.create_task(self._run(), name="lease-keeper")
        return recovered

    async def close(self) -> None:
        """Stop. What is unfinished is in the ledger and goes on at the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._revoker.close()
        try:
            await self._flush_strangers(datetime.now(UTC), every=True)
        except LedgerUnwritable:
            log.warning("strangers-not-recorded")

    @property
    def alive(self) -> bool:
        """Whether the background task runs."""
        return self._task is not None and not self._task.done()

    def expect(self, instant: datetime) -> None:
        """Something falls due at this instant; wakes the task only where it would sleep past it."""
        if instant < self._next:
            self._next = instant
            self._wake.set()

    @contextlib.contextmanager
    def hold(self, leases: Sequence[str]) -> Iterator[None]:
        """While a request makes these. What it leaves pending by an exception is undone by the keeper."""
        self._held.update(leases)
        try:
            yield
        except BaseException:
            if leases:
                self._stranded = True
                self.expect(datetime.now(UTC))
            raise
        finally:
            self._held.difference_update(leases)

    def owe(self, leases: Sequence[str], *, why: str) -> None:
        """These have to end, and the ledger did not take it: it is tried until it does."""
        self._owed.update(dict.fromkeys(leases, why))
        self.expect(datetime.now(UTC))

    @contextlib.asynccontextmanager
    async def renewing(self, lease: str) -> AsyncIterator[None]:
        """One renewal of a lease at a time, and no expiry meanwhile. Read the lease inside."""
        lock = self._renewals.get(lease) or asyncio.Lock()
        self._renewals[lease] = lock
        async with lock:
            self._renewing.add(lease)
            self._renewed.add(lease)
            try:
                yield
            finally:
                self._renewing.discard(lease)

    async def end(
        self, leases: Sequence[LeaseRecord], *, why: str, by: str, also: Entry | None = None, now: datetime
    ) -> list[Ended]:
        """End these now: durable intent first (with `also` in the same transaction), then each backend.

        A lease that ended meanwhile is reported as it is. Raises LedgerUnwritable.
        """
        for _ in range(TRIES):
            live = [lease for lease in leases if lease.state in OPEN]
            settled = {lease.id: one for lease in live if (one := await self._revoker.at_once(lease, why=why, by=by))}
            entry = also or Entry()
            changes = tuple(
                settled[lease.id].change if lease.id in settled else _to_revoking(lease, why, now + SLOWEST)
                for lease in live
            )
            told = tuple(one.event for one in settled.values())
            try:
                if changes or also:
                    await self._ledger.write(replace(entry, changes=changes, events=entry.events + told))
                break
            except LeaseMoved:  # one expired or was ended elsewhere this moment: look again
                leases = [await self._ledger.lease(lease.id) or lease for lease in leases]
        else:
            raise LedgerUnwritable("the leases kept changing while they were ended; try again")
        done = {lease: one.ended for lease, one in settled.items()}
        for end in done.values():
            ENDED_COUNT.labels(end.state).inc()
        mine = [lease for lease in live if lease.id not in self._held and lease.id not in done]
        ended = await asyncio.gather(*(self._revoker.revoke(lease, why=why, by=by) for lease in mine))
        done |= {end.lease: end for end in ended}
        for lease in live:
            reason = "it was still being made; the request that makes it takes it back"
            done.setdefault(lease.id, Ended(lease=lease.id, state=LeaseState.REVOKING, reason=reason))
        return [done.get(lease.id) or Ended(lease=lease.id, state=lease.state, reason=lease.reason) for lease in leases]

    async def undo(
        self, leases: Sequence[tuple[LeaseRecord, Mapping[str, Any]]], *, why: str, also: Event, now: datetime
    ) -> None:
        """All or none: a mint failed, so its siblings are taken back. `leases` come with their newest handles."""
        changes = tuple(
            LeaseChange(lease=lease.id, expected=UNMADE, state=LeaseState.REVOKING, sealed=self.seal(lease.id, handle), reason=why, next_attempt=now + SLOWEST)
            for lease, handle in leases
        )  # fmt: skip
        await self._ledger.write(Entry(changes=changes, events=(also,)))
        await asyncio.gather(
            *(self._revoker.revoke(lease, why=why, by="broker", handle=handle) for lease, handle in leases)
        )

    async def _recover(self, why: str) -> int:
        """Undo every pending lease that nobody holds; how many."""
        recovered = 0
        while True:
            pending = await self._ledger.in_state(LeaseState.PENDING, limit=BATCH + len(self._held))
            by_issuance: defaultdict[str, list[LeaseRecord]] = defaultdict(list)
            for lease in pending:
                if lease.id not in self._held:
                    by_issuance[lease.issuance].append(lease)
            for issuance, leases in by_issuance.items():
                now = datetime.now(UTC)
                session = await self._ledger.session(leases[0].session)
                told = () if session is None else (
                    events.failed(issuance=issuance, session=session, leases=leases, why=why, now=now),
                )  # fmt: skip
                await self._ledger.write(
                    Entry(changes=tuple(_to_revoking(lease, why, now) for lease in leases), events=told)
                )
            recovered += sum(len(leases) for leases in by_issuance.values())
            if not by_issuance:
                return recovered

    async def _run(self) -> None:
        while True:
            self._next = NEVER
            try:
                rest = await self._once()
            except LedgerUnwritable:
                rest = 2.0
            except Exception as error:  # noqa: BLE001  one bad lease must not end the keeping of all others
                log.error("lease-keeper", error=type(error).__name__)  # noqa: TRY400  a traceback could hold a secret
                rest = 5.0
            now = datetime.now(UTC)
            earliest, self._next = now + timedelta(seconds=BEAT), min(self._next, now + timedelta(seconds=rest))
            while (left := (max(self._next, earliest) - datetime.now(UTC)).total_seconds()) > 0:
                self._wake.clear()
                with contextlib.suppress(TimeoutError):  # wait_for of 3.11 loses a cancellation that meets the wake-up
                    async with asyncio.timeout(left):
                        await self._wake.wait()

    async def _once(self) -> float:
        """Do what is due; gives the seconds until the next thing is."""
        now = datetime.now(UTC)
        await self._flush_strangers(now)
        await self._settle(now, look=now - self._swept > SWEEP)
        while True:
            self._renewed = set(self._renewing)
            limit = BATCH + len(self._revoker.busy)
            due = await self._ledger.due(now, limit)
            for lease in due:
                if lease.state is LeaseState.REVOKING and lease.id not in self._held:
                    self._revoker.start(lease)
            await self._expire([lease for lease in due if lease.state is LeaseState.ACTIVE], now)
            if len(due) < limit:
                break
        if now - self._swept > SWEEP:
            self._swept = now
            await self._ledger.sweep(now)
        following = await self._ledger.next_due()
        if following is None:
            return IDLE
        return min(IDLE, max(BEAT, (following - datetime.now(UTC)).total_seconds()))

    async def _settle(self, now: datetime, *, look: bool) -> None:
        """What a ledger that could not be written left behind. Raises LedgerUnwritable while it still cannot."""
        unrecorded, owed = self._revoker.unrecorded, dict(self._owed)
        if not self._ledger.writable and (self._stranded or unrecorded or owed):
            await self._ledger.ready()  # a commit that failed may still have happened: only now does reading tell
        if self._stranded or look:
            self._stranded = False
            try:
                await self._recover("its request could not finish it")
            except BaseException:
                self._stranded = True
                raise
        for lease, why in owed.items():
            record = await self._ledger.lease(lease)
            if record is not None and record.state in OPEN:  # LeaseMoved: it is looked at again in a moment
                with contextlib.suppress(LeaseMoved):
                    await self._ledger.write(Entry(changes=(_to_revoking(record, why, now),)))
                continue
            del self._owed[lease]
        for lease in list(unrecorded):
            unrecorded.discard(lease)
            record = await self._ledger.lease(lease)
            if record is not None and record.state is LeaseState.REVOKING:
                self._revoker.start(record)

    async def _expire(self, leases: Sequence[LeaseRecord], now: datetime) -> None:
        """The target enforces the end by itself; one event tells of all that ended together."""
        over = [lease.id for lease in leases if lease.id not in self._renewed]
        if not over:
            return
        changes = tuple(LeaseChange(lease=lease, expected=ACTIVE, state=LeaseState.EXPIRED) for lease in over)
        try:
            await self._ledger.write(Entry(changes=changes, events=events.expired(leases=over, now=now)))
            ENDED_COUNT.labels(LeaseState.EXPIRED).inc(len(over))
        except LeaseMoved:  # a job ended one of them this moment: take them one by one
            for change in changes:
                if change.lease in self._renewed:
                    continue
                with contextlib.suppress(LeaseMoved):
                    told = events.expired(leases=[change.lease], now=now)
                    await self._ledger.write(Entry(changes=(change,), events=told))
                    ENDED_COUNT.labels(LeaseState.EXPIRED).inc()

    async def strangers(self, windows: Sequence[Strangers], now: datetime) -> None:
        """Record these windows; they are kept while the ledger cannot be written. Raises LedgerUnwritable."""
        self._windows += windows
        if self._windows:
            # Taken out first: what was handed in is written even where this is cancelled, and must not be counted twice.
            handed, self._windows = self._windows, []
            try:
                await self._ledger.write(Entry(events=tuple(refused_many(window, now) for window in handed)))
            except LedgerUnwritable:
                self._windows = (handed + self._windows)[-MOST_OWNERS:]  # they wait, within reason
                raise

    async def _flush_strangers(self, now: datetime, *, every: bool = False) -> None:
        await self.strangers(list(self._floods.close_windows(now=now, every=every)), now)


def refused_many(window: Strangers, now: datetime) -> Event:
    """The one event of an owner's refusals that no policy is near."""
    issuer, owner = owner_of(window.sample)
    sample = {"job": window.sample.job.present(), "claims": dict(window.sample.claims), "grants": list(window.grants)}
    return events.refused_many(
        case=window.case, cases=window.more, issuer=issuer, owner=owner, count=window.count, since=window.since,
        sample=sample, now=now,
    )  # fmt: skip


def _to_revoking(lease: LeaseRecord, why: str, next_attempt: datetime) -> LeaseChange:
    expected = frozenset({lease.state})  # as it was read: who acts on it afterwards depends on which of the two it was
    return LeaseChange(
        lease=lease.id, expected=expected, state=LeaseState.REVOKING, reason=why, next_attempt=next_attempt
    )
