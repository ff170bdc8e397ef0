"""One writer a ledger: an advisory lock on a file beside the database, held as long as the writer lives.

The kernel drops it with the process, however that ends, so there is no stale lock to clean up.
"""

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from broker.errors import ConfigError

_TRIES: Final = 5
_PAUSE: Final = 0.05  # seconds


class LedgerInUse(ConfigError):
    """Another process writes this ledger."""


def lock_file(database: Path) -> Path:
    """Where a database's lock is."""
    return database.with_name(database.name + ".lock")


def acquire(database: Path) -> int:
    """Take the lock and return its descriptor; closing it lets go. Raises LedgerInUse."""
    path = lock_file(database)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise LedgerInUse(
            f"{database}: another broker (process {holder}) writes this ledger; stop it, or give this one its own data folder"
        ) from None
    except OSError:
        os.close(descriptor)
        raise
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _lock(descriptor: int) -> None:
    for _ in range(_TRIES - 1):
        with suppress(BlockingIOError):
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(_PAUSE)  # `is_locked` of an auditor's command holds it for an instant
    return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_locked(database: Path) -> bool:
    """Whether a writer lives. Makes no file."""
    try:
        descriptor = os.open(lock_file(database), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
