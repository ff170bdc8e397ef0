"""One entry of `issuers:` in broker.yaml, and the checks that make a TrustedIssuer of it.

Each kind brings defaults that fit its CI; what an operator writes replaces them, within what is safe at all.
"""

import difflib
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Final, Literal

import re2
from pydantic import BaseModel, ConfigDict, Field

from broker.durations import Duration, render
from broker.issuers import ISSUERS, generic
from broker.issuers.seam import IssuerKind
from broker.issuers.trusted import ALGORITHMS, LEEWAY, STALE_LIMIT, TrustedIssuer
from broker.issuers.urls import is_loopback, split

MOST_LEEWAY: Final = timedelta(minutes=5)
MOST_AGE: Final = timedelta(days=2)
MOST_STALE: Final = timedelta(days=7)
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")
_AUDIENCE: Final = re.compile(r"[\x21-\x7e]{1,255}")


class IssuerSettings(BaseModel):
    """One issuer in broker.yaml. What is left out comes from the kind."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    kind: str = Field(description="which CI signs these tokens: github, gitlab, ..., or generic with a map")
    url: str | None = Field(
        default=None, description="the issuer, exactly as the tokens' `iss`; the public instance if left out"
    )
    audience: Annotated[
        str | list[str] | None, Field(description="accepted `aud`; the broker's own URL if left out")
    ] = None
    algorithms: Annotated[list[str], Field(min_length=1)] | None = Field(
        default=None, description="accepted signature algorithms"
    )
    max_age: Duration | None = Field(default=None, description="oldest token accepted, from its `iat`")
    max_lifetime: Duration | None = Field(default=None, description="longest `exp - iat` accepted")
    leeway: Duration | None = Field(default=None, description="how far the clocks may differ; 30s")
    jti: Literal["required", "optional"] | None = Field(
        default=None, description="without one, the token's hash is its identity"
    )
    bound_audience: Literal["optional", "required"] = Field(
        default="optional", description="whether a client must prove that the token was made for this one request"
    )
    stale_limit: Duration | None = Field(
        default=None, description="how long known keys serve while the issuer is down; 6h"
    )
    allow_private: bool = Field(default=False, description="whether the issuer's hosts may have private addresses")
    map: dict[str, str] | None = Field(default=None, description="generic only: a job's words -> `claims.name`")


def trusted_issuer(
    name: str, settings: IssuerSettings, *, audience: str, kinds: Mapping[str, IssuerKind] | None = None
) -> TrustedIssuer:
    """The issuer `name` of broker.yaml; `audience` is the broker's public URL.

    Raises ValueError with one sentence that names the key and says what to do.
    """
    if _NAME.fullmatch(name) is None:
        raise ValueError("name the issuer in lower-case letters, digits and hyphens, starting with a letter")
    kind = _kind(settings, ISSUERS if kinds is None else kinds)
    url = _url(settings, kind)
    algorithms = tuple(settings.algorithms or kind.algorithms)
    for algorithm in algorithms:
        if algorithm not in ALGORITHMS:
            raise ValueError(f"algorithms: {algorithm!r} is not accepted; use one of {', '.join(ALGORITHMS)}")
    if settings.bound_audience == "required" and not kind.chooses_audience:
        raise ValueError(
            f"bound_audience: a job of kind {kind.name} cannot choose its audience at run time; leave this out"
        )
    if settings.jti == "optional" and kind.jti == "required":
        raise ValueError(f"jti: {kind.name} signs one in every token; leave this out")
    leeway = settings.leeway or LEEWAY
    if leeway > MOST_LEEWAY:
        raise ValueError(f"leeway: at most {render(MOST_LEEWAY)}; set the clocks instead")
    max_age = settings.max_age or kind.max_age
    if max_age > MOST_AGE:
        raise ValueError(f"max_age: at most {render(MOST_AGE)}; an old token is a stolen one's best friend")
    stale_limit = settings.stale_limit or STALE_LIMIT
    if stale_limit > MOST_STALE:
        raise ValueError(
            f"stale_limit: at most {render(MOST_STALE)}; a key the issuer took back would serve all that time"
        )
    return TrustedIssuer(
        name=name,
        kind=kind,
        url=url,
        audiences=_audiences(settings, kind, url, audience),
        algorithms=algorithms,
        max_age=max_age,
        max_lifetime=settings.max_lifetime or kind.max_lifetime,
        leeway=leeway,
        jti=settings.jti or kind.jti,
        bound_audience=settings.bound_audience,
        stale_limit=stale_limit,
        allow_private=settings.allow_private,
    )


def _kind(settings: IssuerSettings, kinds: Mapping[str, IssuerKind]) -> IssuerKind:
    kind = kinds.get(settings.kind)
    if kind is None:
        near = difflib.get_close_matches(settings.kind, kinds, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(kinds))}"
        raise ValueError(f"kind: {settings.kind!r} is not known; {hint}")
    if kind.name == "generic":
        if not settings.map:
            raise ValueError("map: kind generic needs one, such as {project: claims.repo, project_id: claims.repo_id}")
        return generic.build(settings.map)
    if settings.map is not None:
        raise ValueError(f"map: kind {kind.name} knows its claims; leave map out, or use kind generic")
    return kind


def _url(settings: IssuerSettings, kind: IssuerKind) -> str:
    url = settings.url if settings.url is not None else kind.url
    if url is None:
        raise ValueError(
            f"url: kind {kind.name} has no public instance; write your issuer's URL, exactly as its tokens' `iss`"
        )
    try:
        parts = split(url)
    except ValueError as error:
        raise ValueError(f"url: {error}") from None
    # A practice issuer on this machine may play any CI; anywhere else the URL has to look like the kind's own.
    if not is_loopback(parts.hostname or "") and re2.fullmatch(kind.accepts, url) is None:
        raise ValueError(
            f"url: this is no issuer of kind {kind.name}; see {kind.docs or 'its documentation'}, or use kind generic"
        )
    return url


def _audiences(settings: IssuerSettings, kind: IssuerKind, url: str, own: str) -> tuple[str, ...]:
    if isinstance(settings.audience, str):
        audiences = [settings.audience]
    elif settings.audience is not None:
        audiences = settings.audience
    elif kind.fixed_audience is not None:
        audiences = [kind.fixed_audience.format(url=url, host=split(url).netloc)]
    else:
        audiences = [own]
    if not audiences:
        raise ValueError("audience: name at least one; a token for anybody is a token from anybody")
    for audience in audiences:
        if _AUDIENCE.fullmatch(audience) is None or "#S256." in audience:
            raise ValueError(
                "audience: write 1 to 255 printable characters without spaces, such as https://broker.acme.example"
            )
    return tuple(dict.fromkeys(audiences))
