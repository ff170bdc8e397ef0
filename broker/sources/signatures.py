"""Whether a commit is signed by somebody who may change the policies, as `git verify-commit` finds it.

* One kind of key: with allowed signers, an OpenPGP signature is as good as none, and the other way round. Nobody's own
  keyring or trust database is looked at.
* A signature counts for the git namespace only (ssh-keygen(1), `-n git`), and by a key that is listed now: whom the file
  lists no more is not trusted for what they signed before. git judges `valid-before` by the commit's own date, which its
  author writes; so take a key out rather than date it.
"""

import tempfile
from pathlib import Path
from typing import Final

from broker.errors import ConfigError
from broker.sources import SourceUnavailable
from broker.sources.command import Git, GitFailed, program
from broker.sources.settings import Signed

SHORT: Final = 12
LARGEST: Final = 1 << 20
_NO: Final = "false"  # the program that says no


class Signers:
    """The keys of one `signed:`."""

    def __init__(self, settings: Signed, folder: Path) -> None:
        self._ssh = folder / settings.allowed_signers if settings.allowed_signers is not None else None
        self._gpg = folder / settings.gpg_keyring if settings.gpg_keyring is not None else None

    def stamp(self) -> bytes:
        """What the keys' file holds now; another one means that commits are judged anew. Raises ConfigError."""
        path = self._ssh or self._gpg
        assert path is not None
        try:
            with path.open("rb") as file:
                data = file.read(LARGEST + 1)
        except OSError as error:
            raise ConfigError(f"{path}:1:1: cannot be read: {error.strerror}") from None
        if len(data) > LARGEST or not data.strip():
            raise ConfigError(f"{path}:1:1: no keys, or more than {LARGEST >> 20} MiB of them")
        return data

    def check(self, repository: Path, commit: str) -> None:
        """Raises ConfigError where the commit of this bare repository is not signed by one of the keys."""
        keys = self.stamp()
        with tempfile.TemporaryDirectory(prefix="jobkey-signers-") as scratch:
            home = Path(scratch)
            (home / "keys").write_bytes(keys)  # what was read is what is asked
            no = program(_NO)
            config = [
                ("gpg.minTrustLevel", "fully"),
                ("gpg.x509.program", no),
                ("gpg.ssh.program", program("ssh-keygen") if self._ssh else no),
                ("gpg.ssh.allowedSignersFile", str(home / "keys")),
                ("gpg.program", self._gpg_in(home) if self._gpg else no),
                ("gpg.openpgp.program", self._gpg_in(home) if self._gpg else no),
            ]
            git = Git(bare=repository, config=config, environment={"GNUPGHOME": str(home), "TMPDIR": str(home)})
            try:
                git.run("verify-commit", "--end-of-options", commit)
            except GitFailed as error:
                if error.cut_short:
                    raise SourceUnavailable(f"{commit[:SHORT]}:1:1: its signature was not judged: {error}") from None
                raise ConfigError(
                    f"{commit[:SHORT]}:1:1: this commit carries no good signature of an allowed key "
                    f"({error.said}); sign it, or list its key in {self._ssh or self._gpg}"
                ) from None

    def _gpg_in(self, home: Path) -> str:
        """gpg, in a home of its own with these keys alone, each trusted because it is listed."""
        found = program("gpg")
        (home / "gpg.conf").write_text(
            "\n".join(
                [
                    "batch",
                    "no-tty",
                    "no-autostart",
                    "no-auto-key-locate",
                    "no-auto-key-retrieve",
                    "trust-model always",
                    "no-default-keyring",
                    f"keyring {home / 'keys'}",
                    "",
                ]
            )
        )
        home.chmod(0o700)
        return found
