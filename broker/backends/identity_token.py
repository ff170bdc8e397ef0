"""`identity-token`: a JWT that the broker signs as an OIDC issuer of its own, for audiences that trust it.

* Whoever verifies it needs only the broker's discovery document: `iss` is the broker's URL, keys are at `/jwks.json`.
* Signed in memory with ES256; nothing exists outside the broker until the job has it.
* `sub` is `grant:<policy/grant>:project:<project>` unless the policy says otherwise. The grant stands first because its
  alphabet has no colon: what a CI puts into a project's name cannot pretend to be another grant. A `subject` of a policy's own never begins with
  `grant:`, or one team could sign with the name of another's grant.
* No policy can overwrite a claim that names the broker, the lease or the job, and none can address the broker itself.
"""

import json
import math
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar, Final

import orjson
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import AfterValidator, Field

from broker.backends.options import TEMPLATE, EnvName, listed, settled
from broker.backends.seam import (
    Backend,
    BackendError,
    Gone,
    Handle,
    Minted,
    Order,
    Power,
    Record,
    StillWorks,
    Strict,
    Surroundings,
    Templated,
)
from broker.keys import KeyStore
from broker.keys.jwk import jwk
from broker.model import JOB_FIELDS, JobIdentity

# Registered claims that say who speaks, for whom and how long (RFC 7519, RFC 8693, RFC 7800), and our own.
RESERVED: Final = frozenset(
    {"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "act", "may_act", "azp", "cnf", "nonce", "jobkey", *JOB_FIELDS}
)
LONGEST_SUBJECT: Final = 255  # ASCII characters, OpenID Connect Core section 2
_CLAIM: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.:/-]{0,127}")
_AUDIENCE: Final = re.compile(r"[\x21-\x7e]{1,255}")
_PRINTABLE: Final = r"[^{\p{Cc}\p{Cf}\p{Zl}\p{Zp}]{1,512}"  # nothing invisible; JSON escapes the rest
_TOKENLIKE: Final = r"[A-Za-z0-9._/@+=-]{1,200}"
OWN: Final = "grant"
_FILLED: Final = re.compile(
    rf"(?:{TEMPLATE.pattern}|\*)+"
)  # a star is no letter of a subject, and counts as a value here
_wide: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def _claim_name(name: str) -> str:
    if name in RESERVED:
        raise ValueError(f"{name} is set by the broker itself; choose another claim")
    if not _CLAIM.fullmatch(name):
        raise ValueError("a claim is named with letters, digits and _ . : / -, at most 128 of them")
    return name


def _audience(value: str) -> str:
    if not _AUDIENCE.fullmatch(value) or "{{" in value:
        raise ValueError("an audience is 1 to 255 printable ASCII characters without a space, and no template")
    return value


def _subject(value: str) -> str:
    """Refuses what begins with the broker's own word, and what a job's value could make begin so: an owner called `grant`."""
    beginning, colon, _ = _FILLED.sub("*", value).partition(":")
    pattern = ".*".join(map(re.escape, beginning.split("*")))
    if colon and re.fullmatch(pattern, OWN, re.IGNORECASE):
        raise ValueError(
            f"a subject that begins with `{OWN}:` says which grant a token came of, and only the broker says that; begin"
            " yours with a word of its own such as `deploy:`, or leave it out"
        )
    return value


ClaimName = Annotated[str, AfterValidator(_claim_name)]
Audience = Annotated[str, AfterValidator(_audience)]
ClaimText = Annotated[str, Templated(_PRINTABLE), Field(max_length=2048)]


class TokenSettings(Strict):
    """Nothing to set: the key is the broker's own."""


class TokenOptions(Strict):
    """What a policy says of the token."""

    audience: Annotated[
        Audience | Annotated[list[Audience], Field(min_length=1, max_length=8)],
        Field(
            description="who accepts the token; one service, or each can use it at the others",
            examples=["https://deploy.acme.example"],
        ),
    ]
    subject: Annotated[
        Annotated[str, Templated(_TOKENLIKE), Field(min_length=1, max_length=2048), AfterValidator(_subject)] | None,
        Field(description="its `sub`, which never begins with `grant:`; told from the job if left out"),
    ] = None
    claims: Annotated[dict[ClaimName, ClaimText | bool | int | list[ClaimText]], Field(max_length=32)] = Field(
        default_factory=dict, description="further claims"
    )
    env: Annotated[EnvName, Field(description="the variable that the job finds it in")] = "JOBKEY_IDENTITY_TOKEN"


