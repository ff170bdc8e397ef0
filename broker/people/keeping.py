"""A person's tokens between two commands: one file a broker, mode 0600, below the folder for a user's state (XDG).

* Written whole under another name and renamed; read only where it is a regular file of this user that nobody else may read.
* Refreshing holds a lock, since many issuers take the old refresh token back when they give a new one.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from broker.model import Secret
from broker.people.provider import Resource, SignInFailed, Tokens

MARGIN: Final = timedelta(seconds=30)  # a token that ends on its way is no use
_LARGEST: Final = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A sign-in: where, with whom, and what it gave."""

    about: Resource
    tokens: Tokens = field(repr=False)

    def fresh(self, now: datetime) -> bool:
        return now + MARGIN < self.tokens.expires_at


def place(broker: str) -> Path:
    """The file of this broker's sign-in."""
    state = os.environ.get("XDG_STATE_HOME", "")
    base = (
        Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    )  # the XDG spec: relative is ignored
    return base / "jobkey" / "signin" / (hashlib.sha256(broker.encode()).hexdigest()[:32] + ".json")


def read(broker: str) -> Kept | None:
    """The sign-in that was kept, or None. Raises SignInFailed where its file is not as private as it has to be."""
    path = place(broker)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SignInFailed(f"{path}: cannot be read: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise SignInFailed(f"{path}: others could read or change it; remove it and sign in again")
        data = file.read(_LARGEST)
    try:
        return _kept(json.loads(data), broker)
    except (ValueError, KeyError, TypeError, OverflowError):
        return None  # of another version, or cut short: sign in again


def write(kept: Kept) -> None:
    """Keep a sign-in. Raises SignInFailed."""
    path, about, tokens = place(kept.about.broker), kept.about, kept.tokens
    data = {
        "broker": about.broker, "issuer": about.issuer, "client_id": about.client_id, "scopes": list(about.scopes),
        "access_tokens": about.access_tokens, "max_age": int(about.max_age.total_seconds()), "subject": tokens.subject,
        "token": tokens.token.reveal(), "expires_at": int(tokens.expires_at.timestamp()),
        "refresh_token": tokens.refresh_token.reveal() if tokens.refresh_token else None,
    }  # fmt: skip
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".signin-")  # mode 0600
        try:
            with os.fdopen(descriptor, "w") as file:
                json.dump(data, file)
                file.flush()
                os.fsync(file.fileno())
            Path(name).rename(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise SignInFailed(f"{path}: the sign-in cannot be kept: {error.strerror}") from None


def forget(broker: str) -> bool:
    """Remove what was kept; whether there was something."""
    path = place(broker)
    there = path.is_symlink() or path.exists()
    path.unlink(missing_ok=True)
    return there


@contextlib.contextmanager
def alone(broker: str) -> Iterator[None]:
    """One command at a time. Raises SignInFailed."""
    path = place(broker).with_suffix(".lock")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SignInFailed(f"{path}: the sign-in cannot be kept: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _kept(data: dict[str, object], broker: str) -> Kept:
    if data["broker"] != broker:
        raise ValueError(broker)
    refresh, subject = data["refresh_token"], data["subject"]
    about = Resource(
        broker=broker, issuer=str(data["issuer"]), client_id=str(data["client_id"]),
        scopes=tuple(map(str, data["scopes"])),  # type: ignore[call-overload]  # what is no list raises, and is caught above
        access_tokens=data["access_tokens"] is True,
        max_age=timedelta(seconds=int(str(data["max_age"]))),
    )  # fmt: skip
    tokens = Tokens(
        token=Secret(str(data["token"])),
        expires_at=datetime.fromtimestamp(int(str(data["expires_at"])), UTC),
        refresh_token=None if refresh is None else Secret(str(refresh)),
        subject=None if subject is None else str(subject),
    )
    return Kept(about=about, tokens=tokens)
