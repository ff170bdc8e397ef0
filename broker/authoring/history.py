"""How long credentials were really needed, by what the ledger says: for the linter's `ttl-beyond-history`.

* A job needed a credential until it gave it back or ended its session. One that ran out was needed for its whole life,
  and so was one that could not be taken back: nobody knows better. What people and the broker ended tells how long it
  was needed at least.
* Where few were seen, nothing is said: the rare long job has not come yet.
* Pure: it takes events one by one, oldest first. Who reads the ledger is broker.cli.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

ENOUGH: Final = 20  # credentials of a grant whose end was seen
TYPES: Final = frozenset({"issued", "renewed", "renewing", "session-ended", "revoked", "irrevocable", "expired"})
_THE_JOB: Final = frozenset({"job", "bearer"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """The past of every grant that was issued."""

    longest: Mapping[str, timedelta]  # policy/grant -> the longest that was needed, where enough were seen
    credentials: int  # all that were issued
    grants: int  # of how many grants
    since: datetime | None = None  # the first of them


@dataclass(slots=True)
class _Lease:
    grant: str
    session: str
    minted: datetime
    expires: datetime


class Uses:
    """Takes events, and keeps what is not over yet, and two numbers a grant."""

    def __init__(self) -> None:
        self._open: dict[str, _Lease] = {}
        self._of_session: dict[str, set[str]] = {}
        self._longest: dict[str, timedelta] = {}
        self._known: dict[str, int] = {}
        self._credentials = 0
        self._since: datetime | None = None

    def take(self, at: datetime, body: Mapping[str, Any]) -> None:
        """One event; those of other types than TYPES say nothing here."""
        match body["type"]:
            case "issued":
                self._since = self._since or at
                for lease in body["leases"]:
                    self._issued(lease, body["session"])
            case "renewed" | "renewing":
                lease = self._open.get(body["lease"])
                if lease is not None:
                    lease.expires = datetime.fromisoformat(body.get("expires_at") or body["until"])
            case "session-ended":
                for name in list(self._of_session.get(body["session"], ())):
                    self._over(name, at)
            case "revoked":
                self._over(body["lease"], at, known=body.get("by") in _THE_JOB)
            case "irrevocable":
                self._over(body["lease"], None)
            case "expired":
                for name in body["leases"]:
                    self._over(name, None)
            case _:
                pass

    def result(self, now: datetime) -> Past:
        """What is known at this instant. What still works may be needed to its end."""
        for name, lease in list(self._open.items()):
            self._over(name, None, known=lease.expires <= now)
        seen = {grant: self._longest[grant] for grant, count in self._known.items() if count >= ENOUGH}
        return Past(longest=seen, credentials=self._credentials, grants=len(self._longest), since=self._since)

    def _issued(self, lease: Mapping[str, Any], session: str) -> None:
        minted, expires = (datetime.fromisoformat(lease[name]) for name in ("minted_at", "expires_at"))
        self._credentials += 1
        self._longest.setdefault(lease["grant"], timedelta())
        self._open[lease["lease"]] = _Lease(lease["grant"], session, minted, expires)
        self._of_session.setdefault(session, set()).add(lease["lease"])

    def _over(self, name: str, at: datetime | None, *, known: bool = True) -> None:
        """Needed until then, or where that is None for its whole life; `known`: and no longer."""
        lease = self._open.pop(name, None)
        if lease is None:
            return  # issued before the time that is looked at, or over already
        siblings = self._of_session[lease.session]
        siblings.discard(name)
        if not siblings:
            del self._of_session[lease.session]
        end = lease.expires if at is None else min(at, lease.expires)
        self._longest[lease.grant] = max(self._longest[lease.grant], end - lease.minted)
        self._known[lease.grant] = self._known.get(lease.grant, 0) + known
