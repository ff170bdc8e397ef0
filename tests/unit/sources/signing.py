"""Real keys and real signatures: ssh-keygen's and gpg's."""

import os
import subprocess
from pathlib import Path

from tests.system import require
from tests.unit.sources.repository import Repository


def ssh_key(folder: Path, name: str) -> Path:
    """A fresh Ed25519 key; its public half lies beside it."""
    (keygen,) = require("ssh-keygen")
    subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)], check=True)
    return folder / name


def signer_line(key: Path, options: str = "") -> str:
    """One line of an allowed signers file."""
    return " ".join(filter(None, [f"{key.name}@acme.example", options, key.with_suffix(".pub").read_text()]))


def sign_with_ssh(repository: Repository, key: Path) -> None:
    """Every commit made with `-S` from now on is signed by this key."""
    repository("config", "gpg.format", "ssh")
    repository("config", "user.signingKey", str(key))


class Gpg:
    """A keyring of its own."""

    def __init__(self, home: Path) -> None:
        (self._gpg,) = require("gpg")
        self.home = home
        home.mkdir(mode=0o700)

    def __call__(self, *arguments: str) -> bytes:
        return subprocess.run(
            [self._gpg, "--batch", "--quiet", "--homedir", str(self.home), *arguments],
            check=True,
            capture_output=True,
            env={"PATH": os.environ["PATH"]},
        ).stdout

    def key(self, who: str, expires: str = "never") -> str:
        self("--passphrase", "", "--quick-generate-key", who, "ed25519", "sign", expires)
        return who

    def public(self, who: str) -> bytes:
        return self("--export", who)

    def sign(self, repository: Repository, who: str) -> None:
        wrapper = self.home / "gpg-here"
        wrapper.write_text(f'#!/bin/sh\nexec "{self._gpg}" --homedir "{self.home}" "$@"\n')
        wrapper.chmod(0o700)
        repository("config", "gpg.format", "openpgp")
        repository("config", "gpg.program", str(wrapper))
        repository("config", "user.signingKey", who)

    def close(self) -> None:
        """The agent that gpg started ends with its home."""
        subprocess.run(["gpgconf", "--homedir", str(self.home), "--kill", "all"], check=False, capture_output=True)
