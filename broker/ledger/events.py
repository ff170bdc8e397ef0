"""What an event says: one constructor a type, so that the writer and the verifier agree on every member.

* Bodies hold nothing secret: hashes of handles and fingerprints of credentials, never either.
* A leaf commits to the rows written beside it. `issued` and `failed` describe each lease, `session_sha256` covers the
  session's row, outcomes carry the reason that the lease's row carries. broker.ledger.verify checks exactly this, so:
  - an entry that ends a session carries `session_ended` at the instant of `ended_at`;
  - an entry that ends a lease carries `revoked` or `irrevocable` with `why` equal to the row's `reason`, or `expired`;
  - an entry that makes a lease active carries `issued` with the lease as the row will then be;
  - an entry that lengthens a lease carries `renewing` or `renewed` with the lease as the row will then be;
  - an entry that gives a session a new secret carries `session_renewed` or `issued` with the session as it will then be.
* A leaf fits 65,535 bytes (C2SP tlog-tiles): lists that may be longer come as several events, long text is cut.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final, NamedTuple

import orjson

from broker import ids
from broker.ledger.records import Event, LeaseRecord, SessionRecord
from broker.model import rfc3339

Json = Mapping[str, Any]

LONGEST_TEXT: Final = 8_000  # characters of a reason; a reader needs no more, and a leaf has a limit
MOST_LEASES: Final = 1_000  # ids in one `expired`
MOST_POLICIES: Final = 200  # names and hashes in one `policy-changed`


class IssuedLease(NamedTuple):
    """One credential of an issuance: its row as written, the statement that allowed it, and the backend's plain facts."""

    lease: LeaseRecord
    statement: int  # the index in the policy's `trust`
    facts: Mapping[str, str] = {}


def make(kind: str, body: Json, *, now: datetime | None = None, id: str | None = None) -> Event:  # noqa: A002  the event's own word
    """An event of type `kind`; a fresh id and the present instant unless given."""
    return Event(id=id or ids.new("evt"), time=now or datetime.now(UTC), type=kind, body=body)


def issued(
    *,
    session: SessionRecord,
    issuance: str,
    kind: str,
    job: Json,
    claims: Json,
    policy_set: str,
    leases: Sequence[IssuedLease],
    now: datetime | None = None,
) -> Event:
    """Credentials were minted for a job. `kind` is the issuer kind, `job` is JobIdentity.present(), `claims` as signed."""
    return make(
        "issued",
        {
            "issuance": issuance,
            **_session(session),
            "kind": kind,
            "job": job,
            "claims": claims,
            "policy_set": policy_set,
            "leases": [{**_lease(one.lease), "statement": one.statement, "facts": dict(one.facts)} for one in leases],
        },
        now=now,
    )


def failed(
    *,
    issuance: str,
    session: SessionRecord,
    leases: Sequence[LeaseRecord],
    why: str,
    now: datetime | None = None,
    job: Json | None = None,
    case: str | None = None,
) -> Event:
    """An issuance came to nothing: a mint failed, or a crash came between. Its leases are then revoked one by one."""
    described = [
        {name: value for name, value in _lease(lease).items() if name in _NAMED_BEFORE_MINTING} for lease in leases
    ]
    return make(
        "failed",
        {
            "issuance": issuance,
            **_session(session),
            "leases": described,
            "why": clip(why),
            **({} if job is None else {"job": job}),
            **({} if case is None else {"case": case}),
        },
        now=now,
    )


def renewing(*, lease: LeaseRecord, now: datetime | None = None) -> Event:
    """A backend is about to be asked for a later end; `lease` is the row with that end. A crash in between leaves this."""
    body = {"lease": lease.id, "session": lease.session, "grants": [lease.grant], "until": rfc3339(lease.expires_at)}
    return make("renewing", body, now=now)


def renewed(*, lease: LeaseRecord, now: datetime | None = None) -> Event:
    """A credential lives longer; `lease` is the row as it will be."""
    return make(
        "renewed",
        {
            "lease": lease.id,
            "session": lease.session,
            "grants": [lease.grant],
            "expires_at": rfc3339(lease.expires_at),
            "handle_sha256": _sha256(lease.sealed),
        },
        now=now,
    )


def revoked(*, lease: str, why: str, by: str, attempts: int | None = None, now: datetime | None = None) -> Event:
    """A credential no longer works. `by`: "job", "recovery", "person <subject>", ... `why` equals the row's `reason`."""
    return make("revoked", _outcome(lease, why, attempts) | {"by": by}, now=now)


