"""The job that an author shows: output of `jobkey whoami --json`, an answer of /v1/whoami, a token's claims, or the token.

* A token is decoded and never checked here, and `origin` says so. It is never repeated, in no message either.
* What a broker named is compared with what the claims say, so that two halves of one file cannot disagree.
"""

import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import re2

from broker.authoring.write.origins import DERIVED, claims_of
from broker.documents import suggestion
from broker.errors import ConfigError
from broker.issuers import ISSUERS
from broker.issuers.seam import Claims, IssuerKind
from broker.model import VerifiedToken
from broker.policy.examples import example_claims, example_token
from broker.policy.world import World

LARGEST: Final = 1 << 20
_JWT: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]*){2,4}")
_JWS_PARTS: Final = 3
WHERE: Final = "give the output of `jobkey whoami --json`, a token's claims as JSON, or the token itself"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A job that somebody shows."""

    token: VerifiedToken  # as good as one that was verified, for asking what a policy would say
    kind: IssuerKind
    origin: str  # one sentence: where the claims come from, and whether anybody checked them
    event: str | None = None  # issued or refused, where a ledger's event is shown
    grants: tuple[str, ...] = field(default=())  # that the event is about

    @property
    def issuer(self) -> str:
        return self.token.issuer

    @property
    def claims(self) -> Claims:
        return self.token.claims


def knowing(world: World, subject: Subject) -> World:
    """The same world, with the subject's issuer under the name that its broker gave it."""
    if subject.issuer in world.issuers:
        return world
    return replace(world, issuers={**world.issuers, subject.issuer: subject.kind}, _jobs={})


def read_subject(text: str, name: str, world: World, *, issuer: str | None = None) -> Subject:
    """Read what an author shows; `name` is how messages call it. Raises ConfigError, which never repeats the text."""
    text = text.strip()
    if _JWT.fullmatch(text):
        return of_claims(
            _payload(text, name),
            name,
            world,
            issuer=issuer,
            origin="decoded from a token; its signature was not checked",
        )
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        line, column = getattr(error, "lineno", 1), getattr(error, "colno", 1)
        raise ConfigError(f"{name}:{line}:{column}: neither JSON nor a token: {WHERE}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{name}:1:1: a JSON object is expected: {WHERE}")
    if isinstance(value.get("presents"), dict) and "named" in value:
        named = value["named"]
        if isinstance(named, dict):
            return _named(named, value["presents"], name, world, issuer)
        origin = "what a job presents; the broker that it asked did not accept its token"
        return of_claims(value["presents"], name, world, issuer=issuer, origin=origin)
    if isinstance(value.get("job"), dict) and isinstance(value.get("kind"), str):
        return _named(value, None, name, world, issuer)
    return of_claims(value, name, world, issuer=issuer, origin="claims from a file; nobody checked them")


def of_claims(claims: Mapping[str, Any], name: str, world: World, *, issuer: str | None, origin: str) -> Subject:
    """The subject of these claims; `$like` begins with an example's. Raises ConfigError."""
    issuer = issuer or _issuer_of(claims, name, world)
    kind = world.issuers.get(issuer)
    if kind is None:
        raise ConfigError(f"{name}:1:1: no issuer {issuer!r} is configured{suggestion(issuer, world.issuers)}")
    if (like := claims.get("$like")) is not None:
        base = example_claims(kind, like) if isinstance(like, str) else None
        if base is None:
            raise ConfigError(
                f"{name}:1:1: $like: no such example of {kind.title}{suggestion(str(like), kind.examples)}"
            )
        claims = {**base, **{key: value for key, value in claims.items() if key != "$like"}}
    return Subject(token=_token(issuer, kind, claims, name), kind=kind, origin=origin)


