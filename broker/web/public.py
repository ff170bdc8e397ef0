"""What anyone may read: discovery, keys, the transparency log, health, metrics and the API's description."""

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Literal

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from broker.backends.identity_token import jwks
from broker.keys import KeyStore
from broker.ledger.store import Ledger
from broker.metrics import REGISTRY
from broker.web import wire
from broker.web.openapi import openapi

PUBLIC: Final = {"Cache-Control": "public, max-age=300"}
IMMUTABLE: Final = {"Cache-Control": "public, max-age=31536000, immutable"}
_TILE: Final = re.compile(r"tile/(entries|[0-9]|[1-5][0-9]|6[0-3])/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


class PublicRoutes:
    """Discovery, `/jwks.json`, `/log`, `/healthz`, `/readyz`, `/metrics`, `/openapi.json`."""

    def __init__(
        self,
        *,
        url: str,
        keys: KeyStore,
        ledger: Ledger,
        log_public: Literal["checkpoint", "everything", "nothing"],
        readiness: Callable[[], Awaitable[Mapping[str, str]]],
        notes: Callable[[], Mapping[str, str]] = dict,
        webhook: bool = False,
    ) -> None:
        """`notes` are told with the readiness, and keep nobody from anything; `webhook` is described where it is served."""
        self._url, self._keys, self._ledger, self._log_public = url, keys, ledger, log_public
        self._readiness, self._notes = readiness, notes
        self._description = json.dumps(openapi(url, webhook=webhook)).encode()

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/.well-known/openid-configuration", self.openid_configuration)
        router.add_get("/.well-known/oauth-authorization-server", self.authorization_server)
        router.add_get("/jwks.json", self.jwks)
        router.add_get("/log/checkpoint", self.checkpoint)
        router.add_get("/log/{tile:tile/.+}", self.tile)
        router.add_get("/healthz", self.healthz)
        router.add_get("/readyz", self.readyz)
        router.add_get("/metrics", self.metrics)
        router.add_get("/openapi.json", self.openapi)

    async def openid_configuration(self, _: web.Request) -> web.Response:
        """OpenID Connect Discovery 1.0 section 3, as far as a workload issuer has something to say."""
        return _json(
            {
                "issuer": self._url,
                "jwks_uri": f"{self._url}/jwks.json",
                "token_endpoint": f"{self._url}/token",
                "response_types_supported": ["id_token"],
                "grant_types_supported": [wire.EXCHANGE],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
                "claims_supported": [
                    "iss",
                    "sub",
                    "aud",
                    "iat",
                    "nbf",
                    "exp",
                    "jti",
                    "project",
                    "project_id",
                    "owner",
                    "owner_id",
                    "ref",
                    "environment",
                    "jobkey",
                ],
            }
        )

    async def authorization_server(self, _: web.Request) -> web.Response:
        """RFC 8414 section 2."""
        return _json(
            {
                "issuer": self._url,
                "jwks_uri": f"{self._url}/jwks.json",
                "token_endpoint": f"{self._url}/token",
                "token_endpoint_auth_methods_supported": ["none"],
                "grant_types_supported": [wire.EXCHANGE],
                "response_types_supported": [],
                "revocation_endpoint": f"{self._url}/revoke",
                "revocation_endpoint_auth_methods_supported": ["none"],
                "introspection_endpoint": f"{self._url}/introspect",
                "introspection_endpoint_auth_methods_supported": ["none"],
            }
        )

    async def jwks(self, _: web.Request) -> web.Response:
        return _json(jwks(self._keys), content_type="application/jwk-set+json")

    async def checkpoint(self, _: web.Request) -> web.Response:
        """C2SP tlog-checkpoint, the latest."""
        if self._log_public == "nothing":
            raise web.HTTPForbidden(text="this broker keeps its log to itself (log.public: nothing)")
        return web.Response(
            body=self._ledger.checkpoint(),
            content_type="text/plain",
            charset="utf-8",
            headers={"Cache-Control": "no-cache"},
        )

    async def tile(self, request: web.Request) -> web.Response:
        """C2SP tlog-tiles: hashes for everyone who may see checkpoints, entries only where `log.public` says everything."""
        match = _TILE.fullmatch(request.match_info["tile"])
        if match is None:
            raise web.HTTPNotFound(text="no such tile; see C2SP tlog-tiles for the paths")
        level, path, partial = match[1], match[2], match[3]
        if self._log_public == "nothing" or (level == "entries" and self._log_public != "everything"):
            raise web.HTTPForbidden(text="log.public does not open this to everyone")
        index, width = int(path.replace("x", "").replace("/", "")), int(partial or 256)
        if path != _tile_path(index) or width > 256 or (partial and width == 256):  # noqa: PLR2004  one name a tile
            raise web.HTTPNotFound(text="no such tile; see C2SP tlog-tiles for the paths")
        data = await (
            self._ledger.entries(index, width) if level == "entries" else self._ledger.tile(int(level), index, width)
        )
        if data is None:
            raise web.HTTPNotFound(text="the log has not grown to this tile")
        return web.Response(body=data, content_type="application/octet-stream", headers=IMMUTABLE)

    async def healthz(self, _: web.Request) -> web.Response:
        """The process answers."""
        return _json({"status": "ok"}, headers={"Cache-Control": "no-store"})

    async def readyz(self, _: web.Request) -> web.Response:
        """The process can issue: 503 with the reasons where it cannot."""
        problems = await self._readiness()
        body: dict[str, Any] = {"status": "not ready", "problems": problems} if problems else {"status": "ready"}
        if notes := self._notes():
            body["notes"] = notes
        return _json(body, status=503 if problems else 200, headers={"Cache-Control": "no-store"})

    async def metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def openapi(self, _: web.Request) -> web.Response:
        return web.Response(body=self._description, content_type="application/json", headers=PUBLIC)


def _tile_path(index: int) -> str:
    """C2SP tlog-tiles: three digits at a time, all but the last group with an x before it."""
    groups = [f"{index % 1000:03}"]
    while index := index // 1000:
        groups.insert(0, f"x{index % 1000:03}")
    return "/".join(groups)


def _json(
    body: Mapping[str, Any],
    *,
    status: int = 200,
    content_type: str = "application/json",
    headers: Mapping[str, str] = PUBLIC,
) -> web.Response:
    return web.Response(status=status, body=json.dumps(body).encode(), content_type=content_type, headers=headers)
