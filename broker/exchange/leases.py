"""The end of leases: expiry, revocation, recovery. Every lease ends in a recorded outcome.

* A lease somebody wants gone is `revoking` in the ledger before the target system is asked, so a crash cannot forget it.
* Failures are tried again with backoff and jitter until the credential's own expiry plus a grace; then the lease is
  `irrevocable`, with the reason.
* After a crash every `pending` lease is undone: its credential never left the broker.
"""

import asyncio
import contextlib
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
import structlog

from broker.backends.seam import Backend, BackendError, Gone, StillWorks
from broker.errors import LedgerUnwritable
from broker.exchange.floods import Floods, Strangers, owner_of
from broker.exchange.requests import Ended
from broker.keys import KeyStore
from broker.ledger import events
from broker.ledger.records import Entry, Event, LeaseChange, LeaseMoved, LeaseRecord
from broker.ledger.store import Ledger
from broker.metrics import ENDED as ENDED_COUNT
from broker.model import LeaseState

log: Final = structlog.get_logger("jobkey.leases")

BATCH: Final = 500
AT_ONCE: Final = 32  # revocations under way per backend
GRACE: Final = timedelta(hours=1)  # after expiry, how long a failing revocation is still tried
SLOWEST: Final = timedelta(minutes=5)
IDLE: Final = 30.0  # seconds between looks when nothing is due
BEAT: Final = 0.25  # seconds at least: what falls due meanwhile is one commit, well within a second of the promise
SWEEP: Final = timedelta(minutes=1)
TRIES: Final = 5
OPEN: Final = frozenset({LeaseState.PENDING, LeaseState.ACTIVE})
ACTIVE: Final = frozenset({LeaseState.ACTIVE})


