"""What comes in and what goes out, as frozen values; broker.web translates them to and from the wire."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from broker.backends.seam import Minted
from broker.model import GrantRequest, Secret
from broker.values import value


@value(frozen=True, slots=True, kw_only=True)
class CredentialRequest:
    """`bearer` is a subject token or a session secret."""

    bearer: Secret
    grants: tuple[GrantRequest, ...]
    verifier: Secret | None = None  # of a bound audience
    nonce: Secret | None = None  # makes a retry after a lost answer safe


@value(frozen=True, slots=True, kw_only=True)
class IssuedSession:
    """`secret` is there only in the answer that created it."""

    id: str
    expires_at: datetime
    secret: Secret | None = None


@value(frozen=True, slots=True, kw_only=True)
class IssuedCredential:
    """One grant's credential, with the lease that ends it."""

    grant: str
    lease: str
    minted: Minted = field(repr=False)


@value(frozen=True, slots=True, kw_only=True)
class Issued:
    """The answer to a CredentialRequest."""

    issuance: str
    session: IssuedSession
    credentials: tuple[IssuedCredential, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What became of one lease that was asked to end."""

    lease: str
    state: str  # revoked | irrevocable | revoking (workers go on trying)
    reason: str | None = None

    def as_json(self) -> Mapping[str, Any]:
        return {"lease": self.lease, "state": self.state} | ({"reason": self.reason} if self.reason else {})
