"""The nouns every part shares. All frozen; nothing here does any work.

Instants are timezone-aware UTC `datetime`s, lengths of time are `timedelta`s, ids are strings made by broker.ids.
"""

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final

from broker.values import value


@value(frozen=True, slots=True, repr=False)
class Secret:
    """A value that cannot slip into a log: repr, str and f-strings all hide it."""

    _value: str

    def __repr__(self) -> str:
        return "Secret(hidden)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "Secret(hidden)"

    def reveal(self) -> str:
        """The value itself, at the one place that needs it."""
        return self._value


@value(frozen=True, slots=True, kw_only=True)
class JobIdentity:
    """Who a CI job is, in the same words for every CI. Absent is None, never an empty string.

    Ids are strings even where a CI signs numbers. `ref` is always fully qualified (`refs/heads/main`).
    """

    project: str | None = None  # acme/payments
    project_id: str | None = None  # immutable
    owner: str | None = None
    owner_id: str | None = None  # immutable
    ref: str | None = None  # refs/heads/main
    ref_type: str | None = None  # branch | tag | pull-request
    ref_protected: bool | None = None
    environment: str | None = None
    environment_protected: bool | None = None
    trigger: str | None = None  # the CI's own word: push, schedule, merge_request_event
    fork: bool | None = None
    workflow: str | None = None  # the file or definition that runs, with its ref where the CI tells
    run_id: str | None = None
    job_id: str | None = None
    attempt: str | None = None
    actor: str | None = None
    actor_id: str | None = None
    sha: str | None = None
    runner: str | None = None
    run_url: str | None = None  # a page a person can open

    def present(self) -> dict[str, str | bool]:
        """The fields that are there, in declaration order; how a job is shown, recorded and given to CEL."""
        return {name: value for name, value in zip(JOB_FIELDS, _values(self), strict=True) if value is not None}


JOB_FIELDS: Final = tuple(field.name for field in fields(JobIdentity))
_values: Final = attrgetter(*JOB_FIELDS)  # one call in C, on the hot path twice


@value(frozen=True, slots=True, kw_only=True)
class VerifiedToken:
    """A subject token whose signature, issuer, audience and times were checked. Only broker.tokens builds one."""

    issuer: str  # its name in broker.yaml
    kind: str  # the issuer kind: github, gitlab, ...
    claims: Mapping[str, Any]  # as signed
    job: JobIdentity
    unsafe_triggers: tuple[str, ...]  # each must stand in a statement's allow_triggers, or the statement is refused
    token_key: bytes  # SHA-256 over issuer and jti, or over the whole token: its identity for single use
    issued_at: datetime
    expires_at: datetime
    challenge: str | None = None  # base64url SHA-256 of a verifier, from a bound audience (design section 6)
    longest_job: timedelta = timedelta(hours=6)  # bounds the session


@value(frozen=True, slots=True, kw_only=True)
class GrantRequest:
    """One grant a job asks for."""

    grant: str  # policy/grant
    ttl: timedelta | None = None
    params: Mapping[str, Any] | None = None  # what the job may choose: its public key, a session name


class LeaseState(StrEnum):
    """The life of one minted credential.

    pending -> active -> revoking -> revoked | irrevocable;  active -> expired;  pending -> revoking (recovery)
    """

    PENDING = "pending"  # named in the ledger, perhaps already made outside
    ACTIVE = "active"
    REVOKING = "revoking"  # somebody wants it gone; workers try until it is
    REVOKED = "revoked"
    EXPIRED = "expired"
    IRREVOCABLE = "irrevocable"  # it may work until its expiry; the reason says why


ENDED: Final = frozenset({LeaseState.REVOKED, LeaseState.EXPIRED, LeaseState.IRREVOCABLE})


@lru_cache(maxsize=1024)  # one request writes the same three instants many times
def rfc3339(instant: datetime) -> str:
    """`2026-11-21T20:00:00Z`; milliseconds are kept where there are any."""
    text = instant.isoformat(timespec="milliseconds" if instant.microsecond else "seconds")
    return text[:-6] + "Z"
