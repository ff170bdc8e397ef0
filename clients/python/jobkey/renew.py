"""Keep renewable credentials alive while the child runs: at two thirds of what is left of each, in a thread.

A thread of its own, with a connection of its own, so that a slow broker never holds up the child's output. It is
started when the first renewal is due and not before: a short command imports no threading.
"""

from __future__ import annotations

import time
from functools import partial

from jobkey.errors import JobkeyError, Problem
from jobkey.retry import persist
from jobkey.session import instant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from jobkey.acquire import Acquired, Job
    from jobkey.exchange import Broker

SOONEST = 5.0  # seconds between two renewals of one lease
NEVER = float("inf")


class Renewer:
    """`first` says when (monotonic); `start` is called then."""

    def __init__(self, job: Job, acquired: Acquired, warn: Callable[[str], None]) -> None:
        self._job = job
        self._secret = acquired.secret
        self._warn = warn
        self._due = {one.lease: _when(one.expires_at) for one in acquired.credentials if one.renewable}
        self._ends = {one.lease: one.expires_at for one in acquired.credentials}

    def first(self) -> float:
        return min(self._due.values(), default=NEVER)

    def start(self) -> float:
        """Begin the thread (a daemon: it ends with the command). Never due again."""
        import threading

        threading.Thread(target=self._loop, name="jobkey-renew", daemon=True).start()
        return NEVER

    def _loop(self) -> None:
        broker = self._job.broker.again()
        while self._due:
            lease = min(self._due, key=lambda one: self._due[one])
            time.sleep(max(0.0, self._due[lease] - time.monotonic()))
            try:
                end = persist(partial(_renew, broker, self._secret, lease), self._job.patience, self._job.say)
            except (Problem, JobkeyError) as error:
                why = error.text("title") or str(error) if isinstance(error, Problem) else error.what
                self._warn(f"{lease} could not be renewed ({why}): it ends at {self._ends[lease]}")
                del self._due[lease]
                continue
            self._ends[lease] = end
            self._due[lease] = _when(end)


def _renew(broker: Broker, secret: str, lease: str, left: float) -> str:
    return broker.renew(secret, lease, timeout=left)


def _when(expires_at: str) -> float:
    end = instant(expires_at)
    return NEVER if end is None else time.monotonic() + max(SOONEST, (end - time.time()) * 2 / 3)