def irrevocable(*, lease: str, why: str, attempts: int | None = None, now: datetime | None = None) -> Event:
    """A credential cannot be taken back and may work until it expires. `why` equals the row's `reason`."""
    return make("irrevocable", _outcome(lease, why, attempts), now=now)


def expired(*, leases: Sequence[str], now: datetime | None = None) -> tuple[Event, ...]:
    """Credentials reached their end; many at a time, as one event a thousand."""
    return tuple(make("expired", {"leases": list(part)}, now=now) for part in _parts(leases, MOST_LEASES))


def session_renewed(*, session: SessionRecord, why: str, now: datetime | None = None) -> Event:
    """A session has a new secret, because the answer with its first one was lost; `session` is the row as it will be."""
    return make("session-renewed", {**_session(session), "why": clip(why)}, now=now)


def session_ended(*, session: str, why: str, at: datetime) -> Event:
    """A session was closed before its time; `at` equals the row's `ended_at`."""
    return make("session-ended", {"session": session, "why": clip(why)}, now=at)


def refused(
    *,
    case: str,
    code: str,
    grants: Sequence[str],
    issuer: str,
    job: Json,
    claims: Json,
    reason: str,
    policy_set: str,
    near: Sequence[Json] = (),
    session: str | None = None,
    now: datetime | None = None,
) -> Event:
    """A proved identity was told no. `code` is the error's class name; `reason` may name policies, so only owners read it.

    `near`: what stood in the way, nearest statement first, each {policy, statement, key, code, expected, got}; see
    broker.exchange.cases. The statement is left out where none is meant.
    """
    body: dict[str, Any] = {"case": case, "code": code, "grants": list(grants), "issuer": issuer, "job": job}
    body |= {"claims": claims, "reason": clip(reason), "policy_set": policy_set} | ({"near": near} if near else {})
    return make("refused", body if session is None else body | {"session": session}, now=now)


def refused_many(
    *,
    case: str,
    cases: Sequence[str] = (),
    issuer: str,
    owner: str | None,
    count: int,
    since: datetime,
    sample: Json,
    now: datetime | None = None,
) -> Event:
    """A flood in one line: so many refusals of one issuer and owner since an instant, and one of them as a sample.

    `case` is the first refusal's number, `cases` those of the others: a case of its own for each, as for anybody who is
    refused, or its sameness would tell a stranger that no policy is near.
    """
    body: dict[str, Any] = {"case": case, "issuer": issuer, "owner": owner, "count": count, "from": rfc3339(since)}
    return make("refused-many", body | {"sample": sample} | ({"cases": list(cases)} if cases else {}), now=now)


def observed(
    *,
    case: str | None,
    grants: Sequence[str],
    issuer: str,
    job: Json,
    claims: Json,
    allowed: bool,
    reason: str,
    policy_set: str,
    near: Sequence[Json] = (),
    now: datetime | None = None,
) -> Event:
    """What a policy in `mode: observe` would have said. Nothing was minted. `near` as in `refused`."""
    body: dict[str, Any] = {"grants": list(grants), "issuer": issuer, "job": job, "claims": claims, "allowed": allowed}
    body |= {"reason": clip(reason), "policy_set": policy_set} | ({"near": near} if near else {})
    body |= {} if case is None else {"case": case}
    return make("observed", body, now=now)


def next_differs(
    *, changes: Sequence[Json], issuer: str, job: Json, policy_set: str, told: Json, now: datetime | None = None
) -> Event:
    """A policy's next version would have answered otherwise: `changes` are {grant, would, why}. It decided nothing.

    `told` names what the job was told: {"issuance": ...} or {"case": ...}.
    """
    body = {"changes": list(changes), "issuer": issuer, "job": job, "policy_set": policy_set}
    return make("next-differs", body | dict(told), now=now)


def reused(*, case: str, session: str, issuer: str, job: Json, now: datetime | None = None) -> Event:
    """A subject token came a second time; `session` is the one that redeemed it. A leak, or a client that retries badly."""
    return make("reused", {"case": case, "session": session, "issuer": issuer, "job": job}, now=now)


def person_signed_in(
    *, person: str, subject: str, idp: str, roles: Sequence[str], expires_at: datetime, now: datetime | None = None
) -> Event:
    """A person's token was used for the first time. `subject` is its `sub`, `idp` its issuer's URL."""
    body = {"person": clip(person), "subject": clip(subject), "idp": idp, "roles": list(roles)}
    return make("person-signed-in", body | {"until": rfc3339(expires_at)}, now=now)


