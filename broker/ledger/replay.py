"""What the rows must be, told by the events alone. Pure but for a private database that keeps memory flat.

The events say everything that is evidence about a lease: who got what, until when, under which policy, how it ended. What
only steers work in progress (a pending lease, the next attempt to revoke) is in no event and is not judged.
"""

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from broker.ledger.events import session_digest, unix_ms
from broker.ledger.rows import session_record
from broker.model import LeaseState

Row = Sequence[Any]

_LEASE: Final = ("issuance", "session", "grant", "policy_version", "backend", "kind", "minted_at")
_MINTED: Final = ("expires_at", "renewable", "fingerprint", "handle_sha256")
_TABLES: Final = """
CREATE TABLE lease (id TEXT PRIMARY KEY, seq INT, issuance, session, "grant", policy_version, backend, kind, minted_at,
    expires_at, renewable, fingerprint, handle_sha256, state, reason, attempts, announced) WITHOUT ROWID;
CREATE TABLE session (id TEXT PRIMARY KEY, seq INT, sha256, keep_until, ended_at) WITHOUT ROWID;
CREATE TABLE policy (sha256, name, seq INT, PRIMARY KEY (sha256, name)) WITHOUT ROWID;
"""
_ENDINGS: Final = {"revoked": LeaseState.REVOKED, "irrevocable": LeaseState.IRREVOCABLE}


