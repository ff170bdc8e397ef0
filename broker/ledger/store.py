"""The ledger as the rest of the broker sees it: `await write(entry)` returns once the entry is durable.

* Group commit. What comes in few turns of the event loop goes to the writer's thread as a group; while it writes, the
  next group gathers. The thread wakes all of a group's requests with one call, so no request pays for a thread hop.
* Look-ups of one row run on the loop's own read-only connection: microseconds, and WAL readers wait for nobody. What may
  read many rows runs in a thread.
* A request that goes away does not take its entry with it: what was handed in is written.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from broker.errors import ConfigError, LedgerUnwritable
from broker.keys import KeyStore
from broker.ledger.checkpoint import VerifierKey
from broker.ledger.events import unix_ms
from broker.ledger.reader import Reader, connect_read_only
from broker.ledger.records import Entry, EventQuery, LeaseRecord, SessionRecord, StoredEvent
from broker.ledger.rows import Prepared, prepare
from broker.ledger.tiles import WIDTH
from broker.ledger.writer import Outcome, Writer
from broker.metrics import COMMITS, ENTRIES
from broker.model import LeaseState
from broker.turns import STOPS

Answer = TypeVar("Answer")
_Waiting = tuple[Prepared, "asyncio.Future[None]"]

ROLE: Final = "log"
_LARGEST_GROUP: Final = 256  # entries in one transaction
# A group is handed over once so many turns of the event loop brought nothing more: as many as a request needs from its
# arrival to its entry. Each statement of the writer gives up the interpreter's lock and has to win it back from the loop; a
# group that is written while the loop works on the next one cost 150 µs an issuance more than one for which it waited.
_QUIET_TURNS: Final = STOPS + 2
_ENOUGH: Final = 64  # entries that are worth a transaction, whatever else may come
_MOST_WAITING: Final = 20_000  # a disk that hangs must not fill the memory


class Ledger:
    """Open with `Ledger.open`; one per process and database."""

    def __init__(self, writer: Writer, key: VerifierKey) -> None:
        self.key = key
        self._writer = writer
        self._head = writer.head
        self._loop = asyncio.get_running_loop()
        self._here = Reader(connect_read_only(writer.path))
        self._there = Reader(connect_read_only(writer.path))
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="ledger-reader")
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._waiting: list[_Waiting] = []
        self._gathering = False  # turns are being collected
        self._gathered = 0  # entries at the last turn
        self._quiet = 0  # turns since one brought an entry
        self._writing = False  # the thread has a group
        self._closed = False
        self._failed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._thread.start()

    @classmethod
    async def open(cls, url: str, *, keys: KeyStore, origin: str) -> "Ledger":
        """Open for writing, making or migrating what is missing.

        `url` is `sqlite:///path` or a path; `origin` is the broker's URL without its scheme, the name of the log.
        Raises ConfigError: no such kind of database, in use by another broker, damaged, or from a newer broker.
        """
        known = keys.public(ROLE)
        raw = [key.key.public_bytes_raw() for key in known if hasattr(key.key, "public_bytes_raw")]
        key = VerifierKey(origin, raw[0])
        writer = Writer(database_path(url), key=key, sign=lambda data: keys.sign(ROLE, data), known=raw[1:])
        await asyncio.to_thread(writer.open)
        return cls(writer, key)

    async def close(self) -> None:
        """Write what waits, then close."""
        if self._closed:
            return
        self._closed = True
        await self._idle.wait()
        self._work.put(None)
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._readers.shutdown)
        self._here.close()
        self._there.close()
        await asyncio.to_thread(self._writer.close)

    @property
    def vkey(self) -> str:
        """The verifier key, as auditors are given it."""
        return str(self.key)

    async def write(self, entry: Entry) -> None:
        """Return when the entry is durable.

        Raises AlreadyRedeemed, LeaseMoved (nothing of the entry was written), errors.LedgerUnwritable (nothing is
        acknowledged; it may be tried again), ValueError for an entry that no ledger could hold.
        """
        prepared = prepare(entry)
        if self._closed or len(self._waiting) >= _MOST_WAITING:
            raise LedgerUnwritable(
                "the broker cannot write its ledger now; try again shortly",
                reason="the ledger is closing" if self._closed else "too many entries wait for the disk",
            )
        durable: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((prepared, durable))
        if not self._gathering and not self._writing:
            self._idle.clear()
            self._gather()
        await durable

    async def sweep(self, now: datetime) -> int:
        """Delete session rows past their `keep_until`; how many. Raises LedgerUnwritable."""
        return await self._order(lambda: self._writer.sweep(unix_ms(now)))

    async def ready(self) -> None:
        """Prove that the disk takes a durable write. Raises LedgerUnwritable."""
        await self._order(self._writer.probe)

    async def session(self, id: str) -> SessionRecord | None:  # noqa: A002  the record's own word
        """The session of this id."""
        return _answer(lambda reader: reader.session(id), self._here)

    async def session_of_token(self, token_key: bytes) -> SessionRecord | None:
        """The session that redeemed a subject token."""
        return _answer(lambda reader: reader.session_of_token(token_key), self._here)

    async def lease(self, id: str) -> LeaseRecord | None:  # noqa: A002  the record's own word
        """The lease of this id."""
        return _answer(lambda reader: reader.lease(id), self._here)

    async def leases_of(self, session: str) -> list[LeaseRecord]:
        """A session's leases, oldest first."""
        return _answer(lambda reader: reader.leases_of(session), self._here)

    async def in_state(self, *states: LeaseState, limit: int = 1000) -> list[LeaseRecord]:
        """Leases in any of these states."""
        return await self._ask(lambda reader: reader.in_state(*states, limit=limit))

    async def due(self, now: datetime, limit: int) -> list[LeaseRecord]:
        """What to work on: revoking leases whose next attempt has come, then active ones past their end."""
        return await self._ask(lambda reader: reader.due(unix_ms(now), limit))

    async def next_due(self) -> datetime | None:
        """When `due` will next have something, as things stand."""
        return await self._ask(lambda reader: reader.next_due())

    async def events(self, query: EventQuery) -> list[StoredEvent]:
        """Events that fit the query."""
        return await self._ask(lambda reader: reader.events(query))

    async def event(self, name: str) -> StoredEvent | None:
        """The event of this id, the refusal of this case, or the first event of this issuance, session or lease."""
        return await self._ask(lambda reader: reader.event(name))

    def checkpoint(self) -> bytes:
        """The latest signed note."""
        return self._head.note

    @property
    def writable(self) -> bool:
        """Whether the last group became durable; false until one does again."""
        return not self._closed and not self._failed

    @property
    def size(self) -> int:
        """How many leaves the latest checkpoint covers."""
        return self._head.tree.size

    async def tile(self, level: int, index: int, width: int = WIDTH) -> bytes | None:
        """A tile's hashes, or its first `width` ones; None for what the latest checkpoint does not cover."""
        if not 0 < width <= WIDTH or level < 0 or index < 0:
            return None
        tree = self._head.tree
        edge = tree.partial[level] if level < len(tree.partial) else ()
        first_partial = tree.size >> 8 * (level + 1)
        if index == first_partial:
            return b"".join(edge[:width]) if width <= len(edge) else None
        if index > first_partial:
            return None
        whole = await self._ask(lambda reader: reader.tile(level, index))
        return None if whole is None else whole[: width * 32]

    async def entries(self, index: int, width: int = WIDTH) -> bytes | None:
        """A bundle of entries, or its first `width` ones; None for what the latest checkpoint does not cover."""
        if not 0 < width <= WIDTH or index < 0 or index * WIDTH + width > self._head.tree.size:
            return None
        return await self._ask(lambda reader: reader.entries(index, width))

    async def _ask(self, question: Callable[[Reader], Answer]) -> Answer:
        return await self._loop.run_in_executor(self._readers, _answer, question, self._there)

    async def _order(self, job: Callable[[], Answer]) -> Answer:
        """Run something on the writer's thread, between two groups."""
        if self._closed:
            raise LedgerUnwritable("the broker is stopping; try again shortly", reason="the ledger is closing")
        done: asyncio.Future[Answer] = self._loop.create_future()

        def work() -> None:
            try:
                answer = job()
            except Exception as error:  # noqa: BLE001  it is raised where it was asked for
                self._loop.call_soon_threadsafe(_fail, done, error)
            else:
                self._loop.call_soon_threadsafe(_succeed, done, answer)

        self._work.put(work)
        return await done

    def _gather(self) -> None:
        self._gathering, self._gathered, self._quiet = True, 0, 0
        self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Look once a turn whether more came."""
        waiting = len(self._waiting)
        self._quiet = 0 if waiting > self._gathered else self._quiet + 1
        self._gathered = waiting
        if self._quiet < _QUIET_TURNS and waiting < _ENOUGH and not self._closed:
            self._loop.call_soon(self._turn)
        else:
            self._hand_over()

    def _hand_over(self) -> None:
        """Give the thread what was gathered."""
        self._gathering = False
        group, self._waiting = self._waiting[:_LARGEST_GROUP], self._waiting[_LARGEST_GROUP:]
        self._writing = True

        def work() -> None:
            outcomes = self._writer.commit([prepared for prepared, _ in group])
            self._loop.call_soon_threadsafe(self._wake, group, outcomes, self._writer.head)

        self._work.put(work)

    def _wake(self, group: list[_Waiting], outcomes: list[Outcome], head: Any) -> None:
        self._head = head
        self._writing = False
        self._failed = isinstance(outcomes[0], LedgerUnwritable)  # the disk fails a whole group, never a part of it
        COMMITS.inc()
        ENTRIES.inc(len(group))
        for (_, durable), outcome in zip(group, outcomes, strict=True):
            if durable.done():  # its request went away
                continue
            if outcome is None:
                durable.set_result(None)
            else:
                durable.set_exception(outcome)
        if self._waiting:
            self._gather()
        else:
            self._idle.set()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()


def database_path(url: str) -> Path:
    """The file behind a ledger URL. Raises ConfigError for another kind of database."""
    if url.startswith("sqlite:///"):
        return Path(url.removeprefix("sqlite:///"))
    if "://" in url:
        raise ConfigError(f"ledger: {url.partition('://')[0]} is not supported here; use sqlite or a path")
    return Path(url)


def _answer(question: Callable[[Reader], Answer], reader: Reader) -> Answer:
    """A disk that cannot be read is the same to a caller as one that cannot be written: 503."""
    try:
        return question(reader)
    except sqlite3.Error as error:
        raise LedgerUnwritable(
            "the broker cannot read its ledger now; try again shortly", reason=f"{type(error).__name__}: {error}"
        ) from error


def _succeed(future: "asyncio.Future[Answer]", answer: Answer) -> None:
    if not future.done():
        future.set_result(answer)


def _fail(future: "asyncio.Future[Any]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
