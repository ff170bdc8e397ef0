"""Files that only this user can read, in a directory that only this user can enter.

The attacks: another user of a shared runner who made the directory first, put a symlink in its place or in a file's,
or left a file that everybody can write. So the directory is opened once, without following a link, its owner and mode
are read from the open descriptor, and every file is named relative to that descriptor: what was checked is what is
used. Files appear whole (written aside, then renamed), with mode 0600 from their first moment.
"""

from __future__ import annotations

import os
import stat

from jobkey.errors import LocalError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobkey.ambient.seam import Ambient

FILE_LIMIT = 64 * 1024
STALE = 2 * 24 * 3600  # seconds; longer than any session


class PrivateDir:
    """An open, checked directory of mode 0700."""

    def __init__(self, path: str) -> None:
        """Raises LocalError when it is not ours alone."""
        self.path = path
        try:
            try:
                os.mkdir(path, 0o700)
            except FileExistsError:
                pass
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise LocalError(f"{path} cannot be used as a private directory: {error.strerror}", _REMEDY) from error
        found = os.fstat(self._fd)
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            os.close(self._fd)
            raise LocalError(f"{path} belongs to another user, or others may enter it", _REMEDY)

    def read(self, name: str) -> bytes | None:
        """The file's content; None when there is none. Raises LocalError for one that others could have written."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # NONBLOCK: a FIFO must not hang the job
        try:
            fd = os.open(name, flags, dir_fd=self._fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise LocalError(f"{self.path}/{name} cannot be opened safely: {error.strerror}", _REMEDY) from error
        try:
            found = os.fstat(fd)
            private = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
            if not private or found.st_nlink > 1:
                raise LocalError(f"{self.path}/{name} is not a private file of this user", _REMEDY)
            return os.read(fd, FILE_LIMIT)
        finally:
            os.close(fd)

    def write(self, name: str, data: bytes) -> str:
        """Put the file there whole, replacing what had its name. Its path is returned."""
        aside = f".{name[:60]}.{os.urandom(8).hex()}"
        try:
            fd = os.open(
                aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self._fd
            )
            try:
                with open(fd, "wb") as file:
                    os.fchmod(fd, 0o600)  # whatever the umask
                    file.write(data)
                os.rename(aside, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
            except BaseException:
                os.unlink(aside, dir_fd=self._fd)
                raise
        except OSError as error:
            raise LocalError(f"{self.path}/{name} cannot be written: {error.strerror}", _REMEDY) from error
        return os.path.join(self.path, name)

    def remove(self, name: str) -> None:
        try:
            os.unlink(name, dir_fd=self._fd)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise LocalError(f"{self.path}/{name} cannot be removed: {error.strerror}", _REMEDY) from error

    def names(self) -> list[str]:
        return sorted(os.listdir(self._fd))

    def lock(self, name: str) -> int:
        """Wait for and hold an exclusive lock; closing the descriptor (or dying) lets go."""
        import fcntl

        try:
            fd = os.open(
                name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=self._fd
            )
            fcntl.flock(fd, fcntl.LOCK_EX)
        except OSError as error:
            raise LocalError(f"{self.path}/{name} cannot be locked: {error.strerror}", _REMEDY) from error
        return fd

    def sweep(self, now: float) -> None:
        """Remove files of jobs that ended long ago: a self-hosted runner may keep its temporary directory for ever."""
        for name in self.names():
            try:
                found = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
                if stat.S_ISREG(found.st_mode) and now - found.st_mtime > STALE:
                    os.unlink(name, dir_fd=self._fd)
            except OSError:
                continue

    def close(self) -> None:
        os.close(self._fd)


_REMEDY = "Remove it if it is not yours to keep, or point JOBKEY_DIR at a directory of your own with mode 0700."


def open_private(env: Mapping[str, str], place: Ambient | None) -> PrivateDir:
    """`jobkey-<uid>` below the CI's directory for this job, or the system's temporary one.

    Never below the checkout, where caches and artifacts would pick it up.
    """
    if env.get("JOBKEY_DIR"):
        return PrivateDir(env["JOBKEY_DIR"])
    checkouts = [os.path.realpath(env[name]) for name in place.checkout_variables if env.get(name)] if place else []
    for base in [*(place.temps(env) if place else ()), env.get("TMPDIR", ""), "/tmp"]:  # noqa: S108 - checked when opened
        if base and os.path.isdir(base) and os.access(base, os.W_OK | os.X_OK):
            if any(inside(base, checkout) for checkout in checkouts):
                continue
            return PrivateDir(os.path.join(base, f"jobkey-{os.geteuid()}"))
    raise LocalError("there is no temporary directory outside the checkout", "Set JOBKEY_DIR to a private directory.")


def inside(path: str, directory: str) -> bool:
    real = os.path.realpath(path)
    return directory != "/" and (real == directory or real.startswith(directory + os.sep))


def replace_file(path: str, data: bytes) -> None:
    """Write a file of the user's choice: mode 0600 from its first moment, whole or not at all, no link followed."""
    directory, name = os.path.split(os.path.abspath(path))
    aside = os.path.join(directory, f".{name[:60]}.{os.urandom(8).hex()}")
    try:
        if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
            raise LocalError(f"{path} is there and is not a plain file", "Choose another name.")
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb") as file:
                os.fchmod(fd, 0o600)
                file.write(data)
            os.rename(aside, path)
        except BaseException:
            os.unlink(aside)
            raise
    except OSError as error:
        raise LocalError(
            f"{path} cannot be written: {error.strerror}", "Choose a directory that this job owns."
        ) from error
