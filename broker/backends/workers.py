"""Blocking client libraries in a few threads: how many at once, how long each, how many may wait.

* A call that passes its deadline raises BackendError at once; its thread ends by the library's own, shorter time-outs.
* A target that hangs fills these threads and this queue, never the event loop and never another backend.
"""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from broker.backends.seam import BackendError

T = TypeVar("T")


class Workers:
    """The threads of one backend. Threads start with the first call."""

    def __init__(self, name: str, *, threads: int = 8, waiting: int = 256) -> None:
        """`threads` calls run at once and `waiting` more may queue; the one after is told to come again."""
        self._name = name
        self._room = threading.BoundedSemaphore(threads + waiting)
        self._executor = ThreadPoolExecutor(max_workers=threads, thread_name_prefix=f"jobkey-{name}")

    async def run(self, call: Callable[..., T], *args: object, deadline: float) -> T:
        """`call(*args)` in a thread, within `deadline` seconds including the wait for a thread. Raises BackendError."""
        if not self._room.acquire(blocking=False):
            raise BackendError(f"{self._name}: too many calls are waiting for the target system")
        try:
            future = self._executor.submit(contextvars.copy_context().run, call, *args)
        except RuntimeError:
            self._room.release()
            raise BackendError(f"{self._name}: the broker is shutting down") from None
        # the thread's own end, not the waiter's: a call that was given up still fills a thread
        future.add_done_callback(lambda _: self._room.release())
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), deadline)
        except TimeoutError:
            raise BackendError(f"{self._name}: the target system did not answer within {deadline:g} s") from None

    def close(self) -> None:
        """Start nothing more. Threads that wait for the network end by themselves."""
        self._executor.shutdown(wait=False, cancel_futures=True)
