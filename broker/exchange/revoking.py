"""Taking one credential back, as often as it takes, and writing down what came of it.

* Only a lease that the ledger says is `revoking` is revoked, and by one worker at a time.
* A failure is tried again with backoff and jitter until the credential's own expiry plus a grace; then the lease is
  `irrevocable`, with the reason.
* A backend that hangs fills its own slots and delays nobody else's leases.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
import structlog

from broker.backends.seam import Backend, BackendError, Gone, StillWorks
from broker.errors import LedgerUnwritable
from broker.exchange.requests import Ended
from broker.keys import KeyStore
from broker.ledger import events
from broker.ledger.records import Entry, Event, LeaseChange, LeaseMoved, LeaseRecord
from broker.ledger.store import Ledger
from broker.metrics import ENDED as ENDED_COUNT
from broker.model import LeaseState

log: Final = structlog.get_logger("jobkey.leases")

AT_ONCE: Final = 32  # revocations under way per backend
GRACE: Final = timedelta(hours=1)  # after expiry, how long a failing revocation is still tried
SLOWEST: Final = timedelta(minutes=5)
SOON: Final = timedelta(seconds=2)  # where only the ledger failed: the target system did its part
REVOKING: Final = frozenset({LeaseState.REVOKING})
ACTIVE: Final = frozenset({LeaseState.ACTIVE})


class Revoker:
    """The workers. `expect(instant)` is told when a lease is to be tried again."""

    def __init__(
        self, ledger: Ledger, backends: Mapping[str, Backend], keys: KeyStore, expect: Callable[[datetime], None]
    ) -> None:
        self._ledger, self._backends, self._keys, self._expect = ledger, backends, keys, expect
        self._slots: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))
        self._tasks: set[asyncio.Task[Ended]] = set()
        self.busy: set[str] = set()  # leases a revocation is under way for
        self.unrecorded: set[str] = (
            set()
        )  # revoked, or found that they cannot be, while the ledger could not be written

    def start(self, lease: LeaseRecord) -> None:
        """Revoke in the background; nothing where it is under way already."""
        if lease.id not in self.busy:
            task = asyncio.create_task(self.revoke(lease, why=lease.reason or "revoked", by="broker"))
            self._tasks.add(task)
            task.add_done_callback(self._done)

    async def close(self) -> None:
        """Stop. What is unfinished is `revoking` in the ledger."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def seal(self, lease: str, handle: Mapping[str, Any]) -> bytes:
        """A backend's handle as the ledger keeps it; nothing where there is nothing to take back."""
        return self._keys.seal(orjson.dumps(handle), context=lease) if handle else b""

    def unseal(self, lease: LeaseRecord) -> Mapping[str, Any]:
        """Raises ValueError where the row was changed."""
        if not lease.sealed:
            return {}
        handle: Mapping[str, Any] = orjson.loads(self._keys.unseal(lease.sealed, context=lease.id))
        return handle

    async def revoke(self, lease: LeaseRecord, *, why: str, by: str, handle: Mapping[str, Any] | None = None) -> Ended:
        """One attempt, recorded. `handle` is newer than the ledger's. Raises LedgerUnwritable; then it is tried again."""
        if lease.id in self.busy:
            return Ended(lease=lease.id, state=LeaseState.REVOKING, reason="a revocation is under way")
        self.busy.add(lease.id)
        try:
            async with self._slots[lease.backend]:
                now = await self._ledger.lease(lease.id)  # it may have ended while this waited for a slot
                if now is None or now.state is not LeaseState.REVOKING:
                    return Ended(lease=lease.id, state=now.state if now else LeaseState.REVOKED)
                return await self._attempt(now, why=why, by=by, handle=handle)
        except LedgerUnwritable:
            self.unrecorded.add(lease.id)
            self._expect(datetime.now(UTC) + SOON)
            raise
        finally:
            self.busy.discard(lease.id)

    async def _attempt(self, lease: LeaseRecord, *, why: str, by: str, handle: Mapping[str, Any] | None) -> Ended:
        backend = self._backends.get(lease.backend)
        if backend is None:
            problem = f"the backend {lease.backend!r} is no longer configured; put it back to revoke this"
            return await self._again(lease, problem, retry=True)
        outcome: Gone | StillWorks
        try:
            held = self.unseal(lease) if handle is None else handle
        except ValueError:
            outcome = StillWorks("the sealed handle does not open; it was changed, or the seal key was")
            return await self._ended(lease, outcome, why=why, by=by)
        try:
            outcome = await backend.revoke(held)
        except BackendError as error:
            return await self._again(lease, str(error), retry=error.retry)
        except Exception as error:  # noqa: BLE001  a backend's surprise must not end the worker
            return await self._again(lease, f"unexpected {type(error).__name__}", retry=True)
        return await self._ended(lease, outcome, why=why, by=by)

    async def at_once(self, lease: LeaseRecord, *, why: str, by: str) -> "Outcome | None":
        """How an active lease ends whose backend left no trace: there is nobody to ask, so it needs no intent of its own.

        None where somebody has to be asked. Half the commits at the end of a job, which is waiting for them.
        """
        backend = self._backends.get(lease.backend)
        if backend is None or backend.trace or lease.state is not LeaseState.ACTIVE:
            return None
        try:
            said = await backend.revoke(self.unseal(lease))
        except Exception:  # noqa: BLE001  then it goes the way of every other lease, with its retries
            return None
        return _outcome(lease, said, expected=ACTIVE, why=why, by=by)

    async def _ended(self, lease: LeaseRecord, said: Gone | StillWorks, *, why: str, by: str) -> Ended:
        outcome = _outcome(lease, said, expected=REVOKING, why=why, by=by)
        try:
            await self._ledger.write(Entry(changes=(outcome.change,), events=(outcome.event,)))
        except LeaseMoved as moved:
            return Ended(lease=lease.id, state=moved.state or LeaseState.REVOKED)
        ENDED_COUNT.labels(outcome.ended.state).inc()
        return outcome.ended

    async def _again(self, lease: LeaseRecord, problem: str, *, retry: bool) -> Ended:
        now = datetime.now(UTC)
        if not retry or now > lease.expires_at + GRACE:
            return await self._ended(lease, StillWorks(f"could not be revoked: {problem}"), why="", by="broker")
        attempts = lease.attempts + 1
        longest = min(SLOWEST.total_seconds(), 0.5 * 2 ** min(attempts, 32))
        at = now + timedelta(seconds=longest * random.uniform(0.5, 1.0))  # noqa: S311  jitter, not a secret
        change = LeaseChange(
            lease=lease.id, expected=REVOKING, state=LeaseState.REVOKING, attempts=attempts, next_attempt=at
        )
        try:
            await self._ledger.write(Entry(changes=(change,)))
        except LeaseMoved as moved:
            return Ended(lease=lease.id, state=moved.state or LeaseState.REVOKED)
        log.warning("revocation-failed", lease=lease.id, backend=lease.backend, attempts=attempts, problem=problem)
        self._expect(at)
        why = f"the backend did not answer; it is tried again ({problem})"
        return Ended(lease=lease.id, state=LeaseState.REVOKING, reason=why)

    def _done(self, task: "asyncio.Task[Ended]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, LedgerUnwritable):
            log.error("revocation", error=type(error).__name__)  # the text could hold a secret


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a lease ended: the row's change and the event that belongs to it, for one commit, and what the job is told."""

    change: LeaseChange
    event: Event
    ended: Ended


def _outcome(
    lease: LeaseRecord, said: Gone | StillWorks, *, expected: frozenset[LeaseState], why: str, by: str
) -> Outcome:
    now, tries = datetime.now(UTC), lease.attempts
    if isinstance(said, Gone):
        state, reason, told = LeaseState.REVOKED, why, None
        event = events.revoked(lease=lease.id, why=why, by=by, attempts=tries, now=now)
    else:
        state, reason, told = LeaseState.IRREVOCABLE, said.why, said.why
        event = events.irrevocable(lease=lease.id, why=reason, attempts=tries, now=now)
    change = LeaseChange(lease=lease.id, expected=expected, state=state, reason=reason, attempts=tries)
    return Outcome(change, event, Ended(lease=lease.id, state=state, reason=told))
