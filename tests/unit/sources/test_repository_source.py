"""Following a git repository: what is taken, what is refused, and what a broken server or mirror changes (nothing)."""

import asyncio
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.errors import ConfigError
from broker.sources import Snapshot, SourceUnavailable, repository
from broker.sources.command import Git
from broker.sources.repository import RepositorySource
from broker.sources.settings import GitPolicies
from tests.servers.git_http import GitHttp
from tests.unit.sources.repository import Repository


class Place:
    """A repository with policies, and sources that follow it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.origin = Repository(folder / "origin")
        self.first = self.write(1)

    def write(self, number: int, *options: str) -> str:
        return self.origin.commit(
            {"policies/a.yaml": f"a{number}", "limits.yaml": f"limits{number}"}, *options, message=str(number)
        )

    def source(self, own: Path | None = None, **settings: Any) -> RepositorySource:
        told = GitPolicies.model_validate(
            {"git": f"file://{self.origin.folder}", **settings}, context={"folder": self.folder}
        )
        return RepositorySource(told, mirror=self.folder / "data/policies.git", folder=self.folder, guardrails=own)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def seen(snapshot: Snapshot | None) -> tuple[str | None, bytes]:
    assert snapshot is not None
    (text,) = snapshot.texts
    return snapshot.commit, text.data


def refused(look: Callable[[], object]) -> str:
    with pytest.raises(ConfigError) as caught:
        look()
    assert not isinstance(caught.value, SourceUnavailable)
    (problem,) = caught.value.problems
    return problem


# ---- following


def test_it_sees_each_commit_once(place: Place) -> None:
    source = place.source()
    assert seen(source.look()) == (place.first, b"a1")
    assert source.look() is None
    second = place.write(2)
    assert seen(source.look()) == (second, b"a2")
    assert source.look() is None
    assert seen(source.look(anyway=True)) == (second, b"a2")
    assert 0 < source.seen <= time.time()
    assert source.described == f"file://{place.origin.folder} refs/heads/main policies"


def test_other_branches_and_tags_are_not_looked_at(place: Place) -> None:
    source = place.source()
    source.look()
    place.origin("checkout", "-q", "-b", "evil")
    place.write(666)
    place.origin("tag", "v666")
    place.origin("tag", "main")  # ambiguous for people; not for a full ref
    assert source.look() is None
    mirror = Repository.at(place.folder / "data/policies.git")
    assert "666" not in mirror("log", "--all", "--format=%s")


def test_what_was_taken_is_kept_for_a_start_without_the_server(place: Place) -> None:
    source = place.source()
    first = source.look()
    assert source.kept() is None, "seen is not taken"
    assert first is not None
    source.taken(first)
    place.write(2)
    source.look()
    assert seen(source.kept()) == (place.first, b"a1")
    place.origin.folder.rename(place.folder / "moved")
    later = place.source()
    with pytest.raises(SourceUnavailable, match="cannot be fetched"):
        later.look()
    assert later.seen == pytest.approx(source.seen, abs=1)  # when the server was there, not when this source began
    assert seen(later.kept()) == (place.first, b"a1")


def test_a_server_that_comes_back_is_seen_again(place: Place) -> None:
    source = place.source()
    source.look()
    place.origin.folder.rename(place.folder / "moved")
    for _ in range(2):
        with pytest.raises(SourceUnavailable):
            source.look()
    (place.folder / "moved").rename(place.origin.folder)
    assert source.look() is None
    assert seen(source.look(anyway=True))[0] == place.first


def test_another_repository_begins_a_history_anew(place: Place, tmp_path: Path) -> None:
    source = place.source()
    first = source.look()
    assert first is not None
    source.taken(first)
    other = Repository(tmp_path / "other")
    commit = other.commit({"policies/a.yaml": "other"})
    elsewhere = place.source(git=f"file://{other.folder}")
    assert elsewhere.kept() is None
    assert seen(elsewhere.look()) == (commit, b"other")


def test_a_branch_that_is_not_there(place: Place) -> None:
    with pytest.raises(SourceUnavailable, match="refs/heads/gone"):
        place.source(ref="refs/heads/gone").look()


def test_a_folder_that_is_not_there(place: Place) -> None:
    assert "no such folder" in refused(place.source(path="elsewhere").look)


def test_what_is_wrong_is_said_once_a_commit(place: Place) -> None:
    source = place.source()
    source.look()
    place.origin.commit({"policies/b.yml": "x"})
    assert "rename it" in refused(source.look)
    assert source.look() is None
    assert "rename it" in refused(lambda: source.look(anyway=True))


# ---- guardrails


def test_guardrails_of_the_repository(place: Place) -> None:
    source = place.source(guardrails="limits.yaml")
    found = source.look()
    assert found is not None
    assert (found.guardrails, found.guardrails_name) == (b"limits1", f"{place.first[:12]}:limits.yaml")
    place.origin.commit({"limits.yaml": None})
    assert "there are no guardrails at this commit" in refused(source.look)


def test_guardrails_of_the_broker_itself(place: Place) -> None:
    limits = place.folder / "guardrails.yaml"
    limits.write_text("mine")
    source = place.source(own=limits)
    found = source.look()
    assert found is not None
    assert (found.guardrails, found.guardrails_name) == (b"mine", str(limits))
    limits.write_text("changed")
    found = source.look()
    assert found is not None
    assert (found.guardrails, found.commit) == (b"changed", place.first)
    limits.unlink()
    assert "cannot be read" in refused(source.look)


# ---- history


def taken(source: RepositorySource) -> str | None:
    found = source.look()
    assert found is not None
    source.taken(found)
    return found.commit


def test_a_history_that_was_turned_back_is_refused(place: Place) -> None:
    second = place.write(2)
    source = place.source()
    assert taken(source) == second
    place.origin("reset", "-q", "--hard", place.first)
    said = refused(source.look)
    assert f"does not follow {second[:12]}" in said
    assert "rewrites: take" in said
    assert seen(source.kept()) == (second, b"a2")
    third = place.write(3)  # upon the first
    assert "does not follow" in refused(source.look)
    place.origin("merge", "-q", "-s", "ours", "-m", "back", second)
    merged = place.origin("rev-parse", "HEAD")
    assert seen(source.look()) == (merged, b"a3")
    assert third != merged


def test_a_rewrite_is_taken_where_that_is_said(place: Place) -> None:
    place.write(2)
    taken(place.source())
    place.origin("reset", "-q", "--hard", place.first)
    assert seen(place.source(rewrites="take").look()) == (place.first, b"a1")


def test_a_commit_that_was_never_in_force_may_be_taken_back(place: Place) -> None:
    source = place.source()
    taken(source)
    place.write(2)
    source.look()  # and it did not load
    place.origin("reset", "-q", "--hard", place.first)
    third = place.write(3)
    assert seen(source.look()) == (third, b"a3")


# ---- a mirror that was left in the middle of something


def test_what_a_killed_broker_left_behind_is_cleared(place: Place) -> None:
    source = place.source()
    taken(source)
    mirror = place.folder / "data/policies.git"
    (mirror / "objects/pack").mkdir(exist_ok=True)
    (mirror / "objects/pack/tmp_pack_x").write_bytes(b"half")
    (ref,) = mirror.glob("refs/jobkey/*/current")
    ref.with_name("fetched.lock").touch()
    ref.with_name("current.lock").touch()
    second = place.write(2)
    assert taken(place.source()) == second
    assert not list(mirror.glob("objects/pack/tmp_*"))


def test_the_mirror_is_nobody_elses_to_read(place: Place) -> None:
    place.source().look()
    assert stat.S_IMODE((place.folder / "data/policies.git").stat().st_mode) == 0o700


def test_a_repository_that_is_too_large_is_stopped(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    source = place.source()
    source.look()
    monkeypatch.setattr(repository, "LARGEST_MIRROR", 0)
    pack = place.folder / "data/policies.git/objects/pack"
    pack.mkdir(exist_ok=True)
    (pack / "pack-x.pack").write_bytes(b"large")
    assert source._why_stop() is not None


def test_a_look_ends_when_the_broker_closes(place: Place) -> None:
    source = place.source()
    source.look()
    source.close()
    place.write(2)
    with pytest.raises(SourceUnavailable, match="the broker is closing"):
        source.look()


def test_nothing_of_the_repository_is_run(place: Place, tmp_path: Path) -> None:
    trap = tmp_path / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    place.origin.commit(
        {
            ".gitattributes": "* filter=trap diff=trap\n",
            ".gitconfig": f"[core]\n fsmonitor = {trap}\n",
        }
    )
    assert seen(place.source().look())[1] == b"a1"
    place.origin.commit({".gitmodules": f'[submodule "m"]\n path = m\n url = ext::{trap}\n update = !{trap}\n'})
    with pytest.raises(SourceUnavailable, match="gitmodules"):  # git's own fsck, before anything is kept
        place.source().look()
    assert not (tmp_path / "sprung").exists()


# ---- what is cut short


def slow(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """git is stopped for its time at this command."""
    run = Git.run

    def stopped(self: Git, *arguments: str, **named: Any) -> bytes:
        return run(self, *arguments, **({**named, "timeout": -1.0} if arguments[0] == command else named))

    monkeypatch.setattr(Git, "run", stopped)


def test_a_rewritten_history_is_not_taken_while_the_mirror_cannot_be_read(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = place.source()
    for number in (2, 3):
        place.write(number)
        found = source.look()
        assert found is not None
        source.taken(found)
    place.origin("reset", "-q", "--hard", place.first)
    for command in ("rev-parse", "merge-base"):
        with monkeypatch.context() as patch:
            slow(patch, command)
            with pytest.raises(SourceUnavailable):
                source.look()
    assert "was rewritten or turned back" in refused(source.look)


@pytest.mark.parametrize("command", ["ls-tree", "cat-file"])
def test_a_commit_that_was_not_read_to_its_end_is_read_again(
    place: Place, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    source = place.source()
    with monkeypatch.context() as patch:
        slow(patch, command)
        with pytest.raises(SourceUnavailable, match="took too long"):
            source.look()
    assert seen(source.look()) == (place.first, b"a1")


# ---- how long ago


def test_an_outage_is_as_long_after_a_restart(place: Place) -> None:
    assert place.source().seen == 0.0
    source = place.source()
    source.look()
    long_ago = time.time() - 7200
    (reached,) = (place.folder / "data/policies.git").glob("jobkey-reached-*")
    os.utime(reached, (long_ago, long_ago))
    place.origin.folder.rename(place.folder / "moved")
    again = place.source()
    with pytest.raises(SourceUnavailable):
        again.look()
    assert again.seen == pytest.approx(long_ago, abs=1)
    assert place.source(ref="refs/heads/other").seen == 0.0  # another place was never reached


@pytest.mark.parametrize(("limit", "good"), [("2m", True), ("119s", False), ("1h", True)])
def test_a_limit_is_longer_than_one_fetch_that_fails(place: Place, limit: str, good: bool) -> None:
    if good:
        assert place.source(interval="1m", stale_after=limit)
        return
    with pytest.raises(ValueError, match="at least twice the interval"):
        place.source(interval="1m", stale_after=limit)


# ---- waiting


async def test_it_waits_for_its_interval_or_to_be_woken(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "NOT_OFTENER", 0.0)
    source = place.source(interval="1h")
    waiting = asyncio.create_task(source.wait())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    source.wake()
    await asyncio.wait_for(waiting, 20)
    source.wake()
    await asyncio.wait_for(source.wait(), 20)  # also where it came while nobody waited
    source.close()
    await asyncio.wait_for(source.wait(), 20)


async def test_webhooks_do_not_make_it_fetch_without_pause(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "NOT_OFTENER", 3600.0)
    source = place.source(interval="2h")
    source.wake()
    waiting = asyncio.create_task(source.wait())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    waiting.cancel()


# ---- over http, with a credential


@pytest.fixture
def server(place: Place) -> Iterator[GitHttp]:
    with GitHttp(place.folder, token="s3cr3t-t0ken") as server:
        yield server


def over_http(place: Place, server: GitHttp, **settings: Any) -> RepositorySource:
    return place.source(git=f"{server.url}/origin/.git", **settings)


def test_a_token_reaches_the_server_and_nobody_else(
    place: Place, server: GitHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLICIES_TOKEN", "s3cr3t-t0ken")
    assert seen(over_http(place, server, credentials={"token": "env:POLICIES_TOKEN"}).look())[0] == place.first
    assert server.refusals == 0
    for path in (place.folder / "data").rglob("*"):
        if path.is_file():
            assert b"s3cr3t" not in path.read_bytes(), path


def test_a_wrong_or_missing_token_is_said_without_it(
    place: Place, server: GitHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLICIES_TOKEN", "wr0ng-t0ken")
    with pytest.raises(SourceUnavailable) as caught:
        over_http(place, server, credentials={"token": "env:POLICIES_TOKEN"}).look()
    assert "wr0ng" not in str(caught.value)
    with pytest.raises(SourceUnavailable, match="cannot be fetched"):
        over_http(place, server).look()
    with pytest.raises(SourceUnavailable, match=r"env:NOWHERE is not set"):
        over_http(place, server, credentials={"token": "env:NOWHERE"}).look()
    assert server.refusals >= 2


def test_a_netrc_is_not_read(place: Place, server: GitHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    (place.folder / ".netrc").write_text("machine 127.0.0.1 login x-access-token password s3cr3t-t0ken\n")
    (place.folder / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(place.folder))
    with pytest.raises(SourceUnavailable):
        over_http(place, server).look()


def test_a_redirect_is_not_followed(place: Place, server: GitHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLICIES_TOKEN", "s3cr3t-t0ken")
    with GitHttp(place.folder, redirect=server.url) as bouncer:
        with pytest.raises(SourceUnavailable):
            over_http(place, bouncer, credentials={"token": "env:POLICIES_TOKEN"}).look()
        assert bouncer.requests == 1
    assert server.requests == 0


def test_the_token_stands_in_no_processs_arguments(
    place: Place, server: GitHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLICIES_TOKEN", "s3cr3t-t0ken")
    server.hold = threading.Event()
    source = over_http(place, server, credentials={"token": "env:POLICIES_TOKEN"})
    looking = threading.Thread(target=source.look)
    looking.start()
    assert server.asked.wait(20)
    commands = [
        (path / "cmdline").read_bytes() for path in Path("/proc").iterdir() if path.name.isdigit() and path.exists()
    ]
    server.hold.set()
    looking.join()
    assert any(b"fetch" in command for command in commands)
    assert not any(b"s3cr3t" in command or b"eC1hY2Nlc3" in command for command in commands)


def test_a_server_that_never_answers_is_given_up(
    place: Place, server: GitHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository, "FETCH_TIMEOUT", 1.0)
    monkeypatch.setenv("POLICIES_TOKEN", "s3cr3t-t0ken")
    server.hold = threading.Event()
    with pytest.raises(SourceUnavailable, match="took too long"):
        over_http(place, server, credentials={"token": "env:POLICIES_TOKEN"}).look()
    server.hold.set()


def test_the_environment_of_the_broker_is_not_gits(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"GIT_DIR": "/nowhere", "GIT_SSL_NO_VERIFY": "1", "GIT_CONFIG_PARAMETERS": "'a.b=c'"}.items():
        monkeypatch.setenv(name, value)
    assert seen(place.source().look())[0] == place.first
    assert os.environ["GIT_DIR"] == "/nowhere"
