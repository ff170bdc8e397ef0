"""The job's calls (design section 6): credentials, renewal, revocation, and who the broker takes it for."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from aiohttp import web
from multidict import CIMultiDict

from broker.errors import MalformedRequest, SessionRejected, SubjectTokenRejected
from broker.exchange.credentials import Exchange
from broker.exchange.lifetimes import Lifetimes
from broker.exchange.requests import Issued, IssuedCredential
from broker.exchange.sessions import looks_like_session
from broker.model import Secret, rfc3339
from broker.web import wire
from broker.web.problems import NO_STORE

_HEADERS: Final = CIMultiDict({"Content-Type": "application/json", **NO_STORE})  # parsed once, copied for each answer


def bearer(request: web.Request) -> Secret:
    """RFC 6750 section 2.1. Raises SubjectTokenRejected; the token itself is never repeated."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    value = value.strip(" ")
    if scheme.lower() != "bearer" or not value:
        raise SubjectTokenRejected("send your CI's ID token as `Authorization: Bearer <token>`")
    return Secret(value)


def answer(body: Mapping[str, Any], *, status: int = 200) -> web.Response:
    """JSON that no cache may keep."""
    return web.Response(status=status, body=orjson.dumps(body), headers=_HEADERS.copy())


def must_be_json(request: web.Request) -> None:
    """Raises MalformedRequest: a form from a browser must not reach the API."""
    # What nearly all clients send is compared as it stands; aiohttp's parser is for the other spellings of it.
    if request.headers.get("Content-Type") != "application/json" and request.content_type != "application/json":
        raise MalformedRequest("send the body as application/json")


def issued_json(issued: Issued) -> dict[str, Any]:
    """The success of design section 6."""
    session: dict[str, Any] = {"id": issued.session.id, "expires_at": rfc3339(issued.session.expires_at)}
    if issued.session.secret is not None:
        session["secret"] = issued.session.secret.reveal()
    return {
        "issuance": issued.issuance,
        "session": session,
        "credentials": [_credential(credential) for credential in issued.credentials],
    }


def _credential(credential: IssuedCredential) -> dict[str, Any]:
    minted = credential.minted
    return {
        "grant": credential.grant,
        "lease": credential.lease,
        "type": minted.type,
        "expires_at": rfc3339(minted.expires_at),
        "renewable": minted.renewable,
        "values": minted.values,
        "secrets": list(minted.secrets),
        "env": minted.env,
    }


class JobRoutes:
    """Thin: bytes to a request, the use case, an answer to bytes."""

    def __init__(self, exchange: Exchange, lifetimes: Lifetimes) -> None:
        self._exchange, self._lifetimes = exchange, lifetimes

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_post("/v1/credentials", self.credentials)
        router.add_get("/v1/whoami", self.whoami)
        router.add_post("/v1/leases/{lease}/renew", self.renew)
        router.add_delete("/v1/leases/{lease}", self.end_lease)
        router.add_delete("/v1/session", self.end_session)

    async def credentials(self, request: web.Request) -> web.Response:
        must_be_json(request)
        asked = wire.credentials_body(await request.read()).to_request(bearer(request))
        return answer(issued_json(await self._exchange.issue(asked, now=datetime.now(UTC))))

    async def whoami(self, request: web.Request) -> web.Response:
        """How the broker names this job. Spends nothing and says nothing of policies."""
        subject = bearer(request)
        if looks_like_session(subject):
            raise SubjectTokenRejected("send a subject token of your CI here, not a session")
        token = await self._exchange.verifier.verify(subject.reveal(), now=datetime.now(UTC))
        return answer(
            {
                "issuer": token.issuer,
                "kind": token.kind,
                "job": token.job.present(),
                "unsafe_triggers": list(token.unsafe_triggers),
                "bound_audience": token.challenge is not None,
                "expires_at": rfc3339(token.expires_at),
            }
        )

    async def renew(self, request: web.Request) -> web.Response:
        body = await request.read()
        if body:
            must_be_json(request)
        lease = await self._lifetimes.renew(
            self._session(request), request.match_info["lease"], wire.renew_body(body).ttl, now=datetime.now(UTC)
        )
        return answer({"lease": lease.id, "expires_at": rfc3339(lease.expires_at)})

    async def end_lease(self, request: web.Request) -> web.Response:
        ended = await self._lifetimes.end_lease(
            self._session(request), request.match_info["lease"], now=datetime.now(UTC)
        )
        return answer(ended.as_json())

    async def end_session(self, request: web.Request) -> web.Response:
        ended = await self._lifetimes.end_session(self._session(request), now=datetime.now(UTC))
        return answer({"revoked": [lease.as_json() for lease in ended]})

    @staticmethod
    def _session(request: web.Request) -> Secret:
        secret = bearer(request)
        if not looks_like_session(secret):
            raise SessionRejected("send the session's secret here, from the answer that opened it")
        return secret