def case_read(*, case: str, person: str, roles: Sequence[str], now: datetime | None = None) -> Event:
    """A person was shown a case. It stands under `read`, so that looking the case up leads to the refusal itself."""
    return make("case-read", {"read": case, "person": clip(person), "roles": list(roles)}, now=now)


def policy_changed(
    *,
    policy_set: str,
    policies: Mapping[str, str],
    removed: Sequence[str] = (),
    source: str | None = None,
    commit: str | None = None,
    now: datetime | None = None,
) -> tuple[Event, ...]:
    """A new set of policies decides from now on. `policies`: name -> `sha256:<hex>` of each text that is new or changed.

    The same entry stores those texts as PolicyVersions. `source` says where they are from, with its `commit` if it has any.
    """
    named = [*((name, version) for name, version in sorted(policies.items())), *((name, None) for name in removed)]
    events = []
    for part in _parts(named, MOST_POLICIES) if named else [()]:
        body: dict[str, Any] = {
            "policy_set": policy_set,
            "policies": {name: version for name, version in part if version is not None},
            **_origin(source, commit),
        }
        if gone := [name for name, version in part if version is None]:
            body["removed"] = gone
        events.append(make("policy-changed", body, now=now))
    return tuple(events)


def policy_rejected(
    *,
    problems: Sequence[str],
    policy_set: str,
    source: str | None = None,
    commit: str | None = None,
    now: datetime | None = None,
) -> Event:
    """A reload did not load; the last good set, `policy_set`, stays."""
    body = {"problems": clip("\n".join(problems)), "policy_set": policy_set, **_origin(source, commit)}
    return make("policy-rejected", body, now=now)


def _origin(source: str | None, commit: str | None) -> dict[str, str]:
    members = {"source": None if source is None else clip(source), "commit": commit}
    return {name: value for name, value in members.items() if value is not None}


def key_made(*, role: str, kid: str, algorithm: str, now: datetime | None = None) -> Event:
    """A private key was made; `kid` is the RFC 7638 thumbprint of its public half."""
    return make("key-made", {"role": role, "kid": kid, "algorithm": algorithm}, now=now)


def started(
    *,
    version: str,
    url: str,
    policy_set: str,
    source: str | None = None,
    commit: str | None = None,
    now: datetime | None = None,
) -> Event:
    """A broker began to serve."""
    return make(
        "started", {"version": version, "url": url, "policy_set": policy_set, **_origin(source, commit)}, now=now
    )


def session_digest(session: SessionRecord) -> str:
    """SHA-256 over the session's row as a JSON list, without `ended_at`, which `session-ended` tells."""
    row = [
        session.id,
        session.token_key.hex(),
        session.secret_hash.hex(),
        None if session.nonce_hash is None else session.nonce_hash.hex(),
        session.issuer,
        session.claims,
        unix_ms(session.issued_at),
        unix_ms(session.token_expires_at),
        unix_ms(session.expires_at),
        unix_ms(session.keep_until),
    ]
    return _sha256(orjson.dumps(row))


def unix_ms(instant: datetime) -> int:
    """Milliseconds since 1970: how every instant is stored."""
    return (instant - _EPOCH) // _MILLISECOND


def clip(text: str) -> str:
    """Long text, cut where a leaf would grow too large."""
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + " [cut]"


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_NAMED_BEFORE_MINTING: Final = frozenset({"lease", "grant", "policy_version", "backend", "kind", "minted_at"})


def _session(session: SessionRecord) -> dict[str, str]:
    return {
        "session": session.id,
        "session_sha256": session_digest(session),
        "session_keep_until": rfc3339(session.keep_until),
        "issuer": session.issuer,
    }


def _lease(lease: LeaseRecord) -> dict[str, Any]:
    return {
        "lease": lease.id,
        "grant": lease.grant,
        "policy_version": lease.policy_version,
        "backend": lease.backend,
        "kind": lease.kind,
        "minted_at": rfc3339(lease.minted_at),
        "expires_at": rfc3339(lease.expires_at),
        "renewable": lease.renewable,
        "fingerprint": lease.fingerprint,
        "handle_sha256": _sha256(lease.sealed),
    }


def _outcome(lease: str, why: str, attempts: int | None) -> dict[str, Any]:
    body: dict[str, Any] = {"lease": lease, "why": why}
    return body if attempts is None else body | {"attempts": attempts}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _parts(items: Sequence[Any], most: int) -> Iterator[tuple[Any, ...]]:
    rest = iter(items)
    while part := tuple(islice(rest, most)):
        yield part
