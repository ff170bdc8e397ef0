"""Following a repository over ssh: the broker's own key, and a server whose key was known before."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.sources import SourceUnavailable
from broker.sources.repository import RepositorySource
from broker.sources.settings import GitPolicies
from tests.servers.sshd import USER, Sshd, sshd
from tests.unit.sources.repository import Repository
from tests.unit.sources.signing import ssh_key

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ssh_key(tmp_path_factory.mktemp("deploy key 100%h"), "deploy")  # what ssh would split, and fill in


@pytest.fixture(scope="module")
def server(key: Path) -> Iterator[Sshd]:
    with sshd(keys=[key.with_suffix(".pub").read_text()]) as running:
        yield running


@pytest.fixture
def origin(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "origin")
    made.commit({"policies/a.yaml": "a1"})
    return made


def source(origin: Repository, server: Sshd, key: Path, host_key: str | None = None) -> RepositorySource:
    known = key.parent / "known hosts"
    known.write_text(f"[127.0.0.1]:{server.port} {host_key or server.host_key}\n")
    settings = GitPolicies.model_validate(
        {
            "git": f"ssh://{USER}@127.0.0.1:{server.port}{origin.folder}",
            "ssh": {"key": key.name, "known_hosts": known.name},
        }
    )
    return RepositorySource(settings, mirror=origin.folder.parent / "mirror", folder=key.parent)


def test_it_follows_with_its_own_key(origin: Repository, server: Sshd, key: Path) -> None:
    following = source(origin, server, key)
    first = following.look()
    assert first is not None
    assert (first.commit, [text.data for text in first.texts]) == (origin("rev-parse", "HEAD"), [b"a1"])
    second = origin.commit({"policies/a.yaml": "a2"})
    found = following.look()
    assert found is not None
    assert found.commit == second
    assert following.look() is None


def test_another_server_is_never_believed(origin: Repository, server: Sshd, key: Path) -> None:
    stranger = ssh_key(origin.folder.parent, "stranger").with_suffix(".pub").read_text()
    following = source(origin, server, key, " ".join(stranger.split()[:2]))
    known = (key.parent / "known hosts").read_bytes()
    with pytest.raises(SourceUnavailable, match=r"Host key verification failed"):
        following.look()
    (key.parent / "known hosts").write_text("\n")
    with pytest.raises(SourceUnavailable, match=r"Host key verification failed"):
        following.look()
    assert (key.parent / "known hosts").read_bytes() == b"\n" != known  # nothing was learned on the way


def test_nobodys_other_key_is_tried(
    origin: Repository, server: Sshd, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "config").write_text(f"Host *\n  IdentityFile {key}\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_SSH_COMMAND", f"ssh -i '{key}'")
    folder = tmp_path / "other"
    folder.mkdir()
    before = len(server.log())
    with pytest.raises(SourceUnavailable, match="Permission denied") as refused:
        source(origin, server, ssh_key(folder, "deploy")).look()
    assert "PRIVATE KEY" not in str(refused.value)
    tried = set(re.findall(r"SHA256:\S+", server.log()[before:]))
    assert len(tried) <= 1  # the broker's own, where sshd says which


def test_a_private_key_that_others_can_read_is_not_used(origin: Repository, server: Sshd, tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    own = ssh_key(folder, "deploy")
    own.chmod(0o644)
    with pytest.raises(SourceUnavailable, match=r"(?s)Permission denied|UNPROTECTED"):
        source(origin, server, own).look()
    assert os.stat(own).st_mode & 0o777 == 0o644
