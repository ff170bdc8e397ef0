"""What a verified token makes of a person: a name, roles, and the names under which policies may call them an owner. Pure.

* `email` counts only where the issuer says `email_verified`; anyone can type another's address into a profile.
* Owners' names are compared as they stand, but for the case of an address's domain (RFC 5321 section 2.4 leaves the local part
  to its own host, which may tell Dana from dana).
* What is missing, empty or of another type is not there: no role, nothing owned.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from broker.issuers.words import flag
from broker.model import VerifiedToken
from broker.policy.claims import Read, absent, reader
from broker.policy.conditions import Condition

EMAIL: Final = "email"
LONGEST_NAME: Final = 254
MOST_NAMES: Final = 1_000  # of one token's groups


class Role(StrEnum):
    """What the claims alone can make of a person; an owner is one by the policies that name them."""

    AUDITOR = "auditor"  # reads everything
    RESPONDER = "responder"  # reads refusals, ends leases
    PLATFORM = "platform"  # runs the broker, answers where no policy is near


@dataclass(frozen=True, slots=True)
class Alternative:
    """Conditions that all have to hold."""

    conditions: tuple[tuple[Read, Condition], ...] = field(repr=False)

    def holds(self, claims: Mapping[str, Any]) -> bool:
        return all(condition.holds(read(claims)) for read, condition in self.conditions)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerClaim:
    """A claim whose values are names of owners; `domain` makes `payments` the address `payments@<domain>`."""

    claim: str
    domain: str | None = None

    def names(self, claims: Mapping[str, Any]) -> Iterable[str]:
        value = reader(self.claim)(claims)
        values = value if isinstance(value, list) else [value]
        for item in values[:MOST_NAMES]:
            if not isinstance(item, str) or not _is_name(item):
                continue
            if self.domain is None:
                yield canonical(item)
            elif "@" not in item:  # or a group could be called into another domain
                yield canonical(f"{item}@{self.domain}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who is asking. `names` are canonical; they and the roles hold for this token only."""

    name: str  # how the ledger calls them
    roles: frozenset[Role]
    names: frozenset[str] = field(repr=False)
    token_key: bytes = field(repr=False)  # of the token they came with
    expires_at: datetime

    def owns(self, owners: Iterable[str]) -> bool:
        """Whether a policy with these `owners:` names this person."""
        return any(canonical(owner) in self.names for owner in owners)


class Nobody(Exception):
    """The token does not say who this is. The text is for that person."""


def person_of(
    token: VerifiedToken,
    *,
    subject: str,
    owners: Iterable[OwnerClaim],
    roles: Mapping[Role, tuple[Alternative, ...]],
) -> Person:
    """Raises Nobody."""
    claims = _believed(token.claims)
    name = reader(subject)(claims)
    if not isinstance(name, str) or not _is_name(name):
        why = " that the issuer says is verified (email_verified)" if subject == EMAIL else ""
        raise Nobody(f"your token has no claim {subject!r}{why}, by which this broker names people")
    return Person(
        name=name,
        roles=frozenset(role for role, ways in roles.items() if any(way.holds(claims) for way in ways)),
        names=frozenset(own for source in owners for own in source.names(claims)),
        token_key=token.token_key,
        expires_at=token.expires_at,
    )


def canonical(name: str) -> str:
    """An owner's name as it is compared. ASCII only is folded: a Kelvin sign must not become a k."""
    local, at, domain = name.rpartition("@")
    return f"{local}@{domain.lower() if domain.isascii() else domain}" if at else name


def _believed(claims: Mapping[str, Any]) -> Mapping[str, Any]:
    """The claims without an address that nobody verified."""
    if absent(claims.get(EMAIL)) or flag(claims, "email_verified"):
        return claims
    return {name: value for name, value in claims.items() if name != EMAIL}


def _is_name(text: str) -> bool:
    return 0 < len(text) <= LONGEST_NAME and text.isprintable() and not text.isspace()
