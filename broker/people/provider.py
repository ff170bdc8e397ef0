"""The command line before an OpenID provider: what the broker says of it, what it says of itself, and a form sent to it.

* The broker names the issuer, the client and the scopes (RFC 9728); the metadata has to name the broker by the very URL it was
  asked at. All else comes from the issuer's own discovery, which has to name the issuer (RFC 8414, OpenID Connect Discovery).
* https, or http to this machine. No redirect is followed, no answer over 256 KiB is read, nothing is sent in a URL.
* An ID token is verified as the broker will verify it: signature, issuer, audience, times.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from broker.errors import BrokerError
from broker.issuers.trusted import ALGORITHMS, TrustedIssuer
from broker.issuers.urls import split
from broker.model import Secret, VerifiedToken
from broker.people.settings import MOST_AGE, NAME, PERSON
from broker.people.signin import RESOURCE
from broker.tokens.verify import TokenVerifier

LARGEST: Final = 256 * 1024
TIMEOUT: Final = aiohttp.ClientTimeout(total=30, sock_connect=10)
SLOW: Final = aiohttp.ClientTimeout(total=120, sock_connect=10)  # of what is sent a lot, and thinks about it
_AUTHORIZATION_SERVER: Final = "/.well-known/oauth-authorization-server"
_OPENID: Final = "/.well-known/openid-configuration"


class SignInFailed(Exception):
    """The text says what happened and what to do; it holds nothing secret, and may hold a provider's own words."""


class ProviderSaysNo(SignInFailed):
    """RFC 6749 section 5.2. `error` is the code."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(f"the issuer said no: {error}" + (f": {description}" if description else ""))
        self.error = error


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """What the broker says of its people's sign-in."""

    broker: str
    issuer: str
    client_id: str
    scopes: tuple[str, ...]
    access_tokens: bool
    max_age: timedelta
    device_endpoint: str | None = None  # of a provider whose discovery does not name it


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """What the issuer says of itself."""

    issuer: str
    token_endpoint: str
    authorization_endpoint: str | None
    device_endpoint: str | None
    revocation_endpoint: str | None
    says_iss: bool  # RFC 9207: its authorization answers name it
    algorithms: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What a sign-in gave. `token` is the one to send; it is good until `expires_at`."""

    token: Secret
    expires_at: datetime
    refresh_token: Secret | None = field(default=None, repr=False)
    subject: str | None = None  # the ID token's `sub`


def own_address(url: str) -> str:
    """A broker's URL as given by a person. Raises SignInFailed."""
    try:
        split(url)
    except ValueError as error:
        raise SignInFailed(f"--broker {url}: {error}") from None
    return url.rstrip("/")


async def resource(broker: str) -> Resource:
    """Ask the broker how its people sign in. Raises SignInFailed."""
    said = await get_json(broker + RESOURCE, what=f"the broker {broker}")
    if said.get("resource") != broker:  # RFC 9728 section 3.3
        raise SignInFailed(
            f"{broker} calls itself {said.get('resource')!r}; use that URL, if it is the broker you mean"
        )
    servers, client, scopes = (
        said.get(name) for name in ("authorization_servers", "jobkey_client_id", "scopes_supported")
    )
    if not isinstance(servers, list) or len(servers) != 1:
        raise SignInFailed(f"nobody can sign in to {broker}: its operators have not set `people:`")
    age, device = said.get("jobkey_max_age"), said.get("jobkey_device_authorization_endpoint")
    if not isinstance(client, str) or not isinstance(scopes, list) or not isinstance(age, int):
        raise SignInFailed(f"{broker} does not say how to sign in to it; is it older than this command?")
    return Resource(
        broker=broker,
        issuer=_url(servers[0], "the issuer"),
        client_id=client,
        scopes=tuple(str(scope) for scope in scopes),
        access_tokens=said.get("jobkey_token") == "access_token",
        max_age=min(
            timedelta(seconds=min(max(age, 0), 10**6)), MOST_AGE
        ),  # what the broker would let anybody configure
        device_endpoint=None if device is None else _url(device, "the device authorization endpoint"),
    )


async def provider(issuer: str, *, device_endpoint: str | None = None) -> Provider:
    """Ask the issuer for its endpoints. Raises SignInFailed."""
    said = await get_json(issuer.removesuffix("/") + _OPENID, what=f"the issuer {issuer}")
    if said.get("issuer") != issuer:
        raise SignInFailed(f"the discovery document of {issuer} names another issuer")
    wanted = ("device_authorization_endpoint", "revocation_endpoint")
    if any(said.get(name) is None for name in wanted):
        said = await _oauth_metadata(issuer) | said
    found = {
        name: None if said.get(name) is None else _url(said[name], name)
        for name in ("token_endpoint", "authorization_endpoint", *wanted)
    }
    if found["token_endpoint"] is None:
        raise SignInFailed(f"the issuer {issuer} names no token endpoint")
    signs = said.get("id_token_signing_alg_values_supported") or ["RS256"]
    return Provider(
        issuer=issuer,
        token_endpoint=found["token_endpoint"],
        authorization_endpoint=found["authorization_endpoint"],
        device_endpoint=found["device_authorization_endpoint"] or device_endpoint,
        revocation_endpoint=found["revocation_endpoint"],
        says_iss=said.get("authorization_response_iss_parameter_supported") is True,
        algorithms=tuple(name for name in ALGORITHMS if name in signs) or ("RS256",),
    )


async def _oauth_metadata(issuer: str) -> dict[str, Any]:
    """RFC 8414 section 3; some providers name there what OpenID discovery leaves out. Nothing where there is none."""
    parts = split(issuer)
    url = f"{parts.scheme}://{parts.netloc}{_AUTHORIZATION_SERVER}{parts.path.rstrip('/')}"
    try:
        said = await get_json(url, what="the issuer's metadata")
    except SignInFailed:
        return {}
    return said if said.get("issuer") == issuer else {}


async def tokens_of(answer: Mapping[str, Any], at: Provider, about: Resource, *, nonce: str | None = None) -> Tokens:
    """A token endpoint's answer, checked. `nonce` is what the code flow asked for. Raises SignInFailed."""
    now = datetime.now(UTC)
    refresh = answer.get("refresh_token")
    kept = Secret(refresh) if isinstance(refresh, str) and refresh else None
    id_token = answer.get("id_token")
    verified = await _verified(str(id_token), at, about, now) if id_token is not None else None
    if verified is not None and nonce is not None and verified.claims.get("nonce") != nonce:
        raise SignInFailed("the ID token answers another sign-in than this one (nonce); try again")
    subject = None if verified is None else str(verified.claims["sub"])
    if about.access_tokens:
        token, lasts = answer.get("access_token"), answer.get("expires_in")
        if not isinstance(token, str) or not token:
            raise SignInFailed("the issuer gave no access token")
        longest = about.max_age.total_seconds()
        life = timedelta(seconds=min(lasts, longest) if isinstance(lasts, int) and lasts > 0 else longest)
        return Tokens(token=Secret(token), expires_at=now + life, refresh_token=kept, subject=subject)
    if verified is None:
        raise SignInFailed("the issuer gave no ID token; ask its admins whether the client may have the scope openid")
    until = min(verified.expires_at, verified.issued_at + about.max_age)
    return Tokens(token=Secret(str(id_token)), expires_at=until, refresh_token=kept, subject=subject)


async def refreshed(refresh_token: Secret, at: Provider, about: Resource, *, subject: str | None) -> Tokens:
    """Fresh tokens by the refresh token (RFC 6749 section 6). Raises SignInFailed."""
    fields = {"grant_type": "refresh_token", "refresh_token": refresh_token.reveal(), "client_id": about.client_id}
    tokens = await tokens_of(await post_form(at.token_endpoint, fields), at, about)
    if None not in (subject, tokens.subject) and tokens.subject != subject:
        raise SignInFailed("the issuer refreshed somebody else's sign-in")  # OpenID Connect Core section 12.2
    if tokens.refresh_token is None:  # the old one goes on
        tokens = Tokens(
            token=tokens.token, expires_at=tokens.expires_at, refresh_token=refresh_token, subject=tokens.subject
        )
    return tokens


