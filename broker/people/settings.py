"""`people:` of broker.yaml: whose tokens people come with, and which claims make them what.

    people:
      issuer: https://login.acme.example
      client_id: jobkey
      subject: email                      # how the ledger calls a person; `email` has to be verified
      owners: [email, {claim: groups, domain: acme.example}]
      roles:
        auditor: {groups: {contains: sec-audit}}
        platform: [{groups: {contains: platform}}, {email: dana@acme.example}]

* A role is a mapping of claims to conditions, all of which hold, or a list of such mappings. The conditions are those of trust
  policies; a role that everybody has does not load.
* The token is the ID token, made for `client_id`. Where the issuer signs access tokens as JWTs of RFC 9068 (`typ: at+jwt`), say
  `token: access_token` and the `audience` it gives them.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from broker.documents import Path
from broker.durations import Duration
from broker.issuers.seam import STANDARD, IssuerKind, Trust
from broker.issuers.trusted import ALGORITHMS, LEEWAY, TrustedIssuer
from broker.issuers.urls import split
from broker.model import JobIdentity
from broker.people.roles import Alternative, OwnerClaim, Person, Role, person_of
from broker.policy.claims import reader
from broker.policy.conditions import compile_condition

MOST_AGE: Final = timedelta(hours=24)
NAME: Final = "people"  # of the issuer, in metrics and errors
_VISIBLE: Final = r"^[\x21-\x7e]{1,255}$"
_DOMAIN: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)+")

Report = Callable[[Path, str], None]
Claim = Annotated[str, Field(min_length=1, max_length=200)]
_CONDITION: Final = "a value (equals), a list (any of), or one of glob, regex, not, absent, contains"
Conditions = Annotated[
    dict[Claim, Any],
    Field(min_length=1, max_length=16),
    WithJsonSchema(
        {
            "type": "object",
            "minProperties": 1,
            "description": "claims of the token, and what each has to be",
            "additionalProperties": {
                "type": ["string", "number", "boolean", "array", "object"],
                "description": _CONDITION,
            },
        }
    ),
]
RoleConditions = Conditions | Annotated[list[Conditions], Field(min_length=1, max_length=64)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class OwnerPart(_Part):
    """A claim with short names of teams, which policies call by an address."""

    claim: Claim = Field(description="a claim with one name or a list of them", examples=["groups"])
    domain: str | None = Field(
        default=None, description="`payments` then owns what `payments@<domain>` owns", examples=["acme.example"]
    )


class RolesPart(_Part):
    """Who is what: for each role a mapping of claims to conditions, or a list of such mappings, one of which has to hold."""

    auditor: RoleConditions | None = Field(default=None, description="reads everything")
    responder: RoleConditions | None = Field(default=None, description="reads refusals and ends leases")
    platform: RoleConditions | None = Field(default=None, description="answers where no policy is near")


def _by_address() -> list[str | OwnerPart]:
    return ["email"]


class PeopleSettings(_Part):
    """Whose tokens people come with, and which claims make them what."""

    issuer: str = Field(
        description="the organisation's OpenID issuer, exactly as its tokens' `iss`",
        examples=["https://login.acme.example"],
    )
    client_id: str = Field(
        pattern=_VISIBLE,
        description="the public client that `jobkey-broker signin` is at this issuer",
        examples=["jobkey"],
    )
    token: Literal["id_token", "access_token"] = Field(
        default="id_token", description="what people send: the ID token, or an access token of RFC 9068 (`typ: at+jwt`)"
    )
    audience: str | None = Field(
        default=None,
        pattern=_VISIBLE,
        description="with `token: access_token`: the `aud` of this broker's access tokens",
    )
    scopes: list[Annotated[str, Field(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]{1,255}$")]] = Field(
        default_factory=lambda: ["openid", "email", "profile"], min_length=1, max_length=32, description="what signing in asks for"
    )  # fmt: skip
    algorithms: list[str] = Field(
        default_factory=lambda: ["RS256"], min_length=1, description="accepted signature algorithms"
    )
    subject: Claim = Field(default="email", description="the claim that names a person; `email` has to be verified")
    owners: list[Claim | OwnerPart] = Field(
        default_factory=_by_address, min_length=1, max_length=8,
        description="the claims whose values are compared with the `owners` of policies", examples=[["email", {"claim": "groups", "domain": "acme.example"}]],
    )  # fmt: skip
    device_endpoint: str | None = Field(
        default=None, description="its device authorization endpoint, where its discovery document does not name it"
    )
    roles: RolesPart = Field(default_factory=RolesPart, description="which claims make a person what")
    max_age: Duration = Field(
        default_factory=lambda: timedelta(hours=1), description="oldest token accepted, from its `iat`; at most 24h"
    )
    leeway: Duration | None = Field(default=None, description="how far the clocks may differ; 30s")
    allow_private: bool = Field(default=False, description="whether the issuer's hosts may have private addresses")


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """`people:`, checked. `issuer` goes to a TokenVerifier of its own."""

    issuer: TrustedIssuer
    client_id: str
    scopes: tuple[str, ...]
    device_endpoint: str | None
    access_tokens: bool  # the token that is sent is an access token, not an ID token
    subject: str
    owners: tuple[OwnerClaim, ...] = field(repr=False)
    roles: Mapping[Role, tuple[Alternative, ...]] = field(repr=False)

    def person(self, token: Any) -> Person:
        """Who a verified token of this issuer is. Raises roles.Nobody."""
        return person_of(token, subject=self.subject, owners=self.owners, roles=self.roles)


# Tokens of this kind are nobody's job: no JobIdentity is ever read from one.
PERSON: Final = IssuerKind(
    name="person",
    title="the sign-in",
    url=None,
    accepts=r"https?://.*",
    required=frozenset({"sub"}),
    claims=MappingProxyType({**STANDARD, "*": Trust.USER}),
    identity=lambda _: JobIdentity(),
    unsafe_triggers=lambda _: (),
    trigger_names={},
    immutable=(),
)


def people(settings: PeopleSettings, *, jobs: Mapping[str, str], report: Report, own: str = "") -> People | None:
    """Check the part; `jobs` is issuer URL -> its name under `issuers:`, `own` the broker's own URL. Problems go to `report`; the answer is then None."""
    problems: list[tuple[Path, str]] = []
    problems.extend(_address(settings, jobs, own))
    problems.extend(_tokens(settings))
    owners = list(_owners(settings, lambda path, message: problems.append((path, message))))
    roles: dict[Role, tuple[Alternative, ...]] = {}
    for role in Role:
        ways = getattr(settings.roles, role.value)
        if ways is not None:
            at = ("roles", role.value)
            roles[role] = tuple(_role(ways, at, lambda path, message: problems.append((path, message))))
    for path, message in problems:
        report(path, message)
    if problems:
        return None
    access = settings.token == "access_token"  # noqa: S105  a type's name
    issuer = TrustedIssuer(
        name=NAME,
        kind=PERSON,
        url=settings.issuer,
        audiences=(settings.audience if access and settings.audience else settings.client_id,),
        algorithms=tuple(settings.algorithms),
        max_age=settings.max_age,
        max_lifetime=max(MOST_AGE, settings.max_age),
        leeway=settings.leeway or LEEWAY,
        allow_private=settings.allow_private,
        types=("at+jwt",) if access else ("jwt",),
    )
    return People(
        issuer=issuer,
        client_id=settings.client_id,
        scopes=tuple(settings.scopes),
        device_endpoint=settings.device_endpoint,
        access_tokens=access,
        subject=settings.subject,
        owners=tuple(owners),
        roles=MappingProxyType(roles),
    )


