"""Who is asking: a subject token of hostile origin becomes a VerifiedToken, or an error that says what to do.

In this order, each step trusting only what those before it proved:

1. Structure (broker.tokens.jose), under a size cap.
2. The issuer is chosen from the configured table by exact text. Nothing in a token ever steers a fetch.
3. The algorithm is one pinned for the issuer, the key one the issuer publishes for exactly that algorithm; the signature.
4. Audience: exactly one, and ours, or ours bound to a verifier's hash. Times, with the broker's own maximum age and lifetime.
   Required claims. Only then does the kind put it into the job's words.

With the key at hand nothing is waited for and no thread is hopped to; the parts around the signature check cost less than it does.
The detail of an error never quotes the token.
"""

import asyncio
import contextlib
import hashlib
import math
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, NoReturn

from broker.errors import SubjectTokenRejected
from broker.issuers.trusted import TrustedIssuer
from broker.model import VerifiedToken
from broker.tokens import jose
from broker.tokens.audience import BOUND, challenge_of, split_audience
from broker.tokens.jwks import IssuerKeys, UnknownKey
from broker.tokens.observer import Observer, Silent
from broker.turns import TURN

__all__ = ["REASONS", "TokenVerifier", "challenge_of"]

REASONS: Final = frozenset({
    "malformed", "issuer", "type", "algorithm", "key", "signature", "audience", "unbound", "times", "expired", "too-old", "claims",
})  # fmt: skip

_EARLIEST, _LATEST = 1_000_000_000, 253_402_300_799  # 2001; the last second a datetime holds
_MOST_HEADERS: Final = 256
_LONGEST_JTI: Final = 512


class TokenVerifier:
    """Verifies the tokens of a fixed table of issuers. One event loop; `start` and `close` around its life."""

    def __init__(
        self,
        issuers: Iterable[TrustedIssuer],
        *,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ValueError where two issuers share a name or a URL: whose rules would count?"""
        self._observer: Observer = observer or Silent()
        self._by_url: dict[str, tuple[TrustedIssuer, IssuerKeys]] = {}
        self._by_name: dict[str, TrustedIssuer] = {}
        for issuer in issuers:
            if issuer.url in self._by_url:
                other = self._by_url[issuer.url][0].name
                raise ValueError(f"issuers {other!r} and {issuer.name!r} have the same url; keep one of them")
            if issuer.name in self._by_name:
                raise ValueError(f"two issuers are called {issuer.name!r}; rename one of them")
            keys = IssuerKeys(issuer, clock=clock, observer=self._observer)
            self._by_url[issuer.url] = (issuer, keys)
            self._by_name[issuer.name] = issuer
        self._headers: dict[bytes, jose.Header] = {}
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def issuers(self) -> Mapping[str, TrustedIssuer]:
        """The configured issuers by name."""
        return MappingProxyType(self._by_name)

    @property
    def keys(self) -> Mapping[str, IssuerKeys]:
        """Each issuer's key cache by name, for /readyz."""
        return {issuer.name: keys for issuer, keys in self._by_url.values()}

    async def start(self) -> None:
        """Begin to fetch keys ahead of need. Returns at once, whether or not an issuer answers."""
        for _, keys in self._by_url.values():
            self._tasks.append(
                asyncio.get_running_loop().create_task(_keep_fresh(keys), name=f"fresh-{keys.issuer.name}")
            )

    async def close(self) -> None:
        """End all fetching."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks.clear()
        for _, keys in self._by_url.values():
            await keys.close()

    async def verify(self, unverified_jwt: str, *, now: datetime) -> VerifiedToken:
        """The token's job. `now` is timezone-aware.

        Raises SubjectTokenRejected, or IssuerUnreachable where the same token may be good in a moment.
        """
        try:
            token = jose.parse(unverified_jwt, self._headers)
        except jose.Malformed as error:
            self._reject(None, "malformed", str(error.args[0]))
        url = token.claims.get("iss")
        found = self._by_url.get(url) if type(url) is str else None
        if found is None:
            self._reject(None, "issuer", "this broker does not know the token's issuer; have it added to `issuers:`")
        issuer, keys = found
        header = token.header
        if header.alg not in issuer.algorithms:
            self._reject(
                issuer, "algorithm", f"issuer {issuer.name!r} is configured for {' and '.join(issuer.algorithms)} only"
            )
        # RFC 7519 section 5.1 lets a JWT leave `typ` out; RFC 9068 section 4 does not let an access token.
        if ("jwt" if header.typ is None else header.typ) not in issuer.types:
            self._reject(issuer, "type", "the token's `typ` is not JWT; send the CI's identity token, not another one")
        key = keys.known(header.kid, header.alg)
        if key is None:
            try:
                key = await keys.find(header.kid, header.alg)
            except UnknownKey:
                self._reject(
                    issuer, "key", f"issuer {issuer.name!r} publishes no key that this token can be signed with"
                )
        await TURN
        good = key.verifies(token.signed, token.signature)
        await TURN
        if not good:
            self._reject(issuer, "signature", "the token's signature is not good")
        if len(self._headers) < _MOST_HEADERS:  # only of tokens that verified: nobody can fill it with junk
            self._headers[token.header_segment] = header
        verified = self._accept(issuer, token, now.timestamp())
        self._observer.token_verified(issuer.name)
        return verified

    def restore(self, issuer: str, claims: Mapping[str, Any], *, token_key: bytes = b"") -> VerifiedToken:
        """The token behind a session, from the claims the ledger kept of it; its times are not judged again.

        `token_key` is the session's, which cannot be told from the claims where they hold no `jti`. Raises
        SubjectTokenRejected where the issuer is no longer configured, or stands for another URL now.
        """
        trusted = self._by_name.get(issuer)
        if trusted is None or claims.get("iss") != trusted.url:
            raise SubjectTokenRejected("the session's issuer is no longer configured; start over with a fresh token")
        _, challenge = split_audience(trusted, claims.get("aud"))
        return _verified(trusted, claims, token_key, challenge, float(claims["iat"]), float(claims["exp"]))

    def _accept(self, issuer: TrustedIssuer, token: jose.UnverifiedToken, now: float) -> VerifiedToken:
        """What a good signature does not say: audience, times, claims."""
        claims = token.claims
        challenge = self._audience(issuer, claims.get("aud"))
        issued, expires = self._times(issuer, claims, now)
        for name in issuer.required:
            value = claims.get(name)
            if not value and value is not False and value != 0:  # null, "", {} or [] is as good as absent
                # The name is ours, from the kind's own table.
                title = issuer.kind.title
                self._reject(issuer, "claims", f"the token lacks the claim {name!r}, which {title} tokens need here")
        jti = claims.get("jti")
        if jti is not None and (type(jti) is not str or not 0 < len(jti) <= _LONGEST_JTI):
            self._reject(issuer, "claims", "the token's `jti` is no short text")
        known = issuer.known
        if known is not None and not known.issuperset(claims):
            strange = sorted(name for name in claims.keys() - known if issuer.kind.trust(name) is None)
            if strange:
                self._observer.unknown_claims(issuer.kind.name, strange)
        return _verified(issuer, claims, _token_key(issuer.url, jti, token.signed), challenge, issued, expires)

    def _audience(self, issuer: TrustedIssuer, audience: Any) -> str | None:
        """The challenge of a bound audience, or None. A token for two services is refused: the other one could replay it."""
        if type(audience) is list and len(audience) > 1:
            self._reject(issuer, "audience", f"the token has several audiences; ask for {issuer.audiences[0]} alone")
        ours, challenge = split_audience(issuer, audience)
        if not ours:
            title = issuer.kind.title
            self._reject(
                issuer, "audience", f"the token is for another audience; ask {title} for {issuer.audiences[0]}"
            )
        if challenge is None and issuer.bound_audience == "required":
            self._reject(
                issuer,
                "unbound",
                f"issuer {issuer.name!r} takes tokens with a bound audience only: {issuer.audiences[0]}{BOUND}"
                "<base64url SHA-256 of a verifier>; the jobkey client makes one",
            )
        return challenge

    def _times(self, issuer: TrustedIssuer, claims: Mapping[str, Any], now: float) -> tuple[float, float]:
        """`iat` and `exp`, judged with `nbf`. Times are whole numbers; a boolean, text, or year 30000 is no time."""
        issued, expires = _instant(claims.get("iat")), _instant(claims.get("exp"))
        if issued is None or expires is None:
            self._reject(
                issuer, "times", "the token lacks a sound `iat` or `exp` (whole seconds since 1970, RFC 7519 section 2)"
            )
        leeway = issuer.leeway_seconds
        if "nbf" in claims:
            begins = _instant(claims["nbf"], earliest=0)  # some sign 0 for "always"
            if begins is None:
                self._reject(issuer, "times", "the token's `nbf` is no sound time (whole seconds since 1970)")
            if begins > now + leeway:
                self._reject(
                    issuer,
                    "times",
                    f"the token is not valid yet, by {math.ceil(begins - now)} s; are the clocks right?",
                )
        if issued > now + leeway:
            self._reject(
                issuer, "times", f"the token is from the future, by {math.ceil(issued - now)} s; are the clocks right?"
            )
        if expires <= issued:
            self._reject(issuer, "times", "the token ends before it begins")
        if now >= expires + leeway:
            self._reject(issuer, "expired", f"the token expired {int(now - expires)} s ago; {_again(issuer)}")
        if now - issued > issuer.max_age_seconds + leeway:
            self._reject(
                issuer,
                "too-old",
                f"the token is {int(now - issued)} s old and issuer {issuer.name!r} takes "
                f"{int(issuer.max_age_seconds)} s; {_again(issuer)}",
            )
        if expires - issued > issuer.max_lifetime_seconds:
            self._reject(
                issuer,
                "times",
                f"the token lives {int(expires - issued)} s and issuer {issuer.name!r} takes at most "
                f"{int(issuer.max_lifetime_seconds)} s; shorten the job's timeout or the token's lifetime",
            )
        return issued, expires

    def _reject(self, issuer: TrustedIssuer | None, why: str, detail: str) -> NoReturn:
        self._observer.token_rejected(issuer.name if issuer else None, why)
        raise SubjectTokenRejected(detail, reason=why)


def _again(issuer: TrustedIssuer) -> str:
    if issuer.kind.fresh_tokens:
        return "ask the CI for a fresh one"
    return "ask the broker earlier in the job: this CI gives a job one token"


def _instant(value: Any, *, earliest: int = _EARLIEST) -> float | None:
    """NumericDate: RFC 7519 section 2. A whole number, within what a datetime can hold."""
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not earliest <= value <= _LATEST:
        return None
    return float(value)


def _token_key(url: str, jti: str | None, signed: bytes) -> bytes:
    """A token's identity for single use. The signature is left out: of one ECDSA or PSS token there are many good ones."""
    if jti is not None:
        return hashlib.sha256(f"{url}\0jti\0{jti}".encode()).digest()
    return hashlib.sha256(url.encode() + b"\0token\0" + signed).digest()


def _verified(  # noqa: PLR0917  positional on the hot path
    issuer: TrustedIssuer, claims: Mapping[str, Any], key: bytes, challenge: str | None, issued: float, expires: float
) -> VerifiedToken:
    kind = issuer.kind
    return VerifiedToken(
        issuer=issuer.name,
        kind=kind.name,
        claims=claims,
        job=kind.identity(claims),
        unsafe_triggers=kind.unsafe_triggers(claims),
        token_key=key,
        issued_at=datetime.fromtimestamp(issued, UTC),
        expires_at=datetime.fromtimestamp(expires, UTC),
        challenge=challenge,
        longest_job=kind.longest_job,
    )


async def _keep_fresh(keys: IssuerKeys) -> None:
    while True:
        await asyncio.sleep(max(keys.due_in(), 0.0))
        await keys.refresh()
