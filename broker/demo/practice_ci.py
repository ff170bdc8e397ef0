"""A practice CI on loopback: an OIDC issuer with discovery, and the token endpoint that GitHub gives its jobs.

`GET /token/<event>?audience=...` with the job's request token answers `{"value": "<jwt>"}`, like
ACTIONS_ID_TOKEN_REQUEST_URL; <event> is one of EVENTS.
"""

import json
import secrets
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

KID: Final = "practice-1"
JOB: Final[Mapping[str, str]] = {
    "repository": "acme/payments",
    "repository_id": "512345678",
    "repository_owner": "acme",
    "repository_owner_id": "9123456",
    "repository_visibility": "private",
    "actor": "dana-acme",
    "actor_id": "7700101",
    "base_ref": "",
    "head_ref": "",
    "run_attempt": "1",
    "run_number": "318",
    "runner_environment": "github-hosted",
    "workflow": "Release",
    "sha": "3f786850e387550fdab836ed7e6dc881de23001b",
    "workflow_sha": "3f786850e387550fdab836ed7e6dc881de23001b",
    "job_workflow_sha": "3f786850e387550fdab836ed7e6dc881de23001b",
}
_FILE: Final = "acme/payments/.github/workflows/release.yml"
EVENTS: Final[Mapping[str, Mapping[str, str]]] = {
    "push": {
        "sub": "repo:acme/payments:environment:production",
        "event_name": "push",
        "environment": "production",
        "ref": "refs/heads/main",
        "ref_type": "branch",
        "ref_protected": "true",
        "workflow_ref": f"{_FILE}@refs/heads/main",
        "job_workflow_ref": f"{_FILE}@refs/heads/main",
    },
    "fork-pull-request": {
        "sub": "repo:acme/payments:pull_request",
        "event_name": "pull_request",
        "actor": "mallory",
        "actor_id": "6660001",
        "head_ref": "main",
        "base_ref": "main",
        "ref": "refs/pull/77/merge",
        "ref_type": "branch",
        "ref_protected": "false",
        "workflow_ref": f"{_FILE}@refs/pull/77/merge",
        "job_workflow_ref": f"{_FILE}@refs/pull/77/merge",
    },
}


class PracticeCi:
    """Open with `start`, close with `close`; `url` is the issuer."""

    def __init__(self) -> None:
        self._runs = {event: str(9876543210 + secrets.randbelow(100_000) * 10 + n) for n, event in enumerate(EVENTS)}
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.request_token = secrets.token_urlsafe(24)
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self, port: int = 0) -> None:
        """Listen on 127.0.0.1."""
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._discovery)
        app.router.add_get("/jwks", self._jwks)
        app.router.add_get("/token/{event}", self._token)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        host, real = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{real}"

    async def close(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    def environment(self, event: str) -> dict[str, str]:
        """What GitHub would put into the environment of a job of this kind."""
        claims = {**JOB, **EVENTS[event]}
        return {
            "GITHUB_ACTIONS": "true",
            "GITHUB_REPOSITORY": claims["repository"],
            "GITHUB_REF": claims["ref"],
            "GITHUB_EVENT_NAME": claims["event_name"],
            "GITHUB_SERVER_URL": "https://github.com",
            "GITHUB_RUN_ID": self._runs[event],
            "GITHUB_RUN_ATTEMPT": claims["run_attempt"],
            "GITHUB_JOB": "deploy",
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.url}/token/{event}?api-version=2.0",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": self.request_token,
        }

    def sign(self, claims: Mapping[str, Any], *, audience: str) -> str:
        """A token as GitHub signs it: RS256, five minutes."""
        now = int(time.time())
        payload = {
            "iss": self.url, "aud": audience, "jti": str(uuid.uuid4()), "iat": now, "nbf": now - 600, "exp": now + 300,
            "check_run_id": "41234567890",
        }  # fmt: skip
        header = {"alg": "RS256", "kid": KID, "typ": "JWT"}
        signed = f"{_part(header)}.{_part({**claims, **payload})}"
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_b64(signature)}"

    async def _discovery(self, _: web.Request) -> web.Response:
        return web.json_response(
            {"issuer": self.url, "jwks_uri": f"{self.url}/jwks", "id_token_signing_alg_values_supported": ["RS256"]}
        )

    async def _jwks(self, _: web.Request) -> web.Response:
        numbers = self._key.public_key().public_numbers()
        key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": KID, "n": _int(numbers.n), "e": _int(numbers.e)}
        return web.json_response({"keys": [key]})

    async def _token(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization", "").lower() != f"bearer {self.request_token}".lower():
            raise web.HTTPUnauthorized(text="the request token is wrong")
        event = EVENTS.get(request.match_info["event"])
        if event is None:
            raise web.HTTPNotFound(text=f"practised here: {', '.join(EVENTS)}")
        audience = request.query.get("audience", "https://github.com/acme")
        claims = {**JOB, **event, "run_id": self._runs[request.match_info["event"]]}
        return web.json_response({"value": self.sign(claims, audience=audience)})


def _b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _part(data: Mapping[str, Any]) -> str:
    return _b64(json.dumps(data, separators=(",", ":")).encode())


def _int(number: int) -> str:
    return _b64(number.to_bytes((number.bit_length() + 7) // 8))
