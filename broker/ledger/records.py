"""What the ledger stores, as frozen values, and the one thing that writes: an Entry.

An Entry is applied whole or not at all, in one transaction shared with the entries that waited beside it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from broker.model import LeaseState
from broker.values import value


@value(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """A redeemed subject token. `token_key` is unique: that one insert decides who redeemed it."""

    id: str  # ses_...
    token_key: bytes  # 32 bytes
    secret_hash: bytes = field(repr=False)  # SHA-256 of the session secret
    nonce_hash: bytes | None = field(default=None, repr=False)  # SHA-256 of the client's nonce
    issuer: str
    claims: str = field(repr=False)  # JSON, as signed
    issued_at: datetime  # the token's iat
    token_expires_at: datetime
    expires_at: datetime  # of the session
    keep_until: datetime  # the row may be deleted after this: both session and token are long dead
    ended_at: datetime | None = None


@value(frozen=True, slots=True, kw_only=True)
class LeaseRecord:
    """One minted credential's row. `sealed` is the backend's handle, sealed with the lease's id as context."""

    id: str  # lse_...
    issuance: str
    session: str
    grant: str  # policy/grant
    policy_version: str  # sha256:<hex>
    backend: str
    kind: str
    state: LeaseState
    minted_at: datetime
    expires_at: datetime
    renewable: bool
    fingerprint: str | None
    sealed: bytes = field(repr=False)
    reason: str | None = None
    attempts: int = 0
    next_attempt: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseChange:
    """A guarded update: it applies only while the lease is in one of `expected`. None leaves a column as it is.

    `next_attempt` is the exception: it belongs to `revoking`, so a change to any other state clears it unless it gives one.
    """

    lease: str
    expected: frozenset[LeaseState]
    state: LeaseState
    expires_at: datetime | None = None
    sealed: bytes | None = field(default=None, repr=False)
    fingerprint: str | None = None
    renewable: bool | None = None
    reason: str | None = None
    attempts: int | None = None
    next_attempt: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionChange:
    """Ends a session, or gives it a new secret after a retry with the same nonce."""

    session: str
    secret_hash: bytes | None = field(default=None, repr=False)
    ended_at: datetime | None = None


@value(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of the ledger. `body` is JSON: text, whole numbers, booleans, null, lists and objects; no floats of our own.

    The leaf is its RFC 8785 form with `id`, `time` and `type` merged in at the top level.
    """

    id: str  # evt_...
    time: datetime
    type: str  # issued, refused, renewed, revoked, expired, reused, failed, observed, policy-changed, ...
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyVersion:
    """One policy file's text under its SHA-256, so that an event can name what decided it for good."""

    sha256: str  # hex
    name: str
    text: str = field(repr=False)


@value(frozen=True, slots=True, kw_only=True)
class Entry:
    """Everything one step of a request writes."""

    claim: SessionRecord | None = None
    sessions: tuple[SessionChange, ...] = ()
    leases: tuple[LeaseRecord, ...] = ()
    changes: tuple[LeaseChange, ...] = ()
    policies: tuple[PolicyVersion, ...] = ()
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """An event as it stands in the log. `leaf` is the exact bytes that were hashed: the RFC 8785 JSON of the event."""

    seq: int  # the leaf's index
    id: str
    time: datetime
    type: str
    leaf: bytes = field(repr=False)

    @property
    def body(self) -> dict[str, Any]:
        """The leaf as JSON, with `id`, `time` and `type`."""
        parsed: dict[str, Any] = json.loads(self.leaf)
        return parsed


@dataclass(frozen=True, slots=True, kw_only=True)
class EventQuery:
    """Which events: every member that is given must fit. `since` is inclusive, `until` is not; `before` and `after` page by seq."""

    type: str | None = None
    issuer: str | None = None
    project: str | None = None
    run: str | None = None
    grant: str | None = None  # policy/grant
    issuance: str | None = None
    session: str | None = None
    lease: str | None = None  # events about this one lease; the one that issued it is found by its issuance
    case: str | None = None
    with_case: bool = False  # whatever a case number leads to: refusals of every sort
    case_from: str | None = None  # cases sort by time; both ends are inclusive
    case_to: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None
    after: int | None = None
    newest_first: bool = True
    limit: int = 100


class AlreadyRedeemed(Exception):
    """The entry's claim lost: this token has a session. Nothing of the entry was written."""

    def __init__(self, session: SessionRecord) -> None:
        super().__init__("the subject token was redeemed before")
        self.session = session


class LeaseMoved(Exception):
    """A guarded change found the lease in another state. Nothing of the entry was written."""

    def __init__(self, lease: str, state: LeaseState | None) -> None:
        super().__init__(f"{lease} is {state or 'unknown'}")
        self.lease, self.state = lease, state
