"""Entries as the exchange writes them, and a small ledger in which everything has happened once."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from broker import ids
from broker.keys.files import FileKeyStore
from broker.ledger import events
from broker.ledger.records import Entry, LeaseChange, LeaseRecord, PolicyVersion, SessionChange, SessionRecord
from broker.ledger.store import Ledger
from broker.model import LeaseState

ORIGIN = "broker.example"
NOON = datetime(2026, 11, 22, 12, 0, 0, 250_000, tzinfo=UTC)
POLICY_TEXT = "policy: payments\ngrants: {}\n"
POLICY_SHA = hashlib.sha256(POLICY_TEXT.encode()).hexdigest()
JOB = {"project": "acme/payments", "project_id": "512345678", "ref": "refs/heads/main", "run_id": "42", "fork": False}
CLAIMS = {
    "sub": "repo:acme/payments:ref:refs/heads/main",
    "iat": 1_795_000_000,
    "run_attempt": "1",
    "é": "日本\U0001f511",
}


def session(now: datetime = NOON, **changed: object) -> SessionRecord:
    made = SessionRecord(
        id=ids.new("ses"),
        token_key=hashlib.sha256(ids.new("evt").encode()).digest(),
        secret_hash=hashlib.sha256(b"secret").digest(),
        nonce_hash=hashlib.sha256(b"nonce").digest(),
        issuer="github",
        claims=json.dumps(CLAIMS),
        issued_at=now,
        token_expires_at=now + timedelta(minutes=5),
        expires_at=now + timedelta(hours=6),
        keep_until=now + timedelta(hours=7),
    )
    return replace(made, **changed)  # type: ignore[arg-type]


def lease(of: SessionRecord, now: datetime = NOON, **changed: object) -> LeaseRecord:
    made = LeaseRecord(
        id=ids.new("lse"),
        issuance=ids.new("iss"),
        session=of.id,
        grant="payments/deploy",
        policy_version=f"sha256:{POLICY_SHA}",
        backend="token",
        kind="identity-token",
        state=LeaseState.ACTIVE,
        minted_at=now,
        expires_at=now + timedelta(minutes=15),
        renewable=True,
        fingerprint="hmac-sha256:" + "cd" * 32,
        sealed=b"\x01sealed handle\x00",
    )
    return replace(made, **changed)  # type: ignore[arg-type]


def issued(of: SessionRecord, *leases: LeaseRecord, now: datetime = NOON) -> events.Event:
    return events.issued(
        session=of,
        issuance=leases[0].issuance,
        kind="github",
        job=JOB,
        claims=CLAIMS,
        policy_set="sha256:" + "ef" * 32,
        leases=[events.IssuedLease(one, 0, {"serial": "7"}) for one in leases],
        now=now,
    )


def issuance(now: datetime = NOON, **changed: object) -> Entry:
    """A claim, a lease and an event: what one issuance of an identity token writes."""
    ses = session(now, **changed)
    one = lease(ses, now)
    return Entry(claim=ses, leases=(one,), events=(issued(ses, one, now=now),))


def refusal(case: str | None = None, now: datetime = NOON) -> Entry:
    event = events.refused(
        case=case or ids.new("case"), code="GrantRefused", grants=["payments/deploy"], issuer="github", job=JOB,
        claims=CLAIMS, reason="payments: ref is refs/pull/7/merge", policy_set="sha256:" + "ef" * 32, now=now,
    )  # fmt: skip
    return Entry(events=(event,))


def move(one: LeaseRecord, state: LeaseState, expected: LeaseState, **more: object) -> LeaseChange:
    return LeaseChange(lease=one.id, expected=frozenset({expected}), state=state, **more)  # type: ignore[arg-type]


async def everything(ledger: Ledger) -> dict[str, str]:
    """Write one of each thing that can happen. Gives the ids by what happened to them."""
    active, revoking, revoked, irrevocable, expired, pending, failed, moved = (
        LeaseState.ACTIVE, LeaseState.REVOKING, LeaseState.REVOKED, LeaseState.IRREVOCABLE, LeaseState.EXPIRED,
        LeaseState.PENDING, LeaseState.PENDING, LeaseState.ACTIVE,
    )  # fmt: skip
    await ledger.write(
        Entry(
            policies=(PolicyVersion(sha256=POLICY_SHA, name="payments", text=POLICY_TEXT),),
            events=(
                events.started(version="0.1.0", url="https://broker.example", policy_set="sha256:0", now=NOON),
                *events.policy_changed(
                    policy_set="sha256:0", policies={"payments": f"sha256:{POLICY_SHA}"}, removed=["old"], now=NOON
                ),
            ),
        )
    )
    ses = session()
    names = {name: lease(ses) for name in ("active", "renewed", "renewing", "revoking", "revoked", "irrevocable", "expired", "failed", "pending")}  # fmt: skip
    early = [replace(names[name], state=pending, fingerprint=None) for name in ("failed", "pending")]
    minted = [names[name] for name in names if name not in ("failed", "pending")]
    minted = [replace(one, issuance=minted[0].issuance) for one in minted]
    await ledger.write(Entry(claim=ses, leases=(*minted, *early), events=(issued(ses, *minted),)))

    later = replace(names["renewed"], expires_at=NOON + timedelta(hours=1), sealed=b"a newer handle")
    await ledger.write(
        Entry(
            changes=(move(later, moved, active, expires_at=later.expires_at, sealed=later.sealed),),
            events=(events.renewed(lease=later, now=NOON),),
        )
    )
    begun = replace(names["renewing"], expires_at=NOON + timedelta(hours=2))
    await ledger.write(
        Entry(changes=(move(begun, moved, active, expires_at=begun.expires_at),), events=(events.renewing(lease=begun, now=NOON),))
    )  # fmt: skip
    for name in ("revoking", "revoked", "irrevocable"):
        await ledger.write(Entry(changes=(move(names[name], revoking, active, reason="over", next_attempt=NOON),)))
    gone = events.revoked(lease=names["revoked"].id, why="the job ended it", by="job", attempts=2, now=NOON)
    await ledger.write(
        Entry(
            changes=(move(names["revoked"], revoked, revoking, reason="the job ended it", attempts=2),), events=(gone,)
        )
    )
    stays = events.irrevocable(lease=names["irrevocable"].id, why="tokens cannot be recalled", attempts=0, now=NOON)
    await ledger.write(
        Entry(changes=(move(names["irrevocable"], irrevocable, revoking, reason="tokens cannot be recalled"),), events=(stays,))
    )  # fmt: skip
    await ledger.write(
        Entry(
            changes=(move(names["expired"], expired, active),),
            events=events.expired(leases=[names["expired"].id], now=NOON),
        )
    )
    told = events.failed(
        issuance=early[0].issuance, session=ses, leases=early[:1], why="the database said no", now=NOON
    )
    await ledger.write(
        Entry(changes=(move(early[0], revoking, failed, reason="undone", next_attempt=NOON),), events=(told,))
    )
    undone = events.revoked(lease=early[0].id, why="undone", by="broker", attempts=1, now=NOON)
    await ledger.write(
        Entry(changes=(move(early[0], revoked, revoking, reason="undone", attempts=1),), events=(undone,))
    )

    over = session()
    await ledger.write(Entry(claim=over, events=(events.session_renewed(session=over, why="made", now=NOON),)))
    fresh = replace(over, secret_hash=hashlib.sha256(b"second").digest())
    await ledger.write(
        Entry(sessions=(SessionChange(session=over.id, secret_hash=fresh.secret_hash),),
              events=(events.session_renewed(session=fresh, why="answer lost", now=NOON),))
    )  # fmt: skip
    await ledger.write(
        Entry(sessions=(SessionChange(session=over.id, ended_at=NOON),), events=(events.session_ended(session=over.id, why="done", at=NOON),))
    )  # fmt: skip
    case = ids.new("case")
    await ledger.write(refusal(case))
    await ledger.write(
        Entry(events=(events.reused(case=ids.new("case"), session=ses.id, issuer="github", job=JOB, now=NOON),))
    )
    return {name: one.id for name, one in names.items()} | {
        "session": ses.id, "ended session": over.id, "case": case, "issuance": minted[0].issuance,
    }  # fmt: skip


async def open_ledger(folder: Path) -> Ledger:
    return await Ledger.open(str(folder / "ledger.db"), keys=FileKeyStore(folder / "keys"), origin=ORIGIN)
