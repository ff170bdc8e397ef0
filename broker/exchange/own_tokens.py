"""Identity tokens that come back: to be revoked or introspected by whoever holds them."""

from typing import Any

import jwt

from broker import ids
from broker.keys import KeyStore


class OwnTokens:
    """Checks the broker's own signature, with keys by role; nothing is fetched."""

    def __init__(self, keys: KeyStore, url: str) -> None:
        self._keys, self._url = keys, url

    def read(self, token: str) -> dict[str, Any] | None:
        """The claims of a token that this broker signed and that has not expired, or None."""
        for key in self._keys.public("identity"):
            try:
                claims: dict[str, Any] = jwt.decode(
                    token,
                    key.key,  # type: ignore[arg-type]  # the identity role holds EC keys only
                    algorithms=[key.algorithm],
                    issuer=self._url,
                    options={"verify_aud": False, "require": ["exp", "iss", "jti"]},
                )
            except jwt.InvalidTokenError:
                continue
            return claims if ids.is_id(str(claims["jti"]), "lse") else None
        return None

    def lease_of(self, token: str) -> str | None:
        """The lease of such a token, or None."""
        claims = self.read(token)
        return None if claims is None else claims["jti"]
