"""A downstream service that knows nothing of the broker but its URL."""

import json
import urllib.request
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import jwt

from broker.backends.seam import Minted
from tests.contract.rigs.base import Hostile, Rig


def verify(issuer: str, token: str, audience: str) -> dict[str, Any]:
    """What any OpenID Connect library does: discovery, key by id, signature, issuer, audience, times."""
    discovery = _get(issuer + "/.well-known/openid-configuration")
    assert discovery["issuer"] == issuer
    keys = jwt.PyJWKSet.from_dict(_get(discovery["jwks_uri"]))
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims: dict[str, Any] = jwt.decode(
        token, key, algorithms=discovery["id_token_signing_alg_values_supported"], audience=audience, issuer=issuer,
        options={"require": ["exp", "iat", "nbf", "sub", "jti"]},
    )  # fmt: skip
    return claims


def _get(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


class IdentityTokenRig(Rig):
    kind = "identity-token"
    ttl = timedelta(minutes=5)
    settings: Mapping[str, Any] = {}
    options: Mapping[str, Any] = {"audience": "https://deploy.acme.example", "claims": {"tier": "prod"}}
    hostile = (
        Hostile("issuer overruled", options={"claims": {"iss": "https://evil.example"}}),
        Hostile("subject overruled", options={"claims": {"sub": "x"}}),
        Hostile("expiry overruled", options={"claims": {"exp": 9999999999}}),
        Hostile("project overruled", options={"claims": {"project": "acme/other"}}),
        Hostile("grant overruled", options={"claims": {"jobkey": "x"}}),
        Hostile("empty audience", options={"audience": ""}),
        Hostile("no audience", options={"audience": []}),
        Hostile("audience with a newline", options={"audience": "https://a.example\n"}),
        Hostile("audience with a look-alike", options={"audience": "https://\u0430cme.example"}),
        Hostile("subject with a newline", options={"subject": "a\nb"}),
        Hostile("subject too long", options={"subject": "a" * 256}),
        Hostile("subject with a look-alike", options={"subject": "repo:\u0430cme"}),
        Hostile("a template left over", options={"claims": {"x": "{{ job.ref }}"}}),
        Hostile("a variable that runs code", options={"env": "LD_PRELOAD"}),
        Hostile("a variable that is a line", options={"env": "A=B\nC"}),
        Hostile("a parameter nobody asked for", params={"audience": "x"}),
    )

    def works(self, minted: Minted) -> bool:
        return self._verifies(minted, "https://deploy.acme.example")

    def works_outside(self, minted: Minted) -> bool:
        return self._verifies(minted, "https://deploy.acme.example.evil") or self._verifies(minted, self.around.url)

    def _verifies(self, minted: Minted, audience: str) -> bool:
        try:
            verify(self.around.url, minted.values["token"], audience)
        except jwt.InvalidTokenError:
            return False
        return True