def _named(
    named: Mapping[str, Any], presents: Mapping[str, Any] | None, name: str, world: World, issuer: str | None
) -> Subject:
    words, known = named.get("job"), named.get("kind")
    called = issuer or named.get("issuer")
    if (
        not isinstance(words, dict)
        or not all(isinstance(value, str | bool) for value in words.values())
        or not isinstance(known, str)
        or not isinstance(called, str)
    ):
        raise ConfigError(f"{name}:1:1: not what a broker answers at /v1/whoami: {WHERE}")
    kind = world.issuers.get(called) or ISSUERS.get(known)
    if kind is None or kind.name != known:
        raise ConfigError(
            f"{name}:1:1: the broker says that {called!r} is of the kind {known!r}, which it is not here; give its --config"
        )
    if kind is ISSUERS["generic"]:
        raise ConfigError(f"{name}:1:1: what claims mean to a generic issuer stands in broker.yaml; give --config")
    claims = claims_of(kind, words) if presents is None else presents
    if claims is None:
        raise ConfigError(
            f"{name}:1:1: the claims cannot be told from these words: give the output of `jobkey whoami --json`"
        )
    token = _token(called, kind, claims, name)
    mine = {word: value for word, value in token.job.present().items() if word not in DERIVED}
    for word in sorted(mine.keys() | words.keys() - DERIVED):
        if mine.get(word) != words.get(word):
            raise ConfigError(
                f"{name}:1:1: {word} is not what the claims beside it say; take the output of `jobkey whoami --json` as it is"
            )
    return Subject(token=token, kind=kind, origin="as its broker named it")


def _token(issuer: str, kind: IssuerKind, claims: Mapping[str, Any], name: str) -> VerifiedToken:
    missing = sorted(claim for claim in kind.required if claims.get(claim) in (None, ""))
    if missing:
        raise ConfigError(f"{name}:1:1: {kind.title} signs {', '.join(missing)} in every token, and this has none")
    try:
        return example_token(issuer, kind, dict(claims))
    except Exception as error:  # noqa: BLE001  claims of any shape, from a person
        raise ConfigError(
            f"{name}:1:1: {kind.title} could not have signed these claims ({type(error).__name__})"
        ) from None


def _issuer_of(claims: Mapping[str, Any], name: str, world: World) -> str:
    """By the URL; else the one kind that could be configured with it and signs claims like these."""
    url = claims.get("iss")
    by_url = [one for one, known in world.issuer_urls.items() if known == url]
    if len(by_url) == 1:
        return by_url[0]
    like = claims.get("$like")
    fitting = [
        one
        for one, kind in world.issuers.items()
        if one not in world.issuer_urls or not isinstance(url, str)
        if (isinstance(like, str) and example_claims(kind, like)) or _fits(kind, url, claims)
    ]
    # A kind with few claims of its own fits nearly every token; one that knows more of the claims is meant.
    best = sorted(fitting, key=lambda one: -_known(world.issuers[one], claims))
    if best and (len(best) == 1 or _known(world.issuers[best[0]], claims) > _known(world.issuers[best[1]], claims)):
        return best[0]
    there = ", ".join(by_url or fitting or sorted(world.issuers))
    raise ConfigError(f"{name}:1:1: iss: no single issuer has this URL; say --issuer, one of {there}")


def _fits(kind: IssuerKind, url: Any, claims: Mapping[str, Any]) -> bool:
    if kind.name == "generic" or not all(claims.get(claim) not in (None, "") for claim in kind.required):
        return False
    return not isinstance(url, str) or re2.fullmatch(kind.accepts, url) is not None


def _known(kind: IssuerKind, claims: Mapping[str, Any]) -> int:
    return sum(claim in kind.claims for claim in claims)


def _payload(token: str, name: str) -> dict[str, Any]:
    parts = token.split(".")
    if len(parts) != _JWS_PARTS:
        raise ConfigError(f"{name}:1:1: an encrypted token; a CI signs its tokens and does not encrypt them")
    try:
        value = json.loads(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        raise ConfigError(f"{name}:1:1: the token's second part is not JSON; copy the whole token") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{name}:1:1: the token's second part is no JSON object; this is no CI's token")
    return value
