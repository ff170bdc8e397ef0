"""The policies in force: loaded, watched, recorded, and only then used.

A new set is in the ledger, text and all, before the first request is judged by it, so that an event can name for good
what decided it. A set that does not load changes nothing, and is recorded too.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import structlog

from broker.errors import ConfigError, LedgerUnwritable
from broker.issuers.seam import IssuerKind
from broker.ledger import events
from broker.ledger.records import Entry, EventQuery, PolicyVersion
from broker.ledger.store import Ledger
from broker.metrics import POLICIES, POLICY_LOADS
from broker.policy import PolicySet, Target, load_policies
from broker.policy.guardrails import Guardrails, read_guardrails
from broker.policy.watch import PolicyWatcher

log: Final = structlog.get_logger("jobkey.policies")

GUARDRAILS: Final = "guardrails.yaml"  # its name among the stored versions; a policy's name has no dot


class Policies:
    """`load` for one look, or `start` and `close` around a broker's life."""

    def __init__(
        self,
        folder: Path,
        guardrails: Path | None,
        *,
        issuers: Mapping[str, IssuerKind],
        issuer_urls: Mapping[str, str],
        targets: Mapping[str, Target],
    ) -> None:
        self._folder, self._guardrails = folder, guardrails
        self._issuers, self._urls, self._targets = issuers, issuer_urls, targets
        self._current: PolicySet | None = None
        self._ledger: Ledger | None = None
        self._watcher: PolicyWatcher | None = None
        self._news: asyncio.Queue[PolicySet | ConfigError] = asyncio.Queue()
        self._recorder: asyncio.Task[None] | None = None

    @property
    def current(self) -> PolicySet:
        """The set that decides. Read it once per request, so that one request sees one set."""
        if self._current is None:
            raise RuntimeError("no policies were loaded; call load() or start() first")
        return self._current

    def load(self) -> PolicySet:
        """Read guardrails and policies. Raises ConfigError, every problem with its place."""
        text = b""
        if self._guardrails is not None:
            try:
                text = self._guardrails.read_bytes()
            except OSError as error:
                raise ConfigError(f"{self._guardrails}:1:1: cannot be read: {error.strerror}") from None
        guardrails = read_guardrails(text, str(self._guardrails)) if self._guardrails else Guardrails()
        loaded = load_policies(
            self._folder, issuers=self._issuers, issuer_urls=self._urls, targets=self._targets, guardrails=guardrails
        )
        if self._current is None:
            self._current = loaded
        return loaded

    async def start(self, ledger: Ledger, *, version: str, url: str) -> None:
        """Load, record, and watch. Raises ConfigError, LedgerUnwritable."""
        self._ledger = ledger
        files = (self._guardrails,) if self._guardrails else ()
        self._watcher = PolicyWatcher(
            self.load,
            folder=self._folder,
            files=files,
            on_loaded=self._news.put_nowait,
            on_failed=self._news.put_nowait,
        )
        first = await self._watcher.start()
        await self._record(first, await self._last_recorded())
        await ledger.write(Entry(events=(events.started(version=version, url=url, policy_set=first.version),)))
        self._use(first)
        self._recorder = asyncio.create_task(self._follow(), name="policy-recorder")

    async def close(self) -> None:
        """Stop watching."""
        if self._watcher is not None:
            await self._watcher.close()
        if self._recorder is not None:
            self._recorder.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._recorder

    def reload_soon(self) -> None:
        """For SIGHUP."""
        if self._watcher is not None:
            self._watcher.request_reload()

    async def _follow(self) -> None:
        while True:
            news = await self._news.get()
            while True:
                try:
                    await self._take(news)
                    break
                except LedgerUnwritable:  # the old set goes on deciding until the new one is on record
                    await asyncio.sleep(1)
                except Exception as error:  # noqa: BLE001  one set that cannot be recorded must not end reloading for good
                    log.error("policies-not-recorded", error=type(error).__name__)  # noqa: TRY400  no policy content in a log
                    break

    async def _take(self, news: PolicySet | ConfigError) -> None:
        assert self._ledger is not None
        if isinstance(news, ConfigError):
            POLICY_LOADS.labels("rejected").inc()
            for problem in news.problems:
                log.error(
                    "policies-rejected", problem=problem.partition(": ")[0]
                )  # the place; the text could hold policy content
            await self._ledger.write(
                Entry(events=(events.policy_rejected(problems=news.problems, policy_set=self.current.version),))
            )
            return
        await self._record(news, _digests(self.current))
        self._use(news)

    async def _record(self, fresh: PolicySet, before: Mapping[str, str]) -> None:
        assert self._ledger is not None
        now = _digests(fresh)
        changed = {name: digest for name, digest in now.items() if before.get(name) != digest}
        removed = sorted(before.keys() - now.keys())
        versions = tuple(text for text in _texts(fresh) if f"sha256:{text.sha256}" in changed.values())
        if changed or removed:
            told = events.policy_changed(policy_set=fresh.version, policies=changed, removed=removed)
            await self._ledger.write(Entry(policies=versions, events=told))

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

    def _use(self, fresh: PolicySet) -> None:
        self._current = fresh
        POLICY_LOADS.labels("loaded").inc()
        POLICIES.set(len(fresh.policies))
        log.info("policies", count=len(fresh.policies), version=fresh.version)


def _digests(policies: PolicySet) -> dict[str, str]:
    digests = {name: policy.version for name, policy in policies.policies.items()}
    if policies.guardrails.document is not None:
        digests[GUARDRAILS] = f"sha256:{policies.guardrails.sha256}"
    return digests


def _texts(policies: PolicySet) -> Iterator[PolicyVersion]:
    """From the set itself: a set that waits to be recorded keeps its own texts, whatever is loaded after it."""
    for source in policies.sources:
        yield PolicyVersion(sha256=source.sha256, name=source.name, text=source.text)
    if policies.guardrails.document is not None:
        yield PolicyVersion(sha256=policies.guardrails.sha256, name=GUARDRAILS, text=policies.guardrails.text)
