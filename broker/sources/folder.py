"""A folder of policies, watched.

* The kernel's notices only make it prompt. What decides is a stamp of the files, taken before each look and compared
  every few seconds too: so nothing is missed between looking and watching, on network mounts, or when a ConfigMap's link
  is swapped.
* A file is read again only where its stamp changed. One that changed in the last two seconds is read again anyway: its
  next change could leave the same stamp behind.
"""

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import structlog
from watchfiles import awatch

from broker.documents import read_file
from broker.policy.load import PolicyText, read_folder, read_one
from broker.sources import Snapshot

log: Final = structlog.get_logger("jobkey.policies")
TICK: Final = 2.0  # seconds between looks at the stamps without a notice
SHARE: Final = 50  # stamping may take one part in so many of the time
RECENT: Final = 2_000_000_000  # ns; more than the coarsest clock of a file system in use

FileStamp = tuple[int, int, int, int, int]  # mtime, ctime, size, inode, device
Stamp = frozenset[tuple[str, FileStamp]]
_GONE: Final[FileStamp] = (0, 0, 0, 0, 0)


class FolderSource:
    """`guardrails` is another file, read and watched with the folder."""

    described = "folder"

    def __init__(self, folder: Path, guardrails: Path | None = None, *, tick: float = TICK) -> None:
        self._folder, self._guardrails, self._tick = folder, guardrails, tick
        self._stamp: Stamp | None = None
        self._texts: dict[str, tuple[FileStamp, PolicyText]] = {}  # by path, of the last look
        self._woken = asyncio.Event()
        self.seen = 0.0

    def look(self, *, anyway: bool = False) -> Snapshot | None:
        """Raises ConfigError where the guardrails cannot be read; problems of the folder are in the snapshot."""
        before = self._stamp_now()  # what changes while it is read is seen at the next look
        if not anyway and before == self._stamp:
            return None
        self._stamp = before
        guardrails = None
        if self._guardrails is not None:
            guardrails = read_file(self._guardrails)
        problems: list[str] = []
        texts = self._read(problems)
        self.seen = time.time()
        return Snapshot(
            texts=tuple(texts),
            problems=tuple(problems),
            guardrails=guardrails,
            guardrails_name=str(self._guardrails or ""),
        )

    def kept(self) -> None:
        """A folder remembers nothing."""

    def taken(self, snapshot: Snapshot) -> None:
        """Nothing to do: what is in the folder stays there."""

    def wake(self) -> None:
        self._woken.set()

    def close(self) -> None:
        self._woken.set()

    async def wait(self) -> None:
        while not self._woken.is_set():
            try:
                began = time.monotonic()
                if await asyncio.to_thread(self._stamp_now) != self._stamp:
                    break
                # In a large folder stamping takes a while: then it is done less often, and notices are what is waited for.
                rest = max(self._tick, SHARE * (time.monotonic() - began))
                paths = [path for path in (self._folder, self._guardrails) if path is not None and path.exists()]
                if not paths:
                    await asyncio.wait_for(self._woken.wait(), rest)
                async for _ in awatch(
                    *paths,
                    watch_filter=None,
                    debounce=200,
                    rust_timeout=int(rest * 1000),
                    yield_on_timeout=True,
                    stop_event=self._woken,
                ):
                    break
            except TimeoutError:
                pass
            except Exception as error:  # noqa: BLE001  a watch that breaks must not end the watching
                log.warning("policy-watch-broke", error=type(error).__name__)
                await asyncio.sleep(self._tick)
        self._woken.clear()

    def _read(self, problems: list[str]) -> list[PolicyText]:
        before, self._texts = self._texts, {}
        trusted = time.time_ns() - RECENT

        def read(path: str, file: str, problems: list[str], within: Path) -> PolicyText | None:
            stamp = _stamp(path)
            known = before.get(path)
            if known is not None and known[0] == stamp:
                text: PolicyText | None = known[1]
            else:
                text = read_one(Path(path), file, problems, within=within)
            if text is not None and stamp != _GONE and max(stamp[:2]) < trusted:
                self._texts[path] = stamp, text
            return text

        return read_folder(self._folder, problems, read=read)

    def _stamp_now(self) -> Stamp:
        there = ("", (int(self._folder.is_dir()), 0, 0, 0, 0))  # an empty folder is not a missing one
        return frozenset((there, *((path, _stamp(path)) for path in self._paths())))

    def _paths(self) -> Iterator[str]:
        if self._guardrails is not None:
            yield str(self._guardrails)
        for here, folders, files in os.walk(self._folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            yield from (os.path.join(here, name) for name in files if not name.startswith("."))  # noqa: PTH118  ten thousand times


def _stamp(path: str) -> FileStamp:
    try:
        found = os.stat(path)  # noqa: PTH116  ten thousand times
    except OSError:
        return _GONE
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev
