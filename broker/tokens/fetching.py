"""Getting an issuer's discovery document and key set: small, quick, straight, from where the configuration says.

Every limit is here: 256 KiB, ten seconds for the whole exchange, no redirect, no proxy, no cookie, https or loopback, and the
address check of broker.tokens.dialling. What arrives is parsed as strictly as a token.
"""

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import aiohttp

from broker.issuers.trusted import TrustedIssuer
from broker.issuers.urls import is_loopback, split
from broker.tokens import jose
from broker.tokens.dialling import Dialler
from broker.tokens.keyset import KeySet, NoKeys, parse

LARGEST: Final = 256 * 1024
TIMEOUT: Final = aiohttp.ClientTimeout(total=10, sock_connect=5)
_DEEPEST: Final = 16
_MAX_AGE: Final = re.compile(r"max-age\s*=\s*\"?([0-9]{1,9})", re.IGNORECASE)


class FetchFailed(Exception):
    """The keys could not be had. The text is for the operator; it quotes nothing the other side sent."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A key set, and how many seconds the issuer says it may be kept (None where it does not say)."""

    keys: KeySet
    max_age: float | None


def discovery_url(issuer: str) -> str:
    """OpenID Connect Discovery section 4.1: the path goes after the issuer's own, without a doubled slash."""
    return issuer.removesuffix("/") + "/.well-known/openid-configuration"


async def discover(issuer: TrustedIssuer) -> str:
    """The `jwks_uri` of an issuer. Raises FetchFailed."""
    document, _ = await _get(discovery_url(issuer.url), issuer, "the discovery document")
    if document.get("issuer") != issuer.url:
        # Section 4.3: it must be identical. A document of another issuer would lend us that one's keys.
        raise FetchFailed("the discovery document names another issuer than the one configured")
    jwks_uri = document.get("jwks_uri")
    if not isinstance(jwks_uri, str):
        raise FetchFailed("the discovery document has no jwks_uri")
    try:
        parts = split(jwks_uri)
    except ValueError:
        raise FetchFailed("the discovery document's jwks_uri is no plain https URL") from None
    if parts.scheme == "http" and not issuer.url.startswith("http:"):
        raise FetchFailed("the discovery document's jwks_uri steps down from https to http")
    return jwks_uri


async def fetch_keys(jwks_uri: str, issuer: TrustedIssuer) -> Fetched:
    """The key set behind a `jwks_uri`. Raises FetchFailed."""
    document, cache_control = await _get(jwks_uri, issuer, "the key set")
    try:
        keys = parse(document, issuer.algorithms)
    except NoKeys as error:
        raise FetchFailed(str(error)) from None
    if re.search(r"no-(store|cache)", cache_control, re.IGNORECASE):
        return Fetched(keys, 0)
    said = _MAX_AGE.search(cache_control)
    return Fetched(keys, float(said[1]) if said else None)


async def _get(url: str, issuer: TrustedIssuer, what: str) -> tuple[dict[str, Any], str]:
    loopback = is_loopback(split(issuer.url).hostname or "")
    dialler = Dialler(allow_private=issuer.allow_private, allow_loopback=loopback)
    connector = aiohttp.TCPConnector(socket_factory=dialler, force_close=True, use_dns_cache=False)
    headers = {"Accept": "application/json", "User-Agent": "jobkey-broker"}
    try:
        async with (
            aiohttp.ClientSession(
                connector=connector, timeout=TIMEOUT, trust_env=False, cookie_jar=aiohttp.DummyCookieJar()
            ) as session,
            session.get(url, headers=headers, allow_redirects=False, auto_decompress=True) as response,
        ):
            data = await _body(response, what)
            cache_control = ", ".join(response.headers.getall("Cache-Control", ()))
    except FetchFailed:
        raise
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        if dialler.forbidden:
            raise FetchFailed(
                f"{what} is at an address that must not be dialled (private, link-local or loopback); "
                "set allow_private: true for an issuer in your own network"
            ) from None
        raise FetchFailed(f"{what} could not be fetched ({type(error).__name__})") from None
    try:
        return jose.decode_object(data, what, deepest=_DEEPEST), cache_control
    except jose.Malformed:
        raise FetchFailed(f"{what} is not a sound JSON object") from None


async def _body(response: aiohttp.ClientResponse, what: str) -> bytes:
    """Read up to LARGEST, counted after decompression: a bomb is small on the wire."""
    if response.status != HTTPStatus.OK:  # a redirect too
        raise FetchFailed(f"{what} was answered with status {response.status}")
    data = bytearray()
    async for chunk in response.content.iter_chunked(16_384):
        data += chunk
        if len(data) > LARGEST:
            raise FetchFailed(f"{what} is larger than {LARGEST >> 10} KiB")
    return bytes(data)
