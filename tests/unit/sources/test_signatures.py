"""Whose signature counts: real keys, real commits, and every way to look signed without being it."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.errors import ConfigError
from broker.sources.settings import Signed
from broker.sources.signatures import Signers
from tests.unit.sources.repository import Repository
from tests.unit.sources.signing import Gpg, sign_with_ssh, signer_line, ssh_key


def by_ssh(folder: Path, *lines: str) -> Signers:
    (folder / "signers").write_text("".join(lines))
    return Signers(Signed(allowed_signers="signers"), folder)


def refused(signers: Signers, repository: Repository, commit: str) -> str:
    with pytest.raises(ConfigError) as caught:
        signers.check(repository.folder / ".git", commit)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{commit[:12]}:1:1: this commit carries no good signature of an allowed key")
    return problem


@pytest.fixture
def anna(tmp_path: Path) -> Path:
    return ssh_key(tmp_path, "anna")


def signed(repository: Repository, key: Path) -> str:
    sign_with_ssh(repository, key)
    return repository.commit({"a.yaml": key.name}, "-S")


def test_a_listed_ssh_key_counts(repository: Repository, anna: Path, tmp_path: Path) -> None:
    commit = signed(repository, anna)
    by_ssh(tmp_path, signer_line(anna)).check(repository.folder / ".git", commit)
    by_ssh(tmp_path, "# people\n", signer_line(anna, 'namespaces="git"')).check(repository.folder / ".git", commit)


def test_no_signature_does_not(repository: Repository, anna: Path, tmp_path: Path) -> None:
    commit = repository.commit({"a.yaml": "1"})
    said = refused(by_ssh(tmp_path, signer_line(anna)), repository, commit)
    assert str(tmp_path / "signers") in said


def test_another_key_does_not(repository: Repository, anna: Path, tmp_path: Path) -> None:
    commit = signed(repository, ssh_key(tmp_path, "mallory"))
    refused(by_ssh(tmp_path, signer_line(anna)), repository, commit)


def test_a_key_that_is_listed_for_something_else_does_not(repository: Repository, anna: Path, tmp_path: Path) -> None:
    commit = signed(repository, anna)
    refused(by_ssh(tmp_path, signer_line(anna, 'namespaces="file"')), repository, commit)
    refused(by_ssh(tmp_path, signer_line(anna, 'valid-before="20010101"')), repository, commit)


def test_a_key_that_was_taken_out_does_not_count_for_what_it_signed_before(
    repository: Repository, anna: Path, tmp_path: Path
) -> None:
    commit = signed(repository, anna)
    signers = by_ssh(tmp_path, signer_line(anna))
    before = signers.stamp()
    signers.check(repository.folder / ".git", commit)
    (tmp_path / "signers").write_text(signer_line(ssh_key(tmp_path, "bert")))
    assert signers.stamp() != before
    refused(signers, repository, commit)


def test_a_signature_taken_from_another_commit_does_not(repository: Repository, anna: Path, tmp_path: Path) -> None:
    commit = signed(repository, anna)
    good = repository("cat-file", "commit", commit)
    forged = repository(
        "hash-object",
        "-t",
        "commit",
        "-w",
        "--stdin",
        stdin=re.sub("a change", "another change", good).encode() + b"\n",
    )
    refused(by_ssh(tmp_path, signer_line(anna)), repository, forged)


def test_the_repositorys_own_configuration_trusts_nobody(repository: Repository, anna: Path, tmp_path: Path) -> None:
    mallory = ssh_key(tmp_path, "mallory")
    (tmp_path / "theirs").write_text(signer_line(mallory))
    commit = signed(repository, mallory)
    repository("config", "gpg.ssh.allowedSignersFile", str(tmp_path / "theirs"))
    repository("config", "gpg.minTrustLevel", "never")
    repository("config", "gpg.ssh.program", "/bin/true")
    repository("config", "gpg.program", "/bin/true")
    refused(by_ssh(tmp_path, signer_line(anna)), repository, commit)


@pytest.mark.parametrize("content", ["", "\n", None])
def test_no_keys_is_not_everybody(repository: Repository, anna: Path, tmp_path: Path, content: str | None) -> None:
    commit = signed(repository, anna)
    signers = by_ssh(tmp_path, content or "")
    if content is None:
        (tmp_path / "signers").unlink()
    with pytest.raises(ConfigError, match=r"signers:1:1: (no keys|cannot be read)"):
        signers.check(repository.folder / ".git", commit)


# ---- OpenPGP


@pytest.fixture
def gpg() -> Iterator[Gpg]:
    short = Path(tempfile.mkdtemp(prefix="gpg-"))  # a socket's path has 108 bytes
    made = Gpg(short / "home")
    yield made
    made.close()
    shutil.rmtree(short)


def by_gpg(folder: Path, keys: bytes) -> Signers:
    (folder / "keys.gpg").write_bytes(keys)
    return Signers(Signed(gpg_keyring="keys.gpg"), folder)


def test_a_listed_openpgp_key_counts_and_no_other(repository: Repository, gpg: Gpg, tmp_path: Path, anna: Path) -> None:
    for who in ("carla@acme.example", "mallory@evil.example"):
        gpg.key(who)
    gpg.sign(repository, "carla@acme.example")
    good = repository.commit({"a.yaml": "1"}, "-S")
    gpg.sign(repository, "mallory@evil.example")
    evil = repository.commit({"a.yaml": "2"}, "-S")
    plain = repository.commit({"a.yaml": "3"})
    signers = by_gpg(tmp_path, gpg.public("carla@acme.example"))
    signers.check(repository.folder / ".git", good)
    refused(signers, repository, evil)
    refused(signers, repository, plain)
    refused(by_ssh(tmp_path, signer_line(anna)), repository, good)
    refused(signers, repository, signed(repository, anna))


def test_a_keyring_that_is_none_trusts_nobody(repository: Repository, gpg: Gpg, tmp_path: Path) -> None:
    gpg.sign(repository, gpg.key("carla@acme.example"))
    commit = repository.commit({"a.yaml": "1"}, "-S")
    refused(by_gpg(tmp_path, b"not a keyring"), repository, commit)
