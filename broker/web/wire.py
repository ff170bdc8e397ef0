"""The bodies of design section 6, as strict models: hostile bytes in, a CredentialRequest out.

JSON members nobody knows are refused, so that a misspelt `verifier` cannot silently weaken a request. RFC 8693 forms ignore them,
as RFC 6749 section 3.2 asks, and refuse repeated ones.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Final, Literal
from urllib.parse import parse_qsl

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from broker.backends.seam import MOST_GRANTS
from broker.durations import parse as parse_duration
from broker.errors import MalformedRequest, UnsupportedGrantType, UnsupportedTokenType
from broker.exchange.requests import CredentialRequest
from broker.model import GrantRequest, Secret

LONGEST_TTL: Final = timedelta(days=366)
EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT: Final = "urn:ietf:params:oauth:token-type:jwt"
ID_TOKEN: Final = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105  a type's name
ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105
LARGEST_BODY: Final = 64 * 1024
LONGEST_TOKEN: Final = 16 * 1024

GrantName = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9][a-z0-9-]{0,62}/[a-z0-9][a-z0-9-]{0,62}$",
        max_length=127,
        description="policy/grant, as the policy's author named them",
        examples=["payments/deploy"],
    ),
]


def _ttl(value: object) -> timedelta:
    if not isinstance(value, str):
        raise ValueError('a text such as "15m" is expected')  # noqa: TRY004  pydantic turns it into a problem
    ttl = parse_duration(value)
    if ttl > LONGEST_TTL:
        raise ValueError("longer than a year; ask for minutes")
    return ttl


Ttl = Annotated[
    timedelta,
    BeforeValidator(
        _ttl, json_schema_input_type=Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}[smhd]$", examples=["5m", "15m"])]
    ),
]


class GrantAsked(BaseModel):
    """One grant, with what the job may choose about it."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    grant: GrantName
    ttl: Ttl | None = None
    params: dict[str, Any] | None = Field(default=None, max_length=32)


Asked = Annotated[GrantName | GrantAsked, Field(union_mode="left_to_right")]
Verifier = Annotated[str, Field(min_length=43, max_length=128, pattern=r"^[A-Za-z0-9._~-]+$")]
Nonce = Annotated[str, Field(min_length=22, max_length=128, pattern=r"^[A-Za-z0-9._~-]+$")]


class CredentialsBody(BaseModel):
    """`POST /v1/credentials`."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    grants: list[Asked] = Field(min_length=1, max_length=MOST_GRANTS)
    verifier: Verifier | None = Field(default=None, repr=False)
    nonce: Nonce | None = Field(default=None, repr=False)

    def to_request(self, bearer: Secret) -> CredentialRequest:
        """Raises MalformedRequest where a grant is asked for twice."""
        grants = tuple(
            GrantRequest(grant=asked)
            if isinstance(asked, str)
            else GrantRequest(grant=asked.grant, ttl=asked.ttl, params=asked.params)
            for asked in self.grants
        )
        if len({grant.grant for grant in grants}) != len(grants):
            raise MalformedRequest("a grant is asked for twice; ask once for each")
        return CredentialRequest(
            bearer=bearer,
            grants=grants,
            verifier=Secret(self.verifier) if self.verifier else None,
            nonce=Secret(self.nonce) if self.nonce else None,
        )


class RenewBody(BaseModel):
    """`POST /v1/leases/{lease}/renew`; the body may be empty."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    ttl: Ttl | None = None


_CREDENTIALS: Final = TypeAdapter(CredentialsBody)
_RENEW: Final = TypeAdapter(RenewBody)


def credentials_body(body: bytes) -> CredentialsBody:
    """Raises MalformedRequest."""
    try:
        return _CREDENTIALS.validate_json(body)
    except ValidationError as error:
        raise MalformedRequest(_told(error)) from None


def renew_body(body: bytes) -> RenewBody:
    """Raises MalformedRequest."""
    try:
        return _RENEW.validate_json(body or b"{}")
    except ValidationError as error:
        raise MalformedRequest(_told(error)) from None


def _told(error: ValidationError) -> str:
    """The first problem, with its place and without what was sent: that may be a secret in the wrong member."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"] if str(part) not in {"constrained-str", "str", "GrantAsked"})
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "json_invalid":
        return "the body is not JSON; send application/json in UTF-8"
    return f"{place or 'body'}: {message}"[:300]


class TokenForm(BaseModel):
    """The request of RFC 8693 section 2.1: one grant a call; its name is the `audience`."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    grant_type: Literal["urn:ietf:params:oauth:grant-type:token-exchange"]
    subject_token: str = Field(min_length=1, max_length=LONGEST_TOKEN, repr=False)
    subject_token_type: Literal["urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token"]
    audience: GrantName
    requested_token_type: str | None = Field(default=None, max_length=200)
    verifier: Verifier | None = Field(default=None, repr=False)
    nonce: Nonce | None = Field(default=None, repr=False)

    def to_request(self) -> CredentialRequest:
        return CredentialRequest(
            bearer=Secret(self.subject_token),
            grants=(GrantRequest(grant=self.audience),),
            verifier=Secret(self.verifier) if self.verifier else None,
            nonce=Secret(self.nonce) if self.nonce else None,
        )


class RevokeForm(BaseModel):
    """The request of RFC 7009 section 2.1, and of RFC 7662 section 2.1, which is the same."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    token: str = Field(min_length=1, max_length=LONGEST_TOKEN, repr=False)
    token_type_hint: str | None = Field(default=None, max_length=200)


def form(body: bytes) -> Mapping[str, str]:
    """An application/x-www-form-urlencoded body in which nothing is repeated (RFC 6749 section 3.2)."""
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, strict_parsing=True, max_num_fields=32, errors="strict"
        )
    except ValueError:
        raise MalformedRequest("the body is not a form of at most 32 members in UTF-8") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise MalformedRequest("a form member is repeated; RFC 6749 section 3.2 wants each once")
    return fields


def token_form(body: bytes) -> TokenForm:
    """Raises MalformedRequest, UnsupportedGrantType, UnsupportedTokenType."""
    fields = form(body)
    if fields.get("grant_type", EXCHANGE) != EXCHANGE:
        raise UnsupportedGrantType(f"only {EXCHANGE} is served here")
    if fields.get("subject_token_type", JWT) not in {JWT, ID_TOKEN}:
        raise UnsupportedTokenType(f"subject_token_type has to be {JWT} or {ID_TOKEN}")
    if "actor_token" in fields:
        raise MalformedRequest("actor_token: delegation is not served here; leave it out")
    try:
        return TokenForm.model_validate(fields)
    except ValidationError as error:
        raise MalformedRequest(_told(error)) from None


def revoke_form(body: bytes) -> RevokeForm:
    """Raises MalformedRequest."""
    try:
        return RevokeForm.model_validate(form(body))
    except ValidationError as error:
        raise MalformedRequest(_told(error)) from None
