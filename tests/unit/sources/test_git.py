"""Policies of a commit: the same bytes as a checkout's, whatever the repository is made to do to its reader."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.errors import ConfigError
from broker.policy.load import read_folder
from broker.sources import command, git
from broker.sources.command import Git, GitFailed
from broker.sources.git import read_revision
from tests.unit.policy.world import policy_text
from tests.unit.sources.repository import Repository


def problems_of(act: Callable[[], object]) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        act()
    return caught.value.problems


def test_a_commit_gives_what_its_checkout_would(repository: Repository) -> None:
    files: dict[str, str | bytes] = {
        "policies/payments.yaml": policy_text(),
        "policies/team/deep/other.yaml": "policy: \N{GREEK SMALL LETTER ALPHA}\n",
        "policies/.hidden.yaml": "no",
        "policies/..data/x.yaml": "no",
        "policies/README.md": "no",
        "policies/empty.yaml": b"",
        "policies/crlf.yaml": b"a: 1\r\n",
        "elsewhere.yaml": "no",
        "limits/guardrails.yaml": "longest_ttl: {}\n",
    }
    commit = repository.commit(files)
    read = read_revision(repository.folder, "main", "policies", guardrails="limits/guardrails.yaml")
    checkout = read_folder(repository.folder / "policies", [])
    assert read.commit == commit
    assert {(text.file, text.data, text.folder) for text in read.texts} == {
        (text.file, text.data, text.folder) for text in checkout
    }
    assert read.guardrails == b"longest_ttl: {}\n"
    assert {text.name for text in read.texts} >= {f"{commit[:12]}:policies/payments.yaml"}
    assert repository("show", read.texts[-1].name) == read.texts[-1].data.decode().strip()  # the name is git's own


@pytest.mark.parametrize("revision", ["main", "HEAD", "HEAD~0", "refs/heads/main", "v1", "COMMIT"])
def test_every_way_to_name_a_commit(repository: Repository, revision: str) -> None:
    commit = repository.commit({"p.yaml": "x"})
    repository("tag", "-a", "-m", "one", "v1")
    repository.write({"p.yaml": "not committed"})
    read = read_revision(repository.folder, revision.replace("COMMIT", commit), ".")
    assert (read.commit, [text.data for text in read.texts], read.guardrails) == (commit, [b"x"], None)


def test_an_older_commit_is_what_it_was(repository: Repository) -> None:
    repository.commit({"p/a.yaml": "1", "p/b.yaml": "1"})
    repository.commit({"p/a.yaml": "2", "p/b.yaml": None})
    assert [(text.file, text.data) for text in read_revision(repository.folder, "HEAD~1", "p").texts] == [
        ("a.yaml", b"1"),
        ("b.yaml", b"1"),
    ]
    assert [(text.file, text.data) for text in read_revision(repository.folder, "HEAD", "p").texts] == [
        ("a.yaml", b"2")
    ]


def test_it_is_asked_from_any_folder_of_the_repository(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.commit({"policies/a.yaml": "1"})
    monkeypatch.chdir(repository.folder / "policies")
    assert [text.file for text in read_revision(Path(), "HEAD", "policies").texts] == ["a.yaml"]


def test_guardrails_that_are_not_there_are_none(repository: Repository) -> None:
    repository.commit({"p/a.yaml": "1"})
    assert read_revision(repository.folder, "HEAD", "p", guardrails="guardrails.yaml").guardrails is None


@pytest.mark.parametrize(
    ("revision", "path", "says"),
    [
        ("--output=x", "p", "no revision"),
        ("-n1", "p", "no revision"),
        ("", "p", "no revision"),
        ("a\nb", "p", "no revision"),
        ("x" * 300, "p", "no revision"),
        ("nowhere", "p", "git fetch --unshallow"),
        ("HEAD:p/a.yaml", "p", "no commit"),
        ("HEAD", "../p", "inside the repository"),
        ("HEAD", "/p", "inside the repository"),
        ("HEAD", "p\n--help", "inside the repository"),
        ("HEAD", "gone", "no such folder"),
        ("HEAD", "p/a.yaml", "no such folder"),
        ("HEAD", "--help", "no such folder"),
    ],
)
def test_what_names_nothing_is_said(repository: Repository, revision: str, path: str, says: str) -> None:
    repository.commit({"p/a.yaml": "1"})
    (problem,) = problems_of(lambda: read_revision(repository.folder, revision, path))
    assert says in problem
    assert "\n" not in problem


def test_where_there_is_no_repository(tmp_path: Path, repository: Repository) -> None:
    bare = tmp_path / "plain"
    bare.mkdir()
    assert "not a git repository" in problems_of(lambda: read_revision(bare, "HEAD", "."))[0]
    assert "no such folder" in problems_of(lambda: read_revision(tmp_path / "gone", "HEAD", "."))[0]


def test_what_is_not_what_it_seems_is_reported_all_at_once(repository: Repository) -> None:
    repository.write({"p/a.yaml": "1", "p/b.yml": "1", "p/C.YAML": "1", "p/large.yaml": "x" * ((1 << 20) + 1)})
    (repository.folder / "p/link.yaml").symlink_to("a.yaml")
    (repository.folder / "p/away.yaml").symlink_to("/etc/passwd")
    (repository.folder / "p/folder").symlink_to("..")
    repository.commit({})
    head = repository("rev-parse", "HEAD")
    repository("update-index", "--add", "--cacheinfo", f"160000,{head},p/module")
    repository("commit", "-q", "-m", "a submodule")
    said = problems_of(lambda: read_revision(repository.folder, "HEAD", "p"))
    assert len(said) == 7
    for name, words in {
        "b.yml": "rename it",
        "C.YAML": "rename it",
        "large.yaml": "larger than 1 MiB",
        "link.yaml": "a link is not followed",
        "away.yaml": "a link is not followed",
        "folder": "a link is not followed",
        "module": "a submodule is not followed",
    }.items():
        assert any(f":p/{name}:1:1: " in problem and words in problem for problem in said), name


def test_names_that_would_move_a_cursor_are_reported_harmlessly(repository: Repository) -> None:
    repository.commit({"p/\x1b[2Jx.yaml": "1"})
    (problem,) = problems_of(lambda: read_revision(repository.folder, "HEAD", "p"))
    assert problem.isprintable()


def test_a_path_through_a_link_is_not_followed(repository: Repository) -> None:
    repository.commit({"real/a.yaml": "1"})
    (repository.folder / "p").symlink_to("real")
    repository.commit({})
    assert "no such folder" in problems_of(lambda: read_revision(repository.folder, "HEAD", "p"))[0]
    (repository.folder / "g.yaml").symlink_to("real/a.yaml")
    repository.commit({})
    said = problems_of(lambda: read_revision(repository.folder, "HEAD", "real", guardrails="g.yaml"))
    assert "not a regular file" in said[0]


def test_more_files_than_a_broker_takes(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git, "MOST_FILES", 3)
    repository.commit({f"p/{n}.yaml": "1" for n in range(3)})
    assert len(read_revision(repository.folder, "HEAD", "p").texts) == 3
    repository.commit({"p/another.yaml": "1"})
    assert "more than 3 files" in problems_of(lambda: read_revision(repository.folder, "HEAD", "p"))[0]


def test_more_bytes_than_a_broker_takes(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git, "MOST_BYTES", 1 << 20)
    repository.commit({f"p/{n}.yaml": "x" * 400_000 + str(n) for n in range(3)})
    assert "or 1 MiB" in problems_of(lambda: read_revision(repository.folder, "HEAD", "p"))[0]


# ---- a repository that attacks its reader


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A program that leaves a trace."""
    path = tmp_path / "trap.sh"
    path.write_text(f'#!/bin/sh\ntouch "{tmp_path}/sprung"\ncat\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_nothing_that_its_configuration_names_is_run(repository: Repository, trap: Path, tmp_path: Path) -> None:
    commit = repository.commit({"p/a.yaml": "1", "p/.gitattributes": "*.yaml filter=trap diff=trap"})
    for name in (
        "core.fsmonitor", "core.pager", "pager.ls-tree", "pager.cat-file", "core.sshCommand", "core.askPass",
        "credential.helper", "core.editor", "filter.trap.smudge", "filter.trap.process", "diff.trap.textconv",
        "diff.external", "core.alternateRefsCommand", "alias.ls-tree", "alias.cat-file", "alias.rev-parse",
        "uploadpack.packObjectsHook", "gpg.program", "core.gitProxy",
    ):  # fmt: skip
        repository("config", name, str(trap))
    for hook in ("post-checkout", "reference-transaction", "post-index-change"):
        (repository.folder / ".git/hooks").mkdir(exist_ok=True)
        (repository.folder / ".git/hooks" / hook).symlink_to(trap)
    assert read_revision(repository.folder, commit, "p").texts[0].data == b"1"
    assert not (tmp_path / "sprung").exists()


def test_objects_that_are_missing_are_not_fetched_from_anywhere(
    repository: Repository, trap: Path, tmp_path: Path
) -> None:
    """A partial clone asks its server for a blob that it lacks, over any command that the repository names."""
    repository.commit({"p/a.yaml": "only here"})
    blob = repository("rev-parse", "HEAD:p/a.yaml")
    (repository.folder / ".git/objects" / blob[:2] / blob[2:]).unlink()
    repository("config", "core.repositoryformatversion", "1")
    repository("config", "extensions.partialClone", "origin")
    repository("config", "remote.origin.url", f"ext::{trap}")
    repository("config", "remote.origin.promisor", "true")
    repository("config", "protocol.ext.allow", "always")
    (problem,) = problems_of(lambda: read_revision(repository.folder, "HEAD", "p"))
    assert "could not read this commit" in problem
    assert not (tmp_path / "sprung").exists()


def test_a_replaced_object_is_not_what_was_committed(repository: Repository) -> None:
    commit = repository.commit({"p/a.yaml": "signed"})
    other = repository.commit({"p/a.yaml": "forged"})
    repository("replace", commit, other)
    assert read_revision(repository.folder, commit, "p").texts[0].data == b"signed"


def test_the_environment_of_a_hook_or_an_attacker_changes_nothing(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trap: Path
) -> None:
    repository.commit({"p/a.yaml": "1"})
    other = Repository(tmp_path / "other")
    other.commit({"p/a.yaml": "2"})
    monkeypatch.setenv("GIT_DIR", str(other.folder / ".git"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(other.folder / ".git/objects"))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.fsmonitor")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", str(trap))
    monkeypatch.setenv("GIT_TRACE2_EVENT", str(tmp_path / "trace"))
    assert read_revision(repository.folder, "HEAD", "p").texts[0].data == b"1"
    assert not (tmp_path / "trace").exists()


# ---- whose repository it is


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a repository to somebody else")
def test_somebody_elses_repository_is_read_where_the_user_says_so(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trap: Path
) -> None:
    repository.commit({"p/a.yaml": "1"})
    for path in (repository.folder, repository.folder / ".git"):
        os.chown(path, 4242, 4242)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    (problem,) = problems_of(lambda: read_revision(repository.folder, "HEAD", "p"))
    assert f"git config --global --add safe.directory {repository.folder}" in problem
    (home / ".gitconfig").write_text(f"[safe]\n directory = {repository.folder}\n[core]\n fsmonitor = {trap}\n")
    assert read_revision(repository.folder, "HEAD", "p").texts[0].data == b"1"
    assert not (tmp_path / "sprung").exists()


# ---- the runner


def test_a_run_that_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    held = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(GitFailed, match="too long"):
        Git(config=[("alias.slow", f"!echo begun > {pipe}; exec sleep 600 > {pipe}")]).run("slow", timeout=1.0)
    os.set_blocking(held, True)
    said = b""
    while data := os.read(held, 100):  # ends when no child holds the other end any more
        said += data
    os.close(held)
    assert said == b"begun\n"


def test_a_run_that_says_too_much_is_stopped(repository: Repository) -> None:
    repository.commit({"a.yaml": "x" * 3_000_000})
    with pytest.raises(GitFailed, match="more than 1 MiB"):
        Git(at=repository.folder).run("cat-file", "blob", "HEAD:a.yaml", most=1 << 20)


def test_a_run_can_be_watched(repository: Repository) -> None:
    with pytest.raises(GitFailed, match="enough"):
        Git(config=[("alias.slow", "!sleep 600")]).run("slow", watch=lambda: "enough")


def test_a_secret_is_struck_from_what_git_says(repository: Repository) -> None:
    with pytest.raises(GitFailed) as caught:
        Git(at=repository.folder, hidden=("hunter2",)).run("rev-parse", "--verify", "hunter2:x")
    assert "hunter2" not in str(caught.value)


def test_without_git_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.shutil, "which", lambda _: None)
    assert "'git' is needed here" in problems_of(Git)[0]
