"""One configured issuer: what the broker demands of its tokens. Frozen; made by `settings.trusted_issuer`, or in tests."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Literal

from broker.issuers.seam import IssuerKind

# Asymmetric only: with a shared secret whoever checks a token could have made it, and a public key passed off as an HMAC
# secret is the oldest JWT attack there is (RFC 8725 section 3.1). `none` is not an algorithm.
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")

STALE_LIMIT: Final = timedelta(hours=6)
LEEWAY: Final = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedIssuer:
    """An issuer as the verifier needs it. `url` is compared exactly with a token's `iss`."""

    name: str
    kind: IssuerKind
    url: str
    audiences: tuple[str, ...]
    algorithms: tuple[str, ...] = ("RS256",)
    max_age: timedelta = timedelta(minutes=10)
    max_lifetime: timedelta = timedelta(hours=2)
    leeway: timedelta = LEEWAY
    jti: Literal["required", "optional"] = "optional"
    bound_audience: Literal["optional", "required"] = "optional"
    stale_limit: timedelta = STALE_LIMIT  # how long the last good key set serves while no new one can be had
    allow_private: bool = False  # whether its hosts may resolve to private addresses
    types: tuple[str, ...] = ("jwt",)  # accepted `typ` headers, lower case; none at all is `jwt`
    required: frozenset[str] = field(init=False)
    known: frozenset[str] | None = field(init=False, repr=False)  # None where the kind knows every claim there may be
    # The lengths of time in seconds, once: every verification compares them with numbers.
    leeway_seconds: float = field(init=False, repr=False)
    max_age_seconds: float = field(init=False, repr=False)
    max_lifetime_seconds: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Put together what every verification asks."""
        extra = {"jti"} if self.jti == "required" else set()
        object.__setattr__(self, "required", self.kind.required | extra)
        object.__setattr__(self, "known", None if "*" in self.kind.claims else frozenset(self.kind.claims))
        for name in ("leeway", "max_age", "max_lifetime"):
            object.__setattr__(self, f"{name}_seconds", getattr(self, name).total_seconds())
