"""A real git repository for tests, made with the system's git and nobody's configuration."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.system import require

WHO = "Anna Author", "anna@acme.example"


class Repository:
    """`commit` writes files (None removes one) and returns the new commit's name."""

    def __init__(self, folder: Path, *, branch: str = "main") -> None:
        (self._git,) = require("git")
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self("init", "-q", f"--initial-branch={branch}")

    @classmethod
    def at(cls, folder: Path) -> "Repository":
        """One that is there already."""
        found = cls.__new__(cls)
        (found._git,) = require("git")
        found.folder = folder
        return found

    def __call__(self, *arguments: str, stdin: bytes = b"", **environment: str) -> str:
        ran = subprocess.run(
            [self._git, "-C", str(self.folder), *arguments],
            input=stdin,
            capture_output=True,
            check=False,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.folder),
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_CONFIG_GLOBAL": "/dev/null",
                "GIT_AUTHOR_NAME": WHO[0],
                "GIT_AUTHOR_EMAIL": WHO[1],
                "GIT_COMMITTER_NAME": WHO[0],
                "GIT_COMMITTER_EMAIL": WHO[1],
                "GIT_ALLOW_PROTOCOL": "file:http:ssh",
                **environment,
            },
        )
        assert ran.returncode == 0, ran.stderr.decode()
        return ran.stdout.decode().strip()

    def write(self, files: Mapping[str, str | bytes | None]) -> None:
        for name, text in files.items():
            path = self.folder / name
            if text is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode() if isinstance(text, str) else text)

    def commit(self, files: Mapping[str, str | bytes | None], *options: str, message: str = "a change") -> str:
        self.write(files)
        self("add", "-A")
        self("commit", "-q", "--allow-empty", "-m", message, *options)
        return self("rev-parse", "HEAD")