class IdentityToken(Backend):
    """JWTs by the broker's own identity key."""

    kind = "identity-token"
    trace = False
    Settings = TokenSettings
    Options = TokenOptions
    longest = timedelta(hours=24)
    revocation: ClassVar[str] = (
        "A verifier that reads only the signature accepts the token until it expires; keep its TTL short."
    )

    @classmethod
    def describe(cls, options: Mapping[str, Any]) -> str:
        """Who takes the token, and whom it says it is about."""
        audience = options["audience"]
        said = "an identity token for " + listed(
            [audience] if isinstance(audience, str) else audience, "audience", "audiences"
        )
        if subject := options.get("subject"):
            said += f" with the subject {subject}"
        if claims := options.get("claims"):
            told = [
                f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in claims.items()
            ]
            said += f" and {listed(told, 'claim', 'claims')}"
        return said

    def __init__(self, name: str, settings: TokenSettings, around: Surroundings) -> None:  # noqa: ARG002  the seam's signature
        self._keys, self._url = around.keys, around.url

    @classmethod
    def writes(cls, options: Mapping[str, Any], settings: Any, url: str) -> Iterator[Power]:  # noqa: ARG003  the seam's signature
        """A sign-in at every audience. One that is the broker itself would be refused at the mint, and is known here too."""
        audience = options["audience"]
        for item in [audience] if isinstance(audience, str) else audience:
            own = "the broker itself" if _is_ours(item, url) else None
            yield Power(object=f"identity:{item}", deed="sign in at", controls=own)
            if subject := options.get("subject"):
                named = TEMPLATE.sub("**", subject)  # a value in it may hold slashes
                yield Power(object=f"subject:{item} {named}", deed="call itself")

    async def mint(self, order: Order, record: Record) -> Minted:  # noqa: ARG002  the seam's signature
        """Sign. Raises BackendError where the subject would break OpenID Connect, or the audience is the broker."""
        options: TokenOptions = order.options
        settled(options.subject, options.claims)
        subject = options.subject or default_subject(order.grant, order.job)
        if len(subject) > LONGEST_SUBJECT or not subject.isascii() or not subject.isprintable():
            raise BackendError("the token's subject is not 255 printable ASCII characters; set `subject`", retry=False)
        audience = options.audience
        self._not_ourselves([audience] if isinstance(audience, str) else audience)
        expires = math.floor(order.expires_at.timestamp())
        claims: dict[str, Any] = {
            **options.claims,
            **order.job.present(),
            "jobkey": {"issuance": order.issuance, "grant": order.grant, "issuer": order.issuer},
        }
        token = _signed(self._keys, self._url, subject, audience, order.now, expires, claims, order.lease)
        return Minted(
            type="jwt",
            values={"token": token},
            secrets=("token",),
            env={options.env: token},
            expires_at=datetime.fromtimestamp(expires, order.now.tzinfo),
            fingerprinted=token,
            facts={"subject": subject, "audience": audience if isinstance(audience, str) else " ".join(audience)},
        )

    async def revoke(self, handle: Handle) -> Gone | StillWorks:  # noqa: ARG002  the seam's signature
        """A signature cannot be unsaid."""
        return StillWorks(self.revocation)

    def _not_ourselves(self, audience: Sequence[str]) -> None:
        """A token for the broker would let one grant stand in for a job at the next exchange."""
        if any(_is_ours(item, self._url) for item in audience):
            raise BackendError("an identity token cannot be addressed to the broker itself", retry=False)


def _is_ours(audience: str, url: str) -> bool:
    return audience == url or audience.startswith((url + "/", url + "#"))


def default_subject(grant: str, job: JobIdentity) -> str:
    """`grant:payments/deploy:project:acme/payments`; without a project, the grant alone."""
    return f"{OWN}:{grant}:project:{job.project}" if job.project else f"{OWN}:{grant}"


def sign_identity(
    keys: KeyStore,
    url: str,
    *,
    subject: str,
    audience: str | Sequence[str],
    ttl: timedelta,
    claims: Mapping[str, Any],
    now: datetime,
    jti: str,
) -> str:
    """A compact JWT (RFC 7519) signed ES256 by the "identity" key, issued by `url`. `claims` cannot overrule `iss` to `jti`."""
    expires = math.floor((now + ttl).timestamp())
    aud = audience if isinstance(audience, str) else list(audience)
    return _signed(keys, url, subject, aud, now, expires, claims, jti)


def jwks(keys: KeyStore) -> dict[str, list[dict[str, str]]]:
    """The JWK set (RFC 7517 section 5) that verifies what `sign_identity` signs: the signing key first, then the old ones."""
    members = []
    for public in keys.public("identity"):
        assert isinstance(public.key, EllipticCurvePublicKey | Ed25519PublicKey)
        members.append({**jwk(public.key), "kid": public.kid, "alg": public.algorithm, "use": "sig"})
    return {"keys": members}


def _signed(  # noqa: PLR0917  one caller each way, on the hot path
    keys: KeyStore,
    url: str,
    subject: str,
    audience: str | list[str],
    now: datetime,
    expires: int,
    claims: Mapping[str, Any],
    jti: str,
) -> str:
    issued = int(now.timestamp())
    body = {
        **claims,
        "iss": url,
        "sub": subject,
        "aud": audience,
        "iat": issued,
        "nbf": issued,
        "exp": expires,
        "jti": jti,
    }
    signing_input = _header(keys.public("identity")[0].kid) + urlsafe_b64encode(_compact(body)).rstrip(b"=")
    signature = urlsafe_b64encode(keys.sign("identity", signing_input)).rstrip(b"=")
    return (signing_input + b"." + signature).decode()


def _compact(value: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # a policy may set a claim to a number of more than 64 bits
        return _wide(value).encode()


_headers: dict[str, bytes] = {}  # kid -> the first part with its dot; one a key, prepared once


def _header(kid: str) -> bytes:
    prepared = _headers.get(kid)
    if prepared is None:
        header = {"alg": "ES256", "kid": kid, "typ": "JWT"}
        prepared = _headers[kid] = urlsafe_b64encode(_compact(header)).rstrip(b"=") + b"."
    return prepared
