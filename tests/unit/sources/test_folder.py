"""A folder that is watched, with real files: every change is noticed, and only what changed is read again."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broker.errors import ConfigError
from broker.policy.load import PolicyText
from broker.policy.load import read_one as truly_read
from broker.sources import Snapshot, folder
from broker.sources.folder import FolderSource
from tests.unit.policy.world import policy_text

LONG = 20.0


def put(path: Path, text: str) -> None:
    """Replace a file at once, as editors and deployments do."""
    fresh = path.with_name(f".{path.name}")
    fresh.write_text(text)
    fresh.replace(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "policies"
    (root / "sub").mkdir(parents=True)
    put(root / "a.yaml", "a")
    put(root / "sub/b.yaml", "b")
    put(tmp_path / "guardrails.yaml", "limits")
    return root


@pytest.fixture
def source(root: Path) -> FolderSource:
    return FolderSource(root, root.parent / "guardrails.yaml", tick=0.1)


def seen(snapshot: Snapshot | None) -> dict[str, bytes]:
    assert snapshot is not None
    assert not snapshot.problems
    return {text.file: text.data for text in snapshot.texts}


async def change(source: FolderSource, act: Callable[[], Any]) -> Snapshot | None:
    waiting = asyncio.create_task(source.wait())
    await asyncio.sleep(0)
    await asyncio.to_thread(act)
    await asyncio.wait_for(waiting, LONG)
    return source.look()


def test_a_look_tells_all_and_a_second_one_nothing(source: FolderSource) -> None:
    before = time.time()
    first = source.look()
    assert seen(first) == {"a.yaml": b"a", "sub/b.yaml": b"b"}
    assert first is not None
    assert (first.guardrails, first.commit, source.described) == (b"limits", None, "folder")
    assert before <= source.seen <= time.time()
    assert source.look() is None
    assert seen(source.look(anyway=True)) == seen(first)
    assert source.kept() is None


async def test_whatever_changes_is_noticed(source: FolderSource, root: Path) -> None:
    source.look()
    (root / "new").mkdir()
    assert seen(await change(source, lambda: put(root / "new/c.yaml", "c")))["new/c.yaml"] == b"c"
    assert seen(await change(source, lambda: put(root / "a.yaml", "A")))["a.yaml"] == b"A"
    assert "a.yaml" not in seen(await change(source, (root / "a.yaml").unlink))
    limited = await change(source, lambda: put(root.parent / "guardrails.yaml", "other"))
    assert limited is not None
    assert limited.guardrails == b"other"


async def test_a_change_between_a_look_and_the_watching_is_not_missed(source: FolderSource, root: Path) -> None:
    source.look()
    put(root / "a.yaml", "while nobody watched")
    await asyncio.wait_for(source.wait(), LONG)
    assert seen(source.look())["a.yaml"] == b"while nobody watched"


async def test_a_config_map_that_kubernetes_swaps(tmp_path: Path) -> None:
    root = tmp_path / "mounted"
    for name, text in (("..1", "old"), ("..2", "new")):
        (root / name).mkdir(parents=True)
        put(root / name / "a.yaml", text)
    (root / "..data").symlink_to("..1")
    (root / "a.yaml").symlink_to("..data/a.yaml")
    source = FolderSource(root, tick=0.1)
    assert seen(source.look()) == {"a.yaml": b"old"}

    def swap() -> None:
        (root / "..next").symlink_to("..2")
        (root / "..next").rename(root / "..data")

    assert seen(await change(source, swap)) == {"a.yaml": b"new"}


async def test_it_is_woken(root: Path) -> None:
    source = FolderSource(root, tick=1000)
    source.look()
    waiting = asyncio.create_task(source.wait())
    await asyncio.sleep(0.01)
    source.wake()
    await asyncio.wait_for(waiting, LONG)
    assert source.look() is None
    source.wake()
    source.wake()  # before anybody waits
    await asyncio.wait_for(source.wait(), LONG)


async def test_a_folder_that_vanishes_and_comes_back(source: FolderSource, root: Path) -> None:
    source.look()
    gone = await change(source, lambda: root.rename(root.with_name("moved")))
    assert gone is not None
    assert "no such folder" in gone.problems[0]
    assert seen(await change(source, lambda: root.with_name("moved").rename(root))) == {
        "a.yaml": b"a",
        "sub/b.yaml": b"b",
    }


async def test_a_folder_without_anything_to_watch_is_looked_at_by_the_clock(tmp_path: Path) -> None:
    source = FolderSource(tmp_path / "later", tick=0.05)
    source.look()
    assert seen(await change(source, (tmp_path / "later").mkdir)) == {}
    assert seen(await change(source, lambda: put(tmp_path / "later/a.yaml", "a"))) == {"a.yaml": b"a"}


async def test_a_watch_that_breaks_does_not_end_the_watching(
    source: FolderSource, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise OSError("no more inotify watches")

    monkeypatch.setattr(folder, "awatch", broken)
    source.look()
    assert seen(await change(source, lambda: put(root / "a.yaml", "A")))["a.yaml"] == b"A"


def test_guardrails_that_cannot_be_read_are_said_once_a_change(source: FolderSource, root: Path) -> None:
    (root.parent / "guardrails.yaml").unlink()
    with pytest.raises(ConfigError, match=r"guardrails\.yaml:1:1: cannot be read"):
        source.look()
    assert source.look() is None
    put(root.parent / "guardrails.yaml", "back")
    found = source.look()
    assert found is not None
    assert found.guardrails == b"back"


# ---- what is read again


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were opened, as it happens."""
    files: list[str] = []

    def counting(path: Path, file: str, problems: list[str], *, within: Path | None = None) -> PolicyText | None:
        files.append(file)
        return truly_read(path, file, problems, within=within)

    monkeypatch.setattr(folder, "read_one", counting)
    return files


