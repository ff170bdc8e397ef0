"""What an issuer kind is: one file beside this one, and one line in the table of `broker.issuers`.

A kind knows one CI's claims: which are immutable, which an attacker may choose, which triggers run other people's code,
and how they map to a JobIdentity. It is pure: claims in, words out. Signatures and keys belong to broker.tokens.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final, Literal

from broker.model import JobIdentity

Claims = Mapping[str, Any]


class Trust(StrEnum):
    """Who may choose a claim's value."""

    ID = "id"  # set by the platform, never handed to somebody else: anchor a policy on one of these
    FACT = "fact"  # set by the platform, true for this run
    NAME = "name"  # set by the platform, but can be renamed, deleted and registered again by another party
    USER = "user"  # text chosen by a committer, a pull request's author, an API caller or the job itself


STANDARD: Final[Mapping[str, Trust]] = {  # RFC 7519 section 4.1; who chooses `sub` and `jti` differs by kind
    "iss": Trust.FACT,
    "aud": Trust.USER,
    "iat": Trust.FACT,
    "nbf": Trust.FACT,
    "exp": Trust.FACT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerKind:
    """One CI's tokens. Claims that stand in no trust class are counted, which is how an issuer's changes get noticed."""

    name: str
    title: str  # for people: "GitHub Actions"
    url: str | None  # the public instance's issuer; None where every installation has its own
    accepts: str  # RE2, whole match, of the issuer URLs this kind may be configured with
    algorithms: tuple[str, ...] = ("RS256",)
    required: frozenset[str]  # without one of these the token is rejected, not just refused
    claims: Mapping[str, Trust]  # every claim known, by trust class; a final `*` stands for any rest: `repo_property_*`
    identity: Callable[[Claims], JobIdentity]
    unsafe_triggers: Callable[[Claims], tuple[str, ...]]  # the names a statement must allow by `allow_triggers`
    trigger_names: Mapping[str, str]  # every name `unsafe_triggers` can give -> the attack, in one sentence
    immutable: tuple[
        str, ...
    ]  # JobIdentity fields that hold an id nobody can register again: ("project_id", "owner_id")
    jti: Literal["required", "optional"] = "optional"
    max_age: timedelta = timedelta(minutes=10)  # from iat; a job with fresh tokens never needs more
    max_lifetime: timedelta = timedelta(hours=2)  # exp - iat
    longest_job: timedelta = timedelta(hours=6)  # bounds a session
    fresh_tokens: bool = True  # whether a job can ask for another token whenever it likes
    chooses_audience: bool = True  # whether a job can ask for a bound audience
    fixed_audience: str | None = (
        None  # where the CI fixes it: a token handed to one service works on all. {url}, {host}
    )
    custom_subject: bool = False  # whether somebody can change the shape of `sub`
    docs: str = ""  # the CI's own page about its tokens
    examples: Mapping[str, Claims] = field(
        default_factory=dict, repr=False
    )  # name -> claims, for `$like` in policies and for docs

    def trust(self, claim: str) -> Trust | None:
        """Who may choose this claim's value; None where the kind does not know the claim."""
        known = self.claims.get(claim)
        if known is None:
            for pattern, trust in self.claims.items():
                if pattern[-1] == "*" and claim.startswith(pattern[:-1]):
                    return trust
        return known
