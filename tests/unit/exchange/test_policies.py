"""Policies that change faster than they are recorded, and ledgers that fail meanwhile: what an event names is stored.

A real folder, watcher and ledger. Loads and commits are held open where it matters.
"""

import asyncio
import hashlib
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from broker.backends import BACKENDS
from broker.errors import LedgerUnwritable
from broker.exchange.policies import Loaded, Policies
from broker.issuers import ISSUERS
from broker.keys.files import FileKeyStore
from broker.ledger.fsck import verify_database
from broker.ledger.records import Entry, EventQuery
from broker.ledger.store import Ledger
from broker.policy import Target
from broker.sources.folder import FolderSource
from tests.e2e.broker_process import POLICY

SOON = 5.0


class Stopping(Policies):
    """A load that read its files waits, in its thread, until it may say so."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.read, self.may_tell = threading.Event(), threading.Event()
        self.may_tell.set()

    def _look(self, *, anyway: bool) -> Loaded | None:
        loaded = super()._look(anyway=anyway)
        self.read.set()
        assert self.may_tell.wait(SOON)
        return loaded


def text(ttl: int) -> str:
    grant = f'  deploy: {{backend: token, ttl: {ttl}m, with: {{audience: "https://deploy.acme.example"}}}}'
    return POLICY.format(grants=grant, names="deploy")


def digest(ttl: int) -> str:
    return hashlib.sha256(text(ttl).encode()).hexdigest()


@dataclass
class Scene:
    ledger: Ledger
    policies: Stopping
    folder: Path
    database: Path
    before: Callable[[Entry], Awaitable[None]] | None = None  # each commit of the policies; it may wait, or raise

    def write(self, ttl: int) -> None:
        """Another text of the same policy: its grant lasts so many minutes."""
        whole = self.folder / "payments.new"
        whole.write_text(text(ttl))
        whole.rename(self.folder / "payments.yaml")  # at once: the watcher looks whenever it likes

    def reload(self, ttl: int) -> None:
        self.write(ttl)
        self.policies.reload_soon()

    @property
    def ttl(self) -> float:
        """Of the set in force, in minutes."""
        return self.policies.current.grants["payments/deploy"][1].ttl.total_seconds() / 60

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(SOON):
            while not condition():
                await asyncio.sleep(0.01)

    async def loaded(self) -> set[str]:
        """Every version of the policy that the ledger says was in force; the books prove that each text is stored."""
        report = verify_database(self.database, self.ledger.key)
        assert report.ok, [str(problem) for problem in report.problems]
        changes = await self.ledger.events(EventQuery(type="policy-changed"))
        named = {digest.removeprefix("sha256:") for event in changes for digest in event.body["policies"].values()}
        connection = sqlite3.connect(self.database)
        try:
            stored = {sha256 for (sha256,) in connection.execute("SELECT sha256 FROM policy_versions")}
        finally:
            connection.close()
        assert named == stored
        return named


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    path, folder = tmp_path / "ledger.db", tmp_path / "policies"
    folder.mkdir()
    ledger = await Ledger.open(f"sqlite:///{path}", keys=FileKeyStore(tmp_path / "keys"), origin="broker.example")
    backend = BACKENDS["identity-token"]
    target = Target(
        backend="token", kind="identity-token", options=backend.Options, params=backend.Params, shortest=backend.shortest,
        longest=backend.longest,
    )  # fmt: skip
    (tmp_path / "guardrails.yaml").write_text("longest_ttl: {identity-token: 1h}\n")
    policies = Stopping(
        FolderSource(folder, tmp_path / "guardrails.yaml"), issuers={"ci": ISSUERS["github"]},
        issuer_urls={"ci": "https://token.actions.githubusercontent.com"}, targets={"token": target},
    )  # fmt: skip
    scene = Scene(ledger, policies, folder, path)
    scene.write(10)
    await policies.start(ledger, version="1", url="https://broker.example")
    commit = ledger.write

    async def write(entry: Entry) -> None:
        if scene.before is not None:
            await scene.before(entry)
        await commit(entry)

    ledger.write = write  # type: ignore[method-assign]
    yield scene
    policies.may_tell.set()
    await policies.close()
    await ledger.close()


async def test_sets_that_come_while_another_is_recorded_keep_their_texts(scene: Scene) -> None:
    waiting, go_on = asyncio.Event(), asyncio.Event()

    async def before(_: Entry) -> None:
        waiting.set()
        await go_on.wait()

    scene.before = before
    scene.reload(11)
    async with asyncio.timeout(SOON):
        await waiting.wait()
    for ttl in (12, 13):
        scene.reload(ttl)
    assert scene.ttl == 10  # not on record, not in force
    go_on.set()
    await scene.until(lambda: scene.ttl == 13)
    assert await scene.loaded() >= {digest(10), digest(11), digest(13)}


async def test_what_changes_while_a_set_is_loaded_is_seen_next(scene: Scene) -> None:
    scene.policies.read.clear()
    scene.policies.may_tell.clear()
    scene.reload(11)
    await scene.until(scene.policies.read.is_set)  # and nobody in the loop knows of it yet
    scene.write(12)
    scene.policies.may_tell.set()
    await scene.until(lambda: scene.ttl == 12)
    assert await scene.loaded() >= {digest(10), digest(11), digest(12)}


async def test_a_text_that_comes_back_is_in_force_again(scene: Scene) -> None:
    for ttl in (11, 10, 11):
        scene.reload(ttl)
        await scene.until(lambda: scene.ttl == ttl)  # noqa: B023  it is called here
    assert len(await scene.loaded()) == 2 + 1


async def test_guardrails_that_change_alone_are_stored_too(scene: Scene) -> None:
    before = scene.policies.current
    text = "longest_ttl: {identity-token: 2h}  # für alle\n"
    (scene.folder.parent / "guardrails.yaml").write_text(text, encoding="utf-8")
    scene.policies.reload_soon()
    await scene.until(lambda: scene.policies.current.version != before.version)
    assert scene.policies.current.policies["payments"].version == before.policies["payments"].version
    assert len(await scene.loaded()) == 3


@pytest.mark.parametrize("error", [LedgerUnwritable("full"), RuntimeError("a surprise")], ids=["full", "a surprise"])
async def test_a_set_that_could_not_be_recorded_does_not_end_reloading(scene: Scene, error: Exception) -> None:
    failed = asyncio.Event()

    async def before(_: Entry) -> None:
        if not failed.is_set():
            failed.set()
            raise error

    scene.before = before
    scene.reload(11)
    async with asyncio.timeout(SOON):
        await failed.wait()
    assert scene.ttl == 10
    await scene.until(lambda: scene.ttl == 11)  # by itself, once the ledger takes it
    scene.reload(12)
    await scene.until(lambda: scene.ttl == 12)
    await scene.loaded()


async def test_a_refused_set_is_an_event_and_the_next_good_one_comes_into_force(scene: Scene) -> None:
    (scene.folder / "payments.yaml").write_text("policy: [\n")
    scene.policies.reload_soon()
    async with asyncio.timeout(SOON):
        while not await scene.ledger.events(EventQuery(type="policy-rejected")):
            await asyncio.sleep(0.01)
    assert scene.ttl == 10
    scene.reload(11)
    await scene.until(lambda: scene.ttl == 11)
    assert len(await scene.loaded()) == 2 + 1