def settle(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every change of so far be long ago."""
    now = time.time_ns()
    monkeypatch.setattr(folder.time, "time_ns", lambda: now + 10_000_000_000)


def test_only_what_changed_is_read_again(
    source: FolderSource, root: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(root, monkeypatch)
    first = source.look()
    assert sorted(reads) == ["a.yaml", "sub/b.yaml"]
    reads.clear()
    put(root / "a.yaml", "A")
    second = source.look()
    assert reads == ["a.yaml"]
    assert seen(second) == {"a.yaml": b"A", "sub/b.yaml": b"b"}
    assert first is not None
    assert second is not None
    assert second.texts[1] is first.texts[1]


def test_the_same_size_time_and_place_do_not_hide_a_change(
    source: FolderSource, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`touch -r`, a restored backup: size, inode and mtime are what they were. The kernel's own ctime is not."""
    settle(root, monkeypatch)
    source.look()
    found = (root / "a.yaml").stat()
    time.sleep(0.02)  # beyond the tick of the file system's clock
    (root / "a.yaml").write_text("Z")
    os.utime(root / "a.yaml", ns=(found.st_atime_ns, found.st_mtime_ns))
    after = (root / "a.yaml").stat()
    assert (after.st_mtime_ns, after.st_size, after.st_ino) == (found.st_mtime_ns, found.st_size, found.st_ino)
    assert seen(source.look())["a.yaml"] == b"Z"


def test_what_changed_a_moment_ago_is_read_again_anyway(source: FolderSource, root: Path, reads: list[str]) -> None:
    """Within one tick of its clock a file system gives two changes the same stamp."""
    source.look()
    reads.clear()
    source.look(anyway=True)
    assert sorted(reads) == ["a.yaml", "sub/b.yaml"]


def test_a_link_that_comes_to_lead_out_of_the_folder_is_a_problem(
    source: FolderSource, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(root, monkeypatch)
    (root / "link.yaml").symlink_to("a.yaml")
    assert "link.yaml" in seen(source.look())
    put(root.parent / "outside.yaml", "outside")
    (root / "link.yaml").unlink()
    (root / "link.yaml").symlink_to(root.parent / "outside.yaml")
    found = source.look()
    assert found is not None
    assert "leads out of the folder" in found.problems[0]


def test_a_real_policy_reads_as_it_is(source: FolderSource, root: Path) -> None:
    put(root / "a.yaml", policy_text())
    assert seen(source.look())["a.yaml"] == policy_text().encode()
