"""The policies in force: looked at, loaded, recorded, and only then used.

A new set is in the ledger, text and all, before the first request is judged by it, so that an event can name for good
what decided it, and the commit it came from. A set that does not load changes nothing, and is recorded too.

One task does all of it, one step after the other: what changes meanwhile is seen at the next look.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import structlog

from broker.errors import ConfigError, LedgerUnwritable
from broker.issuers.seam import IssuerKind
from broker.ledger import events
from broker.ledger.records import Entry, EventQuery, PolicyVersion
from broker.ledger.store import Ledger
from broker.metrics import POLICIES, POLICIES_SEEN, POLICY_LOADS
from broker.policy import PolicySet, Target
from broker.policy.guardrails import Guardrails, read_guardrails
from broker.policy.load import Loader, folders_of
from broker.policy.world import World
from broker.sources import Snapshot, Source, SourceUnavailable

log: Final = structlog.get_logger("jobkey.policies")

AGAIN: Final = 1.0  # seconds after a surprise
GUARDRAILS: Final = "guardrails.yaml"  # its name among the stored versions; a policy's name has no dot


@dataclass(frozen=True, slots=True)
class Loaded:
    """A snapshot and the set that came of it."""

    snapshot: Snapshot = field(repr=False)
    policies: PolicySet = field(repr=False)


class Policies:
    """`load` for one look, or `start` and `close` around a broker's life."""

    def __init__(
        self,
        source: Source,
        *,
        issuers: Mapping[str, IssuerKind],
        issuer_urls: Mapping[str, str],
        targets: Mapping[str, Target],
    ) -> None:
        self._source = source
        self._issuers, self._urls, self._targets = issuers, issuer_urls, targets
        self._loader = Loader()
        self._current: PolicySet | None = None
        self._first: tuple[Loaded, ConfigError | None] | None = (
            None  # what load() found, and what was wrong with the newest
        )
        self._ledger: Ledger | None = None
        self._task: asyncio.Task[None] | None = None
        self._anyway = False  # somebody asked for a look at what did not change
        self._unseen = False  # whether the last look could not be had
        self._refused: tuple[str, ...] = ()  # the problems of what was there last; () where it is in force

    @property
    def current(self) -> PolicySet:
        """The set that decides. Read it once per request, so that one request sees one set."""
        if self._current is None:
            raise RuntimeError("no policies were loaded; call load() or start() first")
        return self._current

    @property
    def source(self) -> Source:
        """Where they come from."""
        return self._source

    def note(self, now: float) -> str | None:
        """What an operator should know of the source, at `now` (Unix time); nothing of what it holds."""
        if self._refused:
            return "what is there now does not load; the last good policies are in force"
        if self._unseen:
            age = f"for {int(now - self._source.seen)} s" if self._source.seen else "since the start"
            return f"their source was not reached {age}; the last good policies are in force"
        return None

    def stale(self, now: float, limit: timedelta) -> str | None:
        """Why the policies in force may be too old at `now` (Unix time): their source was not reached for longer than `limit`."""
        unseen = now - self._source.seen
        if unseen <= limit.total_seconds():
            return None
        return (
            f"their source was not reached for {int(unseen)} s"
            if self._source.seen
            else "their source was never reached"
        )

    def world(self, guardrails: Guardrails) -> World:
        """What policies are checked against here."""
        return World(issuers=self._issuers, issuer_urls=self._urls, targets=self._targets, guardrails=guardrails)

    def load(self) -> PolicySet:
        """Read guardrails and policies; where they cannot be had, those that the source keeps. Blocks.

        Raises ConfigError, every problem with its place.
        """
        missed: ConfigError | None = None
        try:
            loaded = self._look(anyway=True)
        except ConfigError as error:
            missed, loaded = error, self._kept(error)
        assert loaded is not None
        self._first = loaded, missed
        if self._current is None:
            self._current = loaded.policies
        return loaded.policies

    def _kept(self, missed: ConfigError) -> Loaded:
        try:
            kept = self._source.kept()
            if kept is None:
                raise missed
            return self._compiled(kept)
        except ConfigError as error:
            if error is missed:
                raise
            raise ConfigError(*missed.problems, *error.problems) from None

    async def start(self, ledger: Ledger, *, version: str, url: str) -> None:
        """Load unless that was done, record, and follow the source. Raises ConfigError, LedgerUnwritable."""
        self._ledger = ledger
        if self._first is None:
            await asyncio.to_thread(self.load)
        assert self._first is not None
        (first, missed), self._first = self._first, None
        await self._record(first, await self._last_recorded())
        started = events.started(
            version=version,
            url=url,
            policy_set=first.policies.version,
            source=self._source.described,
            commit=first.snapshot.commit,
        )
        await ledger.write(Entry(events=(started,)))
        await self._use(first)
        if isinstance(missed, SourceUnavailable):
            self._not_seen(missed)
        elif missed is not None:
            await self._refuse(missed)
        self._task = asyncio.create_task(self._follow(), name="policies")

    async def close(self) -> None:
        """Stop following."""
        self._source.close()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def reload_soon(self) -> None:
        """Look again soon, changed or not; for SIGHUP."""
        self._anyway = True
        self._source.wake()

    async def _follow(self) -> None:
        while True:
            await self._source.wait()
            anyway, self._anyway = self._anyway, False
            try:
                loaded = await asyncio.to_thread(self._look, anyway=anyway)
                if loaded is not None:
                    await self._until_recorded(loaded)
            except SourceUnavailable as error:
                self._not_seen(error)
            except ConfigError as error:
                if anyway or error.problems != self._refused:  # once, however often one looks
                    await self._until_recorded(error)
            except Exception as error:  # noqa: BLE001  one look that fails must not end the following for good
                log.error("policies-not-recorded", error=type(error).__name__)  # noqa: TRY400  no policy content in a log
                await asyncio.sleep(AGAIN)
                self.reload_soon()  # its source has told the news and would not tell it again

    def _not_seen(self, error: SourceUnavailable) -> None:
        self._unseen = True
        log.warning("policies-not-seen", problem=error.problems[0])

    async def _until_recorded(self, news: Loaded | ConfigError) -> None:
        while True:
            try:
                if isinstance(news, ConfigError):
                    return await self._refuse(news)
                return await self._take(news)
            except LedgerUnwritable:  # the old set goes on deciding until the new one is on record
                await asyncio.sleep(1)

    def _look(self, *, anyway: bool) -> Loaded | None:
        snapshot = self._source.look(anyway=anyway)
        self._unseen = False
        POLICIES_SEEN.set(self._source.seen)
        return None if snapshot is None else self._compiled(snapshot)

    def _compiled(self, snapshot: Snapshot) -> Loaded:
        try:
            limits = Guardrails()
            if snapshot.guardrails is not None:
                limits = read_guardrails(snapshot.guardrails, snapshot.guardrails_name)
            loaded = self._loader.load(
                snapshot.texts, self.world(limits), snapshot.problems, folders=folders_of(snapshot.texts)
            )
        except ConfigError as error:
            raise Rejected(snapshot.commit, *error.problems) from None
        return Loaded(snapshot, loaded)

    async def _take(self, loaded: Loaded) -> None:
        known = self.current
        if loaded.policies.version != known.version or self._refused:
            await self._record(loaded, _digests(known))
            await self._use(loaded)
        else:
            await asyncio.to_thread(self._source.taken, loaded.snapshot)

    async def _refuse(self, error: ConfigError) -> None:
        assert self._ledger is not None
        POLICY_LOADS.labels("rejected").inc()
        for problem in error.problems:
            log.error(
                "policies-rejected", problem=problem.partition(": ")[0]
            )  # the place; the text could hold policy content
        told = events.policy_rejected(
            problems=error.problems,
            policy_set=self.current.version,
            source=self._source.described,
            commit=error.commit if isinstance(error, Rejected) else None,
        )
        await self._ledger.write(Entry(events=(told,)))
        self._refused = error.problems

    async def _record(self, loaded: Loaded, before: Mapping[str, str]) -> None:
        assert self._ledger is not None
        fresh = loaded.policies
        now = _digests(fresh)
        changed = {name: digest for name, digest in now.items() if before.get(name) != digest}
        removed = sorted(before.keys() - now.keys())
        if changed or removed:
            told = events.policy_changed(
                policy_set=fresh.version,
                policies=changed,
                removed=removed,
                source=self._source.described,
                commit=loaded.snapshot.commit,
            )
            await self._ledger.write(Entry(policies=tuple(_texts(fresh, changed)), events=told))

    async def _last_recorded(self) -> Mapping[str, str]:
        """What the ledger last said was in force: name -> digest."""
        assert self._ledger is not None
        state: dict[str, str] = {}
        after = -1
        while found := await self._ledger.events(
            EventQuery(type="policy-changed", newest_first=False, after=after, limit=500)
        ):
            for event in found:
                body = event.body
                state |= body["policies"]
                for name in body.get("removed", ()):
                    state.pop(name, None)
            after = found[-1].seq
        return state

    async def _use(self, loaded: Loaded) -> None:
        fresh = loaded.policies
        self._current, self._refused = fresh, ()
        POLICY_LOADS.labels("loaded").inc()
        POLICIES.set(len(fresh.policies))
        log.info("policies", count=len(fresh.policies), version=fresh.version, commit=loaded.snapshot.commit)
        await asyncio.to_thread(self._source.taken, loaded.snapshot)


class Rejected(ConfigError):
    """A snapshot that does not load; `commit` is the one that says it."""

    def __init__(self, commit: str | None, *problems: str) -> None:
        super().__init__(*problems)
        self.commit = commit


def _digests(policies: PolicySet) -> dict[str, str]:
    digests = {name: policy.version for name, policy in policies.policies.items()}
    if policies.guardrails.document is not None:
        digests[GUARDRAILS] = f"sha256:{policies.guardrails.sha256}"
    return digests


def _texts(policies: PolicySet, changed: Mapping[str, str]) -> Iterator[PolicyVersion]:
    """From the set itself: a set that waits to be recorded keeps its own texts, whatever is loaded after it."""
    for name, digest in changed.items():
        text = policies.guardrails.text if name == GUARDRAILS else policies.policies[name].text
        yield PolicyVersion(sha256=digest.removeprefix("sha256:"), name=name, text=text)
