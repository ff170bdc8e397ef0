"""A real OIDC issuer on loopback: discovery, a key set, signatures, and every way in which such a server goes wrong.

    async with FakeIssuer() as issuer:
        token = issuer.sign({"sub": "repo:acme/payments", "aud": "https://broker.acme.example"})

`sign` adds `iss`, `iat`, `nbf`, `exp` and `jti` unless the claims say otherwise (a value of None leaves one out).
As a program, `python -m tests.fakes.issuer --port 0` prints `{"url": "http://127.0.0.1:..."}` and serves until it is stopped;
`POST /sign` takes claims and answers `{"token": "..."}` (`?alg=ES256`, `?lifetime=300`), `POST /rotate` changes the keys.
"""

import argparse
import asyncio
import contextlib
import json
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

_CURVES = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}


def make_private_key(alg: str, *, bits: int = 2048) -> Any:
    """A fresh private key for a JWS algorithm."""
    if alg in _CURVES:
        return ec.generate_private_key(_CURVES[alg]())
    if alg == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@dataclass
class SigningKey:
    """One key of the issuer; `kid=None` publishes it without a name."""

    alg: str
    kid: str | None
    private: Any = field(repr=False)
    published: bool = True
    extra: dict[str, Any] = field(default_factory=dict)  # more members of its JWK, or other values for them

    def jwk(self) -> dict[str, Any]:
        public = get_default_algorithms()[self.alg].to_jwk(self.private.public_key(), as_dict=True)
        public.pop("key_ops", None)
        named = {"kid": self.kid} if self.kid is not None else {}
        return {**public, **named, "use": "sig", "alg": self.alg, **self.extra}


