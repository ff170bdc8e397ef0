"""The KeyStore seam: everything that signs, seals or fingerprints goes through it, so that a KMS can take over.

Owns private keys. Nothing else reads them, and no method gives one away.

* `sign` is synchronous and fast (microseconds): file keys live in this process.
* Names are roles: "identity" (ES256), "log" (Ed25519), "ssh-ca" (Ed25519).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public half: `kid` is the RFC 7638 thumbprint of its JWK."""

    kid: str
    algorithm: str  # ES256 | EdDSA
    key: PublicKeyTypes


class KeyStore(ABC):
    """Private keys by role. The first public key of a role is the one that signs; the others still verify."""

    @abstractmethod
    def public(self, role: str) -> Sequence[PublicKey]:
        """The role's keys, the signing one first. Makes a key the first time a role is asked for."""

    @abstractmethod
    def sign(self, role: str, data: bytes) -> bytes:
        """ES256: the raw 64-byte r||s of RFC 7518 section 3.4. EdDSA: the 64-byte Ed25519 signature."""

    @abstractmethod
    def fingerprint(self, text: str) -> str:
        """`hmac-sha256:<hex>` under a key of the broker's: tells whose a leaked credential is, and cannot be guessed back."""

    @abstractmethod
    def seal(self, data: bytes, *, context: str) -> bytes:
        """AES-256-GCM, a fresh nonce first, `context` authenticated with it (the lease's id)."""

    @abstractmethod
    def unseal(self, sealed: bytes, *, context: str) -> bytes:
        """Raises ValueError where the bytes or the context were changed."""
