"""Sessions: an opaque secret in place of a spent subject token.

`jks_<26 characters of the session's id>_<43 base64url characters>`: the id finds the row, SHA-256 of the whole text is
all that is stored. The random half has 256 bits, so a plain hash is enough and a slow one would only cost.
"""

import hashlib
import hmac
import re
import secrets
from datetime import datetime, timedelta
from typing import Final

from broker.errors import SessionRejected
from broker.ledger.records import SessionRecord
from broker.model import Secret, VerifiedToken

_SHAPE: Final = re.compile(r"jks_([0-7][0-9A-HJKMNP-TV-Z]{25})_[A-Za-z0-9_-]{43}")
MARGIN: Final = timedelta(hours=1)  # a spent token's row outlives the token by this, whatever the clocks say


def digest(text: str) -> bytes:
    """SHA-256 of a secret of high entropy."""
    return hashlib.sha256(text.encode()).digest()


def looks_like_session(bearer: Secret) -> bool:
    """Subject tokens start with base64url of `{"`, never with `jks_`."""
    return bearer.reveal().startswith("jks_")


def new_secret(session: str) -> Secret:
    """A fresh secret for the session with this id."""
    return Secret(f"jks_{session.removeprefix('ses_')}_{secrets.token_urlsafe(32)}")


def session_id(bearer: Secret) -> str:
    """The id inside a session secret. Raises SessionRejected."""
    match = _SHAPE.fullmatch(bearer.reveal())
    if match is None:
        raise SessionRejected(
            "this is not a session secret of this broker; send the one from the answer that opened the session"
        )
    return f"ses_{match[1]}"


def open_session(
    token: VerifiedToken, claims: str, *, session: str, secret: Secret, nonce: Secret | None
) -> SessionRecord:
    """The row that redeems a token: never longer than the issuer kind's longest job."""
    expires_at = token.issued_at + token.longest_job
    return SessionRecord(
        id=session,
        token_key=token.token_key,
        secret_hash=digest(secret.reveal()),
        nonce_hash=digest(nonce.reveal()) if nonce else None,
        issuer=token.issuer,
        claims=claims,
        issued_at=token.issued_at,
        token_expires_at=token.expires_at,
        expires_at=expires_at,
        keep_until=max(expires_at, token.expires_at) + MARGIN,
    )


def check(record: SessionRecord | None, bearer: Secret, *, now: datetime) -> SessionRecord:
    """The session if the secret opens it now. Raises SessionRejected, the same way for unknown and for wrong."""
    if record is None or not hmac.compare_digest(record.secret_hash, digest(bearer.reveal())):
        raise SessionRejected("no session has this secret; get a fresh ID token from your CI and ask again")
    if record.ended_at is not None:
        raise SessionRejected("this session was ended; get a fresh ID token from your CI and ask again")
    if record.expires_at <= now:
        raise SessionRejected("this session has expired; get a fresh ID token from your CI and ask again")
    return record