class LeaseKeeper:
    """One background task per broker, and the calls by which jobs end their own leases."""

    def __init__(self, ledger: Ledger, backends: Mapping[str, Backend], keys: KeyStore, floods: Floods) -> None:
        self._ledger, self._backends, self._keys, self._floods = ledger, backends, keys, floods
        self._slots: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))
        self._busy: set[str] = set()  # leases a revocation is under way for
        self._interrupted: list[LeaseRecord] = []  # being revoked when the last broker stopped: not made to wait
        self._wake = asyncio.Event()
        self._asleep_until = datetime.min.replace(tzinfo=UTC)
        self._swept = datetime.min.replace(tzinfo=UTC)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Undo what a crash left pending, then run. Gives the number of leases recovered."""
        recovered = 0
        while pending := await self._ledger.in_state(LeaseState.PENDING, limit=BATCH):
            by_issuance: defaultdict[str, list[LeaseRecord]] = defaultdict(list)
            for lease in pending:
                by_issuance[lease.issuance].append(lease)
            for issuance, leases in by_issuance.items():
                await self._recover(issuance, leases)
            recovered += len(pending)
        self._interrupted = await self._ledger.in_state(LeaseState.REVOKING, limit=100 * BATCH)
        self._task = asyncio.create_task(self._run(), name="lease-keeper")
        return recovered

    async def _recover(self, issuance: str, leases: Sequence[LeaseRecord]) -> None:
        now, why = datetime.now(UTC), "the broker stopped before this was delivered"
        session = await self._ledger.session(leases[0].session)
        event = (
            ()
            if session is None
            else (events.failed(issuance=issuance, session=session, leases=leases, why=why, now=now),)
        )
        await self._ledger.write(Entry(changes=tuple(_to_revoking(lease, why, now) for lease in leases), events=event))

    async def close(self) -> None:
        """Stop. What is unfinished is in the ledger and goes on at the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            await self._flush_strangers(datetime.now(UTC), every=True)
        except LedgerUnwritable:
            log.warning("strangers-not-recorded")

    def expect(self, instant: datetime) -> None:
        """Something falls due at this instant; wakes the task only where it would sleep past it."""
        if instant < self._asleep_until:
            self._wake.set()

    async def end(
        self, leases: Sequence[LeaseRecord], *, why: str, by: str, also: Entry | None = None, now: datetime
    ) -> list[Ended]:
        """End these now: durable intent first (with `also` in the same transaction), then each backend.

        A pending lease is still its request's, which looks at the session once more before it answers.
        A lease that ended meanwhile is reported as it is. Raises LedgerUnwritable.
        """
        for _ in range(TRIES):
            live = [lease for lease in leases if lease.state in ACTIVE]
            changes = tuple(_to_revoking(lease, why, now + SLOWEST) for lease in live)
            try:
                await self._ledger.write(replace(also or Entry(), changes=changes))
                break
            except LeaseMoved:  # one expired or was ended elsewhere this moment: look again
                leases = [await self._ledger.lease(lease.id) or lease for lease in leases]
        else:
            raise LedgerUnwritable("the leases kept changing while they were ended; try again")
        ended = await asyncio.gather(*(self._revoke(lease, why=why, by=by) for lease in live))
        done = {end.lease: end for end in ended}
        return [done.get(lease.id) or Ended(lease=lease.id, state=lease.state, reason=lease.reason) for lease in leases]

    async def undo(
        self, leases: Sequence[tuple[LeaseRecord, Mapping[str, Any]]], *, why: str, also: Event, now: datetime
    ) -> None:
        """All or none: a mint failed, so its siblings are taken back. `leases` come with their newest handles."""
        changes = tuple(
            LeaseChange(lease=lease.id, expected=frozenset({LeaseState.PENDING}), state=LeaseState.REVOKING, sealed=self.seal(lease.id, handle), reason=why, next_attempt=now + SLOWEST)
            for lease, handle in leases
        )  # fmt: skip
        await self._ledger.write(Entry(changes=changes, events=(also,)))
        await asyncio.gather(*(self._revoke(lease, why=why, by="broker", handle=handle) for lease, handle in leases))

    def seal(self, lease: str, handle: Mapping[str, Any]) -> bytes:
        """A backend's handle as the ledger keeps it; nothing where there is nothing to take back."""
        return self._keys.seal(orjson.dumps(handle), context=lease) if handle else b""

    def unseal(self, lease: LeaseRecord) -> Mapping[str, Any]:
        """Raises ValueError where the row was changed."""
        if not lease.sealed:
            return {}
        handle: Mapping[str, Any] = orjson.loads(self._keys.unseal(lease.sealed, context=lease.id))
        return handle

    async def _revoke(self, lease: LeaseRecord, *, why: str, by: str, handle: Mapping[str, Any] | None = None) -> Ended:
        if lease.id in self._busy:
            return Ended(lease=lease.id, state=LeaseState.REVOKING, reason="a revocation is under way")
        self._busy.add(lease.id)
        try:
            return await self._revoke_once(lease, why=why, by=by, handle=handle)
        finally:
            self._busy.discard(lease.id)

    async def _revoke_once(self, lease: LeaseRecord, *, why: str, by: str, handle: Mapping[str, Any] | None) -> Ended:
        backend = self._backends.get(lease.backend)
        outcome: Gone | StillWorks
        if backend is None:
            problem = f"the backend {lease.backend!r} is no longer configured; put it back to revoke this"
            return await self._again(lease, problem, by=by, retry=True)
        try:
            async with self._slots[lease.backend]:
                outcome = await backend.revoke(self.unseal(lease) if handle is None else handle)
        except ValueError:
            outcome = StillWorks("the sealed handle does not open; it was changed, or the seal key was")
        except BackendError as error:
            return await self._again(lease, str(error), by=by, retry=error.retry)
        except Exception as error:  # noqa: BLE001  a backend's surprise must not end the keeper
            return await self._again(lease, f"unexpected {type(error).__name__}", by=by, retry=True)
        return await self._ended(lease, outcome, why=why, by=by)

    async def _ended(self, lease: LeaseRecord, outcome: Gone | StillWorks, *, why: str, by: str) -> Ended:
        now = datetime.now(UTC)
        if isinstance(outcome, Gone):
            state, event, reason = (
                LeaseState.REVOKED,
                events.revoked(lease=lease.id, why=why, by=by, attempts=lease.attempts, now=now),
                why,
            )
        else:
            state, event, reason = (
                LeaseState.IRREVOCABLE,
                events.irrevocable(lease=lease.id, why=outcome.why, attempts=lease.attempts, now=now),
                outcome.why,
            )
        change = LeaseChange(lease=lease.id, expected=frozenset({LeaseState.REVOKING}), state=state, reason=reason)
        try:
            await self._ledger.write(Entry(changes=(change,), events=(event,)))
        except LeaseMoved as moved:
            return Ended(lease=lease.id, state=moved.state or LeaseState.REVOKED)
        ENDED_COUNT.labels(state).inc()
        return Ended(lease=lease.id, state=state, reason=outcome.why if isinstance(outcome, StillWorks) else None)

    async def _again(self, lease: LeaseRecord, problem: str, *, by: str, retry: bool) -> Ended:
        now = datetime.now(UTC)
        if not retry or now > lease.expires_at + GRACE:
            return await self._ended(lease, StillWorks(f"could not be revoked: {problem}"), why="", by=by)
        attempts = lease.attempts + 1
        wait = min(SLOWEST.total_seconds(), 0.5 * 2**attempts) * random.uniform(0.5, 1.0)  # noqa: S311  jitter, not a secret
        change = LeaseChange(
            lease=lease.id, expected=frozenset({LeaseState.REVOKING}), state=LeaseState.REVOKING,
            attempts=attempts, next_attempt=now + timedelta(seconds=wait),
        )  # fmt: skip
        try:
            await self._ledger.write(Entry(changes=(change,)))
        except LeaseMoved as moved:
            return Ended(lease=lease.id, state=moved.state or LeaseState.REVOKED)
        log.warning("revocation-failed", lease=lease.id, backend=lease.backend, attempts=attempts, problem=problem)
        self.expect(now + timedelta(seconds=wait))
        return Ended(
            lease=lease.id,
            state=LeaseState.REVOKING,
            reason=f"the backend did not answer; it is tried again ({problem})",
        )

    async def _run(self) -> None:
        while True:
            try:
                rest = await self._once()
            except LedgerUnwritable:
                rest = 2.0
            except Exception:
                log.exception("lease-keeper")
                rest = 5.0
            self._asleep_until = datetime.now(UTC) + timedelta(seconds=rest)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), rest)
            self._wake.clear()

    async def _once(self) -> float:
        """Do what is due; gives the seconds until the next thing is."""
        now = datetime.now(UTC)
        await self._flush_strangers(now)
        interrupted, self._interrupted = self._interrupted, []
        await asyncio.gather(
            *(self._revoke(lease, why=lease.reason or "revoked", by="broker") for lease in interrupted)
        )
        while due := await self._ledger.due(now, BATCH):
            await self._expire([lease for lease in due if lease.state is LeaseState.ACTIVE], now)
            revoking = [lease for lease in due if lease.state is LeaseState.REVOKING]
            await asyncio.gather(
                *(self._revoke(lease, why=lease.reason or "revoked", by="broker") for lease in revoking)
            )
            if len(due) < BATCH:
                break
        if now - self._swept > SWEEP:
            self._swept = now
            await self._ledger.sweep(now)
        following = await self._ledger.next_due()
        if following is None:
            return IDLE
        return min(IDLE, max(BEAT, (following - datetime.now(UTC)).total_seconds()))

    async def _expire(self, leases: Sequence[LeaseRecord], now: datetime) -> None:
        """The target enforces the end by itself; one event tells of all that ended together."""
        if not leases:
            return
        changes = tuple(
            LeaseChange(lease=lease.id, expected=frozenset({LeaseState.ACTIVE}), state=LeaseState.EXPIRED)
            for lease in leases
        )
        try:
            await self._ledger.write(
                Entry(changes=changes, events=events.expired(leases=[lease.id for lease in leases], now=now))
            )
            ENDED_COUNT.labels(LeaseState.EXPIRED).inc(len(leases))
        except LeaseMoved:  # a job ended one of them this moment: take them one by one
            for change in changes:
                try:
                    await self._ledger.write(
                        Entry(changes=(change,), events=events.expired(leases=[change.lease], now=now))
                    )
                except LeaseMoved:
                    continue

    async def _flush_strangers(self, now: datetime, *, every: bool = False) -> None:
        windows = list(self._floods.close_windows(now=now, every=every))
        if windows:
            await self._ledger.write(Entry(events=tuple(refused_many(window, now) for window in windows)))


def refused_many(window: Strangers, now: datetime) -> Event:
    """The one event of an owner's refusals that no policy is near."""
    issuer, owner = owner_of(window.sample)
    sample = {"job": window.sample.job.present(), "claims": dict(window.sample.claims), "grants": list(window.grants)}
    return events.refused_many(
        case=window.case, issuer=issuer, owner=owner, count=window.count, since=window.since, sample=sample, now=now
    )


def _to_revoking(lease: LeaseRecord, why: str, next_attempt: datetime) -> LeaseChange:
    return LeaseChange(lease=lease.id, expected=OPEN, state=LeaseState.REVOKING, reason=why, next_attempt=next_attempt)
