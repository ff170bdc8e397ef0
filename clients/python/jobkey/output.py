"""Where `jobkey get` may put a credential.

A file is always good: it is made with mode 0600, whole or not at all. Standard output is good when it is a file or
when nothing reads it that keeps a log. In a CI a pipe may be the log, and we cannot tell: there a value is printed only
after the CI took a mask for it, and where the CI takes none, only if the user insists with --allow-print.
"""

from __future__ import annotations

import os
import stat

from jobkey import private
from jobkey.errors import ConfigError, JobkeyError, LocalError, UsageError, note

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jobkey.acquire import Job


class PrintRefused(JobkeyError):
    exit_code = 64
    word = "usage"


class Target:
    """One destination, judged before anything is issued."""

    def __init__(self, shape: str, path: str, allow_print: bool, job: Job) -> None:
        self._shape = shape
        self._path = path
        self._allow_print = allow_print
        self._job = job

    def allowed(self) -> None:
        """Raises UsageError or ConfigError if the credential could not be put there."""
        if self._shape == "file" and not self._path:
            raise UsageError("--format file needs --output PATH")
        if self._shape == "github-env":
            self._path = self._path or self._job.env.get("GITHUB_ENV", "")
            if not self._path:
                raise ConfigError("GITHUB_ENV is not set", "Use --format github-env in a GitHub or Forgejo job.")
        if self._path or self._allow_print:
            return
        mode = os.fstat(1).st_mode
        if os.isatty(1):
            raise PrintRefused("a credential is not printed to a terminal", _REMEDY)
        if self._job.place is not None and self._job.place.mask == "none" and not stat.S_ISREG(mode):
            raise PrintRefused(f"{self._job.place.name} cannot mask what is printed now", _REMEDY)

    def put(self, text: str, *, masked: bool) -> None:
        data = text.encode("utf-8", "strict")
        if self._shape == "github-env":
            append(self._path, data)
        elif self._path:
            checkout = self._job.place.checkout_variables if self._job.place else ()
            for name in checkout:
                if self._job.env.get(name) and private.inside(os.path.dirname(self._path) or ".", self._job.env[name]):
                    note(f"{self._path} is inside the checkout: keep it out of caches and artifacts")
            private.replace_file(self._path, data)
        else:
            if not masked and not self._allow_print and self._job.place is not None and not _is_file(1):
                raise PrintRefused("the CI took no mask for this value, so it is not printed", _REMEDY)
            while data:
                data = data[os.write(1, data) :]


_REMEDY = "Use `jobkey exec`, or --output PATH; --allow-print prints it all the same."


def append(path: str, data: bytes) -> None:
    """To the runner's own file. It is there already; a link in its place is not followed."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(fd, "ab") as file:
            file.write(data)
    except OSError as error:
        raise LocalError(f"{path} cannot be appended to: {error.strerror}", "Is this really GITHUB_ENV?") from error


def _is_file(fd: int) -> bool:
    return stat.S_ISREG(os.fstat(fd).st_mode)