async def exchange_json(
    url: str, *, what: str, bearer: Secret | None = None, body: bytes | None = None
) -> tuple[int, dict[str, Any]]:
    """The status and the JSON object of an answer; a JSON `body` is posted. Raises SignInFailed where there is none."""
    headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {bearer.reveal()}"} if bearer else {})
    if body is None:
        return await _send("GET", url, headers=headers, what=what)
    headers["Content-Type"] = "application/json"
    return await _send("POST", url, headers=headers, data=body, timeout=SLOW, what=what)


async def get_json(url: str, *, what: str) -> dict[str, Any]:
    """A JSON object. Raises SignInFailed."""
    status, said = await exchange_json(url, what=what)
    if status != HTTPStatus.OK:
        raise SignInFailed(f"{what} answered with status {status}")
    return said


async def post_form(url: str, fields: Mapping[str, str]) -> dict[str, Any]:
    """A form to the provider, as a public client. Raises ProviderSaysNo, SignInFailed."""
    status, said = await _send("POST", url, data=dict(fields), what="the issuer")
    if status == HTTPStatus.OK:
        return said
    error = said.get("error")
    if isinstance(error, str):
        raise ProviderSaysNo(error[:100], str(said.get("error_description") or "")[:300])
    raise SignInFailed(f"the issuer answered with status {status}")


async def _send(method: str, url: str, *, what: str, **options: Any) -> tuple[int, dict[str, Any]]:
    try:
        async with (
            # trust_env would not only mean proxies: it sends the password that ~/.netrc has for a host to it.
            aiohttp.ClientSession(timeout=TIMEOUT, trust_env=False, cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.request(method, url, allow_redirects=False, **_proxy(url), **options) as answer,
        ):
            data = await answer.content.read(LARGEST + 1)
            while not answer.content.at_eof() and len(data) <= LARGEST:
                data += await answer.content.read(LARGEST + 1 - len(data))
            status = answer.status
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise SignInFailed(f"{what} cannot be reached ({type(error).__name__})") from None
    if len(data) > LARGEST:
        raise SignInFailed(f"{what} answered with too much")
    try:
        said = json.loads(data, parse_constant=_no_number) if data else {}
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        if status == HTTPStatus.OK:
            raise SignInFailed(f"{what} answered with something that is no JSON object")
        said = {}
    return status, said


def _proxy(url: str) -> dict[str, Any]:
    """The environment's proxy for an https URL, with its password where that stands in its address."""
    parts = urlsplit(url)
    if parts.scheme != "https" or proxy_bypass(parts.netloc):
        return {}
    named = getproxies().get("https")
    if not named:
        return {}
    proxy = URL(named)
    if not proxy.user:
        return {"proxy": proxy}
    basic = base64.b64encode(f"{proxy.user}:{proxy.password or ''}".encode()).decode()  # RFC 7617
    return {"proxy": proxy.with_user(None), "proxy_headers": {"Proxy-Authorization": f"Basic {basic}"}}


def _no_number(text: str) -> None:
    """NaN and the infinities are no JSON (RFC 8259 section 6), and no comparison means anything with them."""
    raise ValueError(text)


async def _verified(id_token: str, at: Provider, about: Resource, now: datetime) -> VerifiedToken:
    """OpenID Connect Core section 3.1.3.7, by the broker's own verifier."""
    issuer = TrustedIssuer(
        name=NAME, kind=PERSON, url=at.issuer, audiences=(about.client_id,), algorithms=at.algorithms,
        max_age=MOST_AGE, max_lifetime=MOST_AGE, allow_private=True,
    )  # fmt: skip
    verifier = TokenVerifier([issuer])
    try:
        verified = await verifier.verify(id_token, now=now)
    except BrokerError as error:
        raise SignInFailed(f"the issuer's ID token is not good: {error.detail}") from None
    finally:
        await verifier.close()
    if verified.claims.get("azp") not in {None, about.client_id}:
        raise SignInFailed("the issuer's ID token was made for another client")
    return verified


def _url(value: Any, what: str) -> str:
    try:
        split(str(value))
    except ValueError as error:
        raise SignInFailed(f"{what}: {error}") from None
    return str(value)
