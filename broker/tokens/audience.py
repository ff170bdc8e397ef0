"""Whom a token is for: one of the broker's audiences, bare or bound to a verifier's hash (`<audience>#S256.<challenge>`).

A client that may choose its audience keeps the verifier to itself until it asks, so a token read in a log is worth nothing.
"""

import hashlib
import re
from base64 import urlsafe_b64encode
from typing import Any, Final

from broker.errors import MalformedRequest
from broker.issuers.trusted import TrustedIssuer

BOUND: Final = "#S256."
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")  # RFC 7636 section 4.1


def challenge_of(verifier: str) -> str:
    """`base64url(SHA-256(verifier))`, to compare with VerifiedToken.challenge. Raises MalformedRequest.

    RFC 7636 section 4.2, with its alphabet and lengths: a shorter verifier could be guessed from its hash in the audience.
    """
    if _VERIFIER.fullmatch(verifier) is None:
        raise MalformedRequest(
            "the verifier has to be 43 to 128 of the characters A-Z a-z 0-9 - . _ ~ (RFC 7636 section 4.1)"
        )
    return urlsafe_b64encode(hashlib.sha256(verifier.encode("ascii")).digest()).rstrip(b"=").decode("ascii")


def split_audience(issuer: TrustedIssuer, audience: Any) -> tuple[bool, str | None]:
    """Whether an audience is ours, and the challenge bound to it."""
    if type(audience) is list and len(audience) == 1:  # Bitbucket and Kubernetes sign a list even for one
        audience = audience[0]
    if type(audience) is not str:
        return False, None
    if audience in issuer.audiences:
        return True, None
    audience, _, challenge = audience.rpartition(BOUND)
    return (True, challenge) if audience in issuer.audiences and _CHALLENGE.fullmatch(challenge) else (False, None)
