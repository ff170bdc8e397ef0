"""Reports that `policy check` writes: whole or not at all, and never over a file that it was asked to read.

What is replaced keeps its mode. A link is not followed: who made it could otherwise choose what is overwritten.
"""

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path

from broker.errors import ConfigError


def write_report(path: Path, text: str, *, read: Iterable[Path]) -> None:
    """Write a report. Raises ConfigError where it would overwrite a file of `read`, or cannot be written."""
    try:
        if any(_same(path, other) for other in read):
            raise ConfigError(f"{path}:1:1: this file is being checked; write the report somewhere else")
        if path.exists() and not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            with path.open("w", encoding="utf-8") as file:  # a terminal or a pipe takes it as it comes
                file.write(text)
            return
        replace(path, text.encode("utf-8", "backslashreplace"))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        said = getattr(error, "strerror", None) or type(error).__name__
        raise ConfigError(f"{path}:1:1: cannot be written: {said}") from None


def replace(path: Path, data: bytes) -> None:
    """Write beside it and rename, with the mode and, where one may, the owner of what was there. Raises OSError."""
    if path.is_dir():
        raise IsADirectoryError(21, os.strerror(21))
    found = path.lstat() if path.exists() or path.is_symlink() else None
    prefix = f".{path.name[:100]}."  # hidden: no broker takes it for a policy
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            if found is not None and stat.S_ISREG(found.st_mode):
                with contextlib.suppress(PermissionError):
                    os.fchown(file.fileno(), found.st_uid, found.st_gid)
                os.fchmod(file.fileno(), stat.S_IMODE(found.st_mode))
            else:
                os.fchmod(file.fileno(), 0o666 & ~_umask())
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def _umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current


def _same(path: Path, other: Path) -> bool:
    with contextlib.suppress(OSError, RuntimeError):
        return path.resolve() == other.resolve() or (path.exists() and other.exists() and path.samefile(other))
    return False
