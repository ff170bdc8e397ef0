"""Reloading, with real files: whole or not at all, last good kept."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from broker.errors import ConfigError
from broker.issuers import ISSUERS
from broker.policy import Guardrails, PolicySet, load_guardrails, load_policies
from broker.policy.watch import PolicyWatcher
from tests.unit.policy.world import TARGETS, URLS, policy_text

LIMITS = "longest_ttl: {safe-kind: 1h}\n"


def put(path: Path, text: str) -> None:
    """Replace a file at once, as editors and deployments do; a half-written one would be a failure of its own."""
    fresh = path.with_name(f".{path.name}")
    fresh.write_text(text)
    fresh.replace(path)


class Watched:
    def __init__(self, root: Path, guardrails: Path) -> None:
        self.root, self.guardrails = root, guardrails
        self.loaded: asyncio.Queue[PolicySet] = asyncio.Queue()
        self.failed: asyncio.Queue[ConfigError] = asyncio.Queue()
        self.watcher = PolicyWatcher(
            self.load,
            folder=root,
            files=[guardrails],
            on_loaded=self.loaded.put_nowait,
            on_failed=self.failed.put_nowait,
            tick=0.1,
        )

    def load(self) -> PolicySet:
        limits = load_guardrails(self.guardrails)
        return load_policies(self.root, issuers=ISSUERS, issuer_urls=URLS, targets=TARGETS, guardrails=limits)

    async def next_loaded(self) -> PolicySet:
        return await asyncio.wait_for(self.loaded.get(), 20)

    async def next_failed(self) -> ConfigError:
        return await asyncio.wait_for(self.failed.get(), 20)


@pytest.fixture
async def watched(folder: Callable[..., Path], tmp_path: Path) -> AsyncIterator[Watched]:
    guardrails = tmp_path / "guardrails.yaml"
    guardrails.write_text(LIMITS)
    watched = Watched(folder({"a.yaml": policy_text()}), guardrails)
    await watched.watcher.start()
    yield watched
    await watched.watcher.close()


async def test_a_changed_file_is_loaded_and_a_bad_one_is_not(watched: Watched) -> None:
    first = watched.watcher.current
    (watched.root / "sub").mkdir()
    put(watched.root / "sub/b.yaml", policy_text().replace("payments", "other"))
    second = await watched.next_loaded()
    assert watched.watcher.current is second
    assert set(second.policies) == {"payments", "other"}
    assert set(first.policies) == {"payments"}, "a set never changes"
    put(watched.root / "a.yaml", policy_text().replace("ttl: 15m", "ttl: 15"))
    error = await watched.next_failed()
    assert "a.yaml" in str(error)
    assert watched.watcher.current is second, "the last good set stays, whole"
    (watched.root / "a.yaml").unlink()
    assert set((await watched.next_loaded()).policies) == {"other"}


async def test_the_same_content_again_ends_a_failure(watched: Watched) -> None:
    before = watched.watcher.current.version
    put(watched.root / "a.yaml", "[")
    await watched.next_failed()
    put(watched.root / "a.yaml", policy_text())
    assert (await watched.next_loaded()).version == before


async def test_guardrails_are_watched_and_may_be_replaced(watched: Watched) -> None:
    put(watched.guardrails, "longest_ttl: {safe-kind: 1m}\n")
    assert "live 1m at most" in str(await watched.next_failed())
    put(watched.guardrails, "longest_ttl: {safe-kind: 2h}\n")
    await watched.next_loaded()


async def test_a_folder_that_vanishes_keeps_the_last_good_set(watched: Watched) -> None:
    good = watched.watcher.current
    watched.root.rename(watched.root.with_name("moved"))
    assert "no such folder" in str(await watched.next_failed())
    assert watched.watcher.current is good
    watched.root.with_name("moved").rename(watched.root)
    await watched.next_loaded()


async def test_a_reload_may_be_asked_for(watched: Watched) -> None:
    assert await watched.watcher.reload()
    assert watched.loaded.empty(), "nothing changed, so nobody is told"
    watched.watcher.request_reload()
    await watched.watcher.close()


async def test_reloads_do_not_overlap(folder: Callable[..., Path]) -> None:
    running = most = 0

    def load() -> PolicySet:
        nonlocal running, most
        running += 1
        most = max(most, running)
        found = load_policies(root, issuers=ISSUERS, issuer_urls=URLS, targets=TARGETS, guardrails=Guardrails())
        running -= 1
        return found

    root = folder({"a.yaml": policy_text()})
    watcher = PolicyWatcher(load, folder=root)
    await asyncio.gather(*(watcher.reload() for _ in range(8)))
    assert most == 1


async def test_a_broker_does_not_start_on_policies_it_cannot_read(folder: Callable[..., Path]) -> None:
    root = folder({"a.yaml": "["})
    watcher = PolicyWatcher(
        lambda: load_policies(root, issuers=ISSUERS, issuer_urls=URLS, targets=TARGETS, guardrails=Guardrails()),
        folder=root,
    )
    with pytest.raises(RuntimeError):
        _ = watcher.current
    with pytest.raises(ConfigError):
        await watcher.start()
