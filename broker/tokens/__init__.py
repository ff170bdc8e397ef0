"""JOSE and JWKS: hostile bytes in, a VerifiedToken out. Only this package builds one.

Owns verification and issuers' keys. What the claims mean belongs to broker.issuers; single use to broker.exchange.
"""

from broker.issuers.trusted import TrustedIssuer
from broker.tokens.audience import challenge_of
from broker.tokens.observer import Observer
from broker.tokens.verify import TokenVerifier

__all__ = ["Observer", "TokenVerifier", "TrustedIssuer", "challenge_of"]
