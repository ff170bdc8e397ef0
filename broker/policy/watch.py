"""The policies of a running broker: loaded again when a file changes or somebody asks, swapped whole, last good kept.

* A load runs in a thread, so that no request waits for it; two loads never overlap, and the later files win.
* A load that fails changes nothing: `current` stays, and `on_failed` gets every problem, once per change.
* The kernel's notices only make it prompt. What decides is a stamp of the files, taken before each load and compared
  every few seconds too: so nothing is missed between loading and watching, on network mounts, or when a ConfigMap's
  link is swapped.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterable, Iterator
from pathlib import Path
from typing import Final

import structlog
from watchfiles import awatch

from broker.errors import ConfigError
from broker.policy.policyset import PolicySet

log: Final = structlog.get_logger("jobkey.policy")
TICK: Final = 2.0  # seconds between looks without a notice

Stamp = frozenset[tuple[str, int, int, int]]


class PolicyWatcher:
    """Holds the current PolicySet. `load` reads everything anew and raises ConfigError; it runs in a thread.

    `files` are others that a load reads, such as guardrails.yaml. The callbacks run in the event loop: `on_loaded` after
    each reload that put another set in force or followed a failure, `on_failed` after one that changed nothing.
    """

    def __init__(
        self,
        load: Callable[[], PolicySet],
        *,
        folder: Path,
        files: Iterable[Path] = (),
        on_loaded: Callable[[PolicySet], None] = lambda _: None,
        on_failed: Callable[[ConfigError], None] = lambda _: None,
        tick: float = TICK,
    ) -> None:
        self._load, self._on_loaded, self._on_failed = load, on_loaded, on_failed
        self._folder, self._files, self._tick = folder, tuple(files), tick
        self._current: PolicySet | None = None
        self._stamp: Stamp = frozenset()
        self._failing = False
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[object]] = set()

    @property
    def current(self) -> PolicySet:
        """The last good set. Read it once per request, so that one request sees one set."""
        if self._current is None:
            raise RuntimeError("the policies were not loaded yet; await start() first")
        return self._current

    async def start(self) -> PolicySet:
        """Load, then watch. Raises ConfigError: a broker does not start on policies it cannot read."""
        self._current = await asyncio.to_thread(self._load_stamped)
        self._spawn(self._watch())
        return self._current

    async def close(self) -> None:
        """Stop watching. `current` stays."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def request_reload(self) -> None:
        """Load again soon, changed or not; for a signal handler of the event loop (SIGHUP)."""
        self._spawn(self.reload())

    async def reload(self) -> bool:
        """Load again now. True when what is on disk is now in force."""
        async with self._turn:
            try:
                fresh = await asyncio.to_thread(self._load_stamped)
            except ConfigError as error:
                self._failing = True
                self._on_failed(error)
                return False
            changed = self._failing or self._current is None or fresh.version != self._current.version
            self._current, self._failing = fresh, False
            if changed:
                self._on_loaded(fresh)
            return True

    def _spawn(self, work: Coroutine[None, None, object]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _load_stamped(self) -> PolicySet:
        self._stamp = self._stamp_now()  # before loading: what changes meanwhile is seen at the next look
        return self._load()

    async def _watch(self) -> None:
        while True:
            try:
                paths = [path for path in (self._folder, *self._files) if path.exists()]
                async for _ in awatch(
                    *paths, watch_filter=None, debounce=200, rust_timeout=int(self._tick * 1000), yield_on_timeout=True
                ):
                    await self._look()
            except Exception as error:  # noqa: BLE001  a watch that breaks must not end the watching
                log.warning("policy-watch-broke", error=type(error).__name__)
            await asyncio.sleep(self._tick)
            await self._look()

    async def _look(self) -> None:
        if await asyncio.to_thread(self._stamp_now) != self._stamp:
            await self.reload()

    def _stamp_now(self) -> Stamp:
        return frozenset(self._stats())

    def _stats(self) -> Iterator[tuple[str, int, int, int]]:
        paths = list(self._files)
        for here, folders, files in os.walk(self._folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            paths += [Path(here, name) for name in files if not name.startswith(".")]
        for path in paths:
            try:
                found = path.stat()
                yield str(path), found.st_mtime_ns, found.st_size, found.st_ino
            except OSError:
                yield str(path), 0, 0, 0