class Replay:
    """Feed every event in order, then compare the rows."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)  # unnamed: on disk where it grows, gone at close
        self._db.row_factory = sqlite3.Row
        self._db.executescript(_TABLES)
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.execute("BEGIN")

    def close(self) -> None:
        """Drop what was gathered."""
        self._db.close()

    def feed(self, seq: int, body: Mapping[str, Any]) -> None:
        """Take one event. Raises KeyError, TypeError or ValueError where it lacks what its type must say."""
        kind = body["type"]
        if kind in ("issued", "failed"):
            self._leases(seq, body, minted=kind == "issued")
        elif kind == "renewed":
            self._db.execute(
                "UPDATE lease SET expires_at = ?, handle_sha256 = ?, seq = ?, announced = NULL WHERE id = ?",
                (unix_ms(_time(body["expires_at"])), body["handle_sha256"], seq, body["lease"]),
            )
        elif kind == "renewing":
            self._db.execute(
                "UPDATE lease SET announced = ?, seq = ? WHERE id = ?",
                (unix_ms(_time(body["until"])), seq, body["lease"]),
            )
        elif kind in _ENDINGS:
            self._end(seq, body["lease"], _ENDINGS[kind], body["why"], body.get("attempts"))
        elif kind == "expired":
            for lease in body["leases"]:
                self._end(seq, lease, LeaseState.EXPIRED, None, 0)
        elif kind == "policy-changed":
            for name, version in body["policies"].items():
                named = (version.removeprefix("sha256:"), name, seq)
                self._db.execute("INSERT OR IGNORE INTO policy VALUES (?, ?, ?)", named)
        elif kind == "session-ended":
            self._db.execute(
                "UPDATE session SET ended_at = ?, seq = ? WHERE id = ?",
                (unix_ms(_time(body["time"])), seq, body["session"]),
            )
        if "session_sha256" in body:
            self._db.execute(
                "INSERT INTO session VALUES (?, ?, ?, ?, NULL) ON CONFLICT (id) DO UPDATE SET seq = excluded.seq, "
                "sha256 = excluded.sha256, keep_until = excluded.keep_until",
                (body["session"], seq, body["session_sha256"], unix_ms(_time(body["session_keep_until"]))),
            )

    def leases(self, rows: Iterator[Row]) -> Iterator[tuple[int | None, str]]:
        """(leaf, what is wrong) for every row of `leases`, given in order of id."""
        for wanted, row in self._beside("lease", rows):
            if row is None:
                yield wanted["seq"], f"lease {wanted['id']}: its row is missing"
            elif problem := _lease_problem(wanted, row):
                yield None if wanted is None else wanted["seq"], f"lease {row[0]}: {problem}"

    def sessions(self, rows: Iterator[Row], unfinished: set[str], now: datetime) -> Iterator[tuple[int | None, str]]:
        """(leaf, what is wrong) for every row of `sessions`, in order of id. `unfinished`: those a crash may have left half made."""
        for wanted, row in self._beside("session", rows):
            if row is None:
                if wanted["keep_until"] >= unix_ms(now):
                    yield wanted["seq"], f"session {wanted['id']}: its row is missing before its time"
            elif wanted is None:
                if row[0] not in unfinished:
                    yield None, f"session {row[0]}: no event speaks of it"
            elif not _fits_digest(row, wanted["sha256"]):
                yield wanted["seq"], f"session {row[0]}: its row is not the one its event describes"
            elif row[-1] != wanted["ended_at"]:
                yield wanted["seq"], f"session {row[0]}: ended_at is not what its events say"

    def policies(self, rows: Iterator[Row]) -> Iterator[tuple[int | None, str]]:
        """(leaf, what is wrong) for every row (sha256, name, text) of `policy_versions`."""
        for sha256, name, text in rows:
            if not isinstance(text, str) or hashlib.sha256(text.encode()).hexdigest() != sha256:
                yield None, f"policy {name}: the stored text does not have the SHA-256 {sha256}"
            elif self._db.execute("DELETE FROM policy WHERE sha256 = ? AND name = ?", (sha256, name)).rowcount != 1:
                yield None, f"policy {name}: no event names the version {sha256}"
        for missing in self._db.execute("SELECT * FROM policy ORDER BY seq"):
            yield missing["seq"], f"policy {missing['name']}: the text of version {missing['sha256']} is missing"

    def _leases(self, seq: int, body: Mapping[str, Any], *, minted: bool) -> None:
        for lease in body["leases"]:
            described = [body["issuance"], body["session"], *(lease[name] for name in _LEASE[2:-1])]
            described.append(unix_ms(_time(lease["minted_at"])))
            life: list[Any] = [None] * len(_MINTED)
            if minted:
                life = [
                    unix_ms(_time(lease["expires_at"])),
                    int(lease["renewable"]),
                    lease["fingerprint"],
                    lease["handle_sha256"],
                ]
            state = LeaseState.ACTIVE.value if minted else None
            values = [lease["lease"], seq, *described, *life, state]
            # What ended stays ended: `failed` may be written after the revocation of what it names.
            self._db.execute(
                f"INSERT INTO lease VALUES ({', '.join('?' * len(values))}, NULL, NULL, NULL) ON CONFLICT (id) DO UPDATE SET "  # noqa: S608  only question marks
                + ", ".join(f'"{name}" = excluded."{name}"' for name in _LEASE),
                values,
            )

    def _end(self, seq: int, lease: str, state: LeaseState, why: str | None, attempts: int | None) -> None:
        self._db.execute(
            "INSERT INTO lease (id, seq, state, reason, attempts) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
            "seq = excluded.seq, state = excluded.state, reason = excluded.reason, attempts = excluded.attempts",
            (lease, seq, state.value, why, attempts),
        )

    def _beside(self, table: str, rows: Iterator[Row]) -> Iterator[tuple[Any, Row | None]]:
        """What was told and what is stored, side by side by id: two sorted lists walked at once."""
        told = iter(self._db.execute(f"SELECT * FROM {table} ORDER BY id"))  # noqa: S608  a name from this file
        wanted, row = next(told, None), next(rows, None)
        while wanted is not None or row is not None:
            if row is None or (wanted is not None and wanted["id"] < str(row[0])):
                yield wanted, None
                wanted = next(told, None)
            elif wanted is None or str(row[0]) < wanted["id"]:
                yield None, row
                row = next(rows, None)
            else:
                yield wanted, row
                wanted, row = next(told, None), next(rows, None)


def _lease_problem(wanted: Any, row: Row) -> str | None:
    """Why a row of `leases` is not what the events say; None where it is."""
    state, reason, attempts, next_attempt = row[7], row[13], row[14], row[15]
    if state not in set(LeaseState):
        return f"{state!r} is not a state"
    unfinished = state in (LeaseState.PENDING, LeaseState.REVOKING)
    if wanted is None:
        return None if unfinished else f"it is {state}, and no event says so"
    if wanted["issuance"] is not None:
        for at, name in enumerate(_LEASE):
            if row[(1, 2, 3, 4, 5, 6, 8)[at]] != wanted[name]:
                return f"{name} is not what its event says"
    if wanted["handle_sha256"] is not None:
        if row[9] is None or row[9] not in (wanted["expires_at"], wanted["announced"]):
            return "expires_at is not what its event says"
        for at, name in enumerate(_MINTED[1:-1]):
            if row[(10, 11)[at]] != wanted[name]:
                return f"{name} is not what its event says"
        if not isinstance(row[12], bytes) or hashlib.sha256(row[12]).hexdigest() != wanted["handle_sha256"]:
            return "the sealed handle is not the one of its event"
    told = wanted["state"]
    if told is None or (told == LeaseState.ACTIVE and state == LeaseState.REVOKING):
        return None if unfinished else f"it is {state}, and no event says so"
    if state != told:
        return f"it is {state}, and the events say {told}"
    if next_attempt is not None:
        return f"it is {state} and has a next attempt"
    if reason != wanted["reason"]:
        return "its reason is not what its event says"
    if told == LeaseState.ACTIVE and attempts != 0:
        return "it is active and has attempts"
    if wanted["attempts"] is not None and attempts != wanted["attempts"]:
        return "attempts is not what its event says"
    return None


def _fits_digest(row: Row, digest: str) -> bool:
    try:
        return session_digest(session_record(row)) == digest
    except (TypeError, ValueError, AttributeError, OverflowError):  # a column of another type
        return False


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