def _address(settings: PeopleSettings, jobs: Mapping[str, str], own: str) -> Iterator[tuple[Path, str]]:
    for key, url in (("issuer", settings.issuer), ("device_endpoint", settings.device_endpoint)):
        try:
            split(url or settings.issuer)
        except ValueError as error:
            yield (key,), str(error)
    if settings.issuer.rstrip("/") == own.rstrip("/"):
        yield (
            ("issuer",),
            "this is the broker itself, whose identity tokens say what policies want them to; use your organisation's own issuer",
        )
    if (name := jobs.get(settings.issuer)) is not None:
        # GitLab, for one, signs people in and signs for jobs under one `iss`, and a job names its own audience: it could ask
        # for a token that looks like a person's.
        yield (
            ("issuer",),
            f"jobs come with tokens of this issuer too ({name!r} under issuers), and a job could ask for one that looks like a person's; use another issuer for people",
        )


def _tokens(settings: PeopleSettings) -> Iterator[tuple[Path, str]]:
    for algorithm in settings.algorithms:
        if algorithm not in ALGORITHMS:
            yield ("algorithms",), f"{algorithm!r} is not accepted; use one of {', '.join(ALGORITHMS)}"
    if settings.max_age > MOST_AGE:
        yield ("max_age",), "at most 24h; who left the organisation must not come back with last week's token"
    if settings.token == "id_token":  # noqa: S105  a type's name
        if settings.audience not in {None, settings.client_id}:
            yield ("audience",), "an ID token is made for client_id; leave this out, or say `token: access_token`"
        if "openid" not in settings.scopes:
            yield ("scopes",), "an ID token comes with the scope openid only; add it"
    elif settings.audience in {None, settings.client_id}:
        # The audience tells an access token of this broker from an ID token of its client, whatever their `typ` says.
        yield (
            ("audience",),
            "with `token: access_token` write the audience of its access tokens, another one than client_id",
        )


def _owners(settings: PeopleSettings, report: Report) -> Iterator[OwnerClaim]:
    for number, part in enumerate(settings.owners):
        claim, domain = (part, None) if isinstance(part, str) else (part.claim, part.domain)
        if domain is not None and _DOMAIN.fullmatch(domain) is None:
            report(("owners", number, "domain"), "write a domain such as acme.example")
        try:
            reader(claim)
        except ValueError as error:
            report(("owners", number), str(error))
        yield OwnerClaim(claim=claim, domain=domain)
    try:
        reader(settings.subject)
    except ValueError as error:
        report(("subject",), str(error))


def _role(ways: Any, at: Path, report: Report) -> Iterator[Alternative]:
    for number, way in enumerate(ways if isinstance(ways, list) else [ways]):
        here = (*at, number) if isinstance(ways, list) else at
        conditions = []
        for claim, spec in way.items():
            path = (*here, claim)
            condition = compile_condition(spec, lambda below, message, path=path: report((*path, *below), message))  # type: ignore[misc]  # mypy cannot infer a default's type
            try:
                read = reader(claim)
            except ValueError as error:
                report(path, str(error))
                continue
            if condition is not None:
                conditions.append((read, condition))
        if conditions and all(condition.admits_absent for _, condition in conditions):
            report(here, "everybody who can sign in would have this role; ask for something that has to be there")
        yield Alternative(tuple(conditions))