class FakeIssuer:
    """One issuer. Change `mode` and the other attributes while it runs; `fetches` counts requests by path."""

    MODES = ("good", "down", "slow", "wrong-issuer", "huge", "bomb", "redirect", "html", "not-json", "no-keys", "status-500",
             "doubled-members", "drop")  # fmt: skip

    def __init__(
        self,
        *,
        alg: str = "RS256",
        kid: str | None = "key-1",
        port: int = 0,
        path: str = "",
        keys: list[SigningKey] | None = None,
    ) -> None:
        self.alg, self.path, self.port = alg, path, port
        self.keys: list[SigningKey] = keys or [SigningKey(alg, kid, make_private_key(alg))]
        self.mode = "good"
        self.broken_path: str | None = None  # mode applies to this one only: "discovery" or "jwks"; None is both
        self.jwks_uri: str | None = None  # published in place of the true one
        self.extra_jwks: list[Any] = []  # entries published beside the keys
        self.cache_control: str | None = None
        self.release = asyncio.Event()  # what mode "slow" waits for
        self.fetches: Counter[str] = Counter()
        self._runner: web.AppRunner | None = None
        self._rotations = 1

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get(self.path + "/.well-known/openid-configuration", self._discovery)
        app.router.add_get(self.path + "/jwks", self._jwks)
        app.router.add_get("/elsewhere", self._elsewhere)
        app.router.add_post("/sign", self._sign)
        app.router.add_post("/rotate", self._rotate)
        self._runner = web.AppRunner(app, shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release.set()
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def url(self) -> str:
        """The issuer's URL, exactly as its tokens' `iss`."""
        return f"http://127.0.0.1:{self.port}{self.path}"

    def rotate(self, *, alg: str | None = None, kid: str | None = "", keep: int = 0) -> SigningKey:
        """Sign with a fresh key from now on; the newest `keep` old ones stay published."""
        self._rotations += 1
        key = SigningKey(
            alg or self.alg, f"key-{self._rotations}" if kid == "" else kid, make_private_key(alg or self.alg)
        )
        self.keys = [key, *self.keys[:keep]]
        return key

    def add_key(self, key: SigningKey) -> SigningKey:
        """Publish another key; the first one keeps signing."""
        self.keys.append(key)
        return key

    def sign(
        self,
        claims: Mapping[str, Any],
        *,
        alg: str | None = None,
        kid: str | None = "",
        key: SigningKey | None = None,
        header: Mapping[str, Any] | None = None,
        lifetime: int = 300,
        now: float | None = None,
    ) -> str:
        """A JWT signed with `key` (the first one unless said). `kid=None` leaves the name out of its header."""
        key = key or self.keys[0]
        issued = int(time.time() if now is None else now)
        standard = {"iss": self.url, "iat": issued, "nbf": issued, "exp": issued + lifetime, "jti": str(uuid.uuid4())}
        payload = {
            name: value for name, value in {**standard, **claims}.items() if value is not None or name not in standard
        }
        name = key.kid if kid == "" else kid
        headers = {**({"kid": name} if name is not None else {}), **(header or {})}
        return jwt.encode(payload, key.private, algorithm=alg or key.alg, headers=headers)

    def jwks(self) -> dict[str, Any]:
        return {"keys": [key.jwk() for key in self.keys if key.published] + self.extra_jwks}

    async def _discovery(self, request: web.Request) -> web.StreamResponse:
        issuer = "https://other.example" if self._mode("discovery") == "wrong-issuer" else self.url
        document = {
            "issuer": issuer,
            "jwks_uri": self.jwks_uri or self.url + "/jwks",
            "id_token_signing_alg_values_supported": [self.alg],
        }
        return await self._answer(request, "discovery", document)

    async def _jwks(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, "jwks", self.jwks())

    async def _elsewhere(self, _: web.Request) -> web.StreamResponse:
        self.fetches["elsewhere"] += 1
        return web.json_response(self.jwks())

    def _mode(self, what: str) -> str:
        return self.mode if self.broken_path in (None, what) else "good"

    async def _answer(self, request: web.Request, what: str, document: Any) -> web.StreamResponse:
        self.fetches[what] += 1
        mode = self._mode(what)
        headers = {"Cache-Control": self.cache_control} if self.cache_control else {}
        if mode in ("down", "status-500"):
            return web.Response(status=503 if mode == "down" else 500, text="not now")
        if mode == "drop":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if mode == "slow":
            await self.release.wait()
        if mode == "redirect":
            return web.Response(status=302, headers={"Location": f"http://127.0.0.1:{self.port}/elsewhere"})
        if mode == "html":
            return web.Response(text="<html><body>Please sign in</body></html>", content_type="text/html")
        if mode == "not-json":
            return web.Response(text='{"keys": [', content_type="application/json")
        if mode == "no-keys" and what == "jwks":
            return web.json_response({"keys": []}, headers=headers)
        if mode == "doubled-members":
            body = json.dumps(document)
            return web.Response(text=body[:-1] + ", " + body[1:], content_type="application/json")
        if mode == "huge":
            return web.json_response({**document, "padding": "x" * 300_000}, headers=headers)
        response = web.json_response(
            {**document, "padding": "x" * 30_000_000} if mode == "bomb" else document, headers=headers
        )
        if mode == "bomb":
            response.enable_compression(web.ContentCoding.gzip)
        return response

    async def _sign(self, request: web.Request) -> web.Response:
        alg = request.query.get("alg", self.alg)
        key = next((key for key in self.keys if key.alg == alg), None) or self.rotate(alg=alg, keep=8)
        return web.json_response(
            {"token": self.sign(await request.json(), key=key, lifetime=int(request.query.get("lifetime", "300")))}
        )

    async def _rotate(self, _: web.Request) -> web.Response:
        return web.json_response({"kid": self.rotate().kid})


async def _serve(port: int, alg: str) -> None:
    async with FakeIssuer(port=port, alg=alg) as issuer:
        print(json.dumps({"url": issuer.url}), flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description="a practice OIDC issuer on loopback")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--alg", default="RS256")
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(arguments.port, arguments.alg))


if __name__ == "__main__":
    main()
