"""SSH certificates: the key pair is made in the job and its private half never leaves it.

`ssh-keygen -t ed25519` writes the pair into a directory of mode 0700; the broker sees the public half; the
certificate comes back beside the key as `<key>-cert.pub`, which is where ssh(1) looks. All of it is removed at the end.
"""

from __future__ import annotations

import os

from jobkey.errors import ConfigError, LocalError, ProtocolError
from jobkey.private import PrivateDir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Callable

TYPE = "ssh-certificate"


class Keys:
    """A private directory with at most one key pair. Use as a context manager; leaving it removes everything."""

    def __init__(self, base: Callable[[], str], given: str = "") -> None:
        """`base` tells a private directory when one is needed; `given` is the user's own private key, left alone."""
        self._base = base
        self._dir: PrivateDir | None = None
        self._given = given
        self.key = given

    def __enter__(self) -> Keys:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._dir is None:
            return
        for name in self._dir.names():
            self._dir.remove(name)
        self._dir.close()
        try:
            os.rmdir(self._dir.path)
        except OSError:
            pass

    def public_key(self) -> str:
        """One line, made or read at the first call."""
        if self._given:
            return self._public_of(self._given)
        if not self.key:
            directory = self._open()
            self.key = os.path.join(directory.path, "id_ed25519")
            _keygen(["-q", "-t", "ed25519", "-N", "", "-C", "jobkey", "-f", self.key])
        return self._public_of(self.key)

    def certify(self, certificate: str) -> str:
        """Put the certificate beside the key; its path. A given key's directory is not written to."""
        line = certificate.strip()
        if len(line.split(" ", 1)[0]) > 80 or "-cert-v01@openssh.com " not in line or not line.isprintable():
            raise ProtocolError("the broker's answer has no SSH certificate")
        return self._open().write(os.path.basename(self.key) + "-cert.pub", line.encode("utf-8") + b"\n")

    def private_text(self) -> str:
        """For masking: a job that prints its key should not show it."""
        if self._given or not self.key:
            return ""
        with open(self.key, encoding="ascii") as file:
            return file.read()

    def _open(self) -> PrivateDir:
        if self._dir is None:
            self._dir = PrivateDir(os.path.join(self._base(), f"ssh-{os.urandom(8).hex()}"))
        return self._dir

    def _public_of(self, key: str) -> str:
        try:
            with open(key + ".pub", encoding="utf-8") as file:
                text = file.read(16384)
        except FileNotFoundError:
            text = _keygen(["-y", "-P", "", "-f", key])
        except (OSError, UnicodeDecodeError) as error:
            raise LocalError(f"{key}.pub cannot be read") from error
        words = text.split()
        if len(words) < 2 or not (words[0] + words[1]).isascii():
            raise LocalError(f"{key}.pub is not an SSH public key", "Give the private key's path; .pub is added to it.")
        return f"{words[0]} {words[1]}"  # without the comment, which is nobody's business


def variables(key: str, certificate: str) -> dict[str, str]:
    """JOBKEY_SSH_KEY, JOBKEY_SSH_CERTIFICATE and a GIT_SSH_COMMAND that offers this identity and no other."""
    quoted = [path.replace("'", "'\\''") for path in (key, certificate)]
    command = f"ssh -i '{quoted[0]}' -o CertificateFile='{quoted[1]}' -o IdentitiesOnly=yes -o BatchMode=yes"
    return {"JOBKEY_SSH_KEY": key, "JOBKEY_SSH_CERTIFICATE": certificate, "GIT_SSH_COMMAND": command}


def certificate_of(values: Mapping[str, object]) -> str:
    value = values.get("certificate")
    if not isinstance(value, str):
        raise ProtocolError("the broker's answer has no SSH certificate")
    return value


def _keygen(arguments: list[str]) -> str:
    import subprocess

    try:
        done = subprocess.run(  # a fixed program and our own arguments, no shell
            ["ssh-keygen", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    except FileNotFoundError as error:
        raise ConfigError("ssh-keygen is not on PATH", "Install the OpenSSH client, or pass --ssh-key FILE.") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LocalError("ssh-keygen could not be run") from error
    if done.returncode:
        raise LocalError(
            "ssh-keygen could not make or read the key", "A key given with --ssh-key may have no passphrase."
        )
    return done.stdout.decode("utf-8", "replace")
