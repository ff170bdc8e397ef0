"""The broker as an OAuth 2.0 token service: RFC 8693 exchange, RFC 7009 revocation, RFC 7662 introspection.

One grant a call; its name is the `audience`. A credential of several values is the JSON text of them, and its type says so.
"""

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from broker.errors import MalformedRequest, NothingToRevoke, SessionRejected, UnknownLease
from broker.exchange.credentials import Exchange, ttl_left
from broker.exchange.lifetimes import Lifetimes
from broker.exchange.own_tokens import OwnTokens
from broker.exchange.requests import IssuedCredential
from broker.exchange.sessions import looks_like_session
from broker.model import LeaseState, Secret
from broker.web import wire
from broker.web.job import answer

FORM: Final = "application/x-www-form-urlencoded"
OWN_TYPE: Final = "urn:jobkey:params:oauth:token-type:"
PATHS: Final = frozenset({"/token", "/revoke", "/introspect"})  # answered with RFC 6749 bodies


class OAuthRoutes:
    """`/token`, `/revoke` and `/introspect`."""

    def __init__(self, exchange: Exchange, lifetimes: Lifetimes, own: OwnTokens) -> None:
        self._exchange, self._lifetimes, self._own = exchange, lifetimes, own

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_post("/token", self.token)
        router.add_post("/revoke", self.revoke)
        router.add_post("/introspect", self.introspect)

    async def token(self, request: web.Request) -> web.Response:
        form = wire.token_form(await self._form(request))
        asked = form.to_request()
        if looks_like_session(asked.bearer):
            raise MalformedRequest("the subject_token is your CI's ID token, not a session")
        now = datetime.now(UTC)
        issued = await self._exchange.issue(asked, now=now)
        (credential,) = issued.credentials
        value, kind = _one_value(credential)
        body: dict[str, Any] = {
            "access_token": value,
            "issued_token_type": kind,
            "token_type": "N_A",  # RFC 8693 section 2.2.1: how it is used is the backend's business
            "expires_in": ttl_left(credential.minted.expires_at, now),
            "issuance": issued.issuance,
            "lease": credential.lease,
        }
        return answer(body)

    async def revoke(self, request: web.Request) -> web.Response:
        """RFC 7009 section 2.2: 200 for a token that is not known, too."""
        form = wire.revoke_form(await self._form(request))
        now = datetime.now(UTC)
        if looks_like_session(Secret(form.token)):
            with suppress(SessionRejected):
                await self._lifetimes.end_session(Secret(form.token), now=now)
            return answer({})
        lease = self._own.lease_of(form.token)
        if lease is None:
            raise NothingToRevoke(
                "a session secret or an identity token of this broker can be revoked here; end other credentials by their lease"
            )
        with suppress(UnknownLease):
            await self._lifetimes.end_by_possession(lease, now=now)
        return answer({})

    async def introspect(self, request: web.Request) -> web.Response:
        """RFC 7662 section 2.2, for identity tokens: whoever holds one may ask whether its lease still lives."""
        form = wire.revoke_form(await self._form(request))
        claims = self._own.read(form.token)
        lease = await self._exchange.ledger.lease(claims["jti"]) if claims else None
        now = datetime.now(UTC)
        if claims is None or lease is None or lease.state is not LeaseState.ACTIVE or lease.expires_at <= now:
            return answer({"active": False})
        return answer({"active": True, "token_type": "N_A"} | claims)

    @staticmethod
    async def _form(request: web.Request) -> bytes:
        if request.content_type != FORM:
            raise MalformedRequest(f"send the body as {FORM}")
        return await request.read()


def _one_value(credential: IssuedCredential) -> tuple[str, str]:
    minted = credential.minted
    if minted.type == "jwt":
        return minted.values["token"], wire.JWT
    return json.dumps(minted.values, separators=(",", ":")), OWN_TYPE + minted.type
