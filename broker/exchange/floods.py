"""Refusals are limited, because anyone with a CI account can get a genuine token for our audience (design section 6).

* Per issuer and owner a bucket of refusals; when it is empty the answer is 429 and nothing is written.
* Identities that no policy names at all are recorded in aggregate: one event per owner and minute, with the count and
  one sample, so that strangers cannot fill the ledger.
* Every refusal has a case number of its own all the same: one that came twice would tell a stranger that no policy is near.
* Both tables are bounded; the least recently seen owner is dropped first.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from broker import ids
from broker.errors import TooManyRefusals
from broker.model import VerifiedToken

BURST: Final = 60.0
PER_SECOND: Final = 1.0
WINDOW: Final = timedelta(minutes=1)
MOST_OWNERS: Final = 10_000
MOST_CASES: Final = 512  # of one window; an owner's bucket lets through a quarter of that

Owner = tuple[str, str]  # issuer name, owner id or name or project


def owner_of(token: VerifiedToken) -> Owner:
    """Whom a flood is attributed to: what the platform asserts, by the firmest thing it says."""
    job = token.job
    return token.issuer, job.owner_id or job.owner or job.project_id or job.project or "-"


@dataclass(slots=True)
class Bucket:
    """A token bucket, refilled when it is looked at."""

    level: float
    at: datetime


@dataclass(slots=True)
class Strangers:
    """The refusals of one owner that no policy names, in one window."""

    case: str
    since: datetime
    count: int
    sample: VerifiedToken
    grants: tuple[str, ...]
    more: list[str] = field(default_factory=list)  # the cases of the others


class Floods:
    """The two tables. Not persistent: a restart forgives."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[Owner, Bucket] = OrderedDict()
        self._strangers: OrderedDict[Owner, Strangers] = OrderedDict()

    def admit(self, token: VerifiedToken, *, now: datetime) -> None:
        """Ask before working on a request: raises TooManyRefusals while this owner's bucket is empty."""
        bucket = self._buckets.get(owner_of(token))
        if bucket is not None:
            _refill(bucket, now)
            if bucket.level < 1:
                wait = max(1, round((1 - bucket.level) / PER_SECOND))
                raise TooManyRefusals(f"too many refused requests from this owner; wait {wait} s", retry_after=wait)

    def refused(self, token: VerifiedToken, *, now: datetime) -> None:
        """Count one refusal."""
        owner = owner_of(token)
        bucket = self._buckets.setdefault(owner, Bucket(BURST, now))
        self._buckets.move_to_end(owner)
        _refill(bucket, now)
        bucket.level = max(0.0, bucket.level - 1)
        while len(self._buckets) > MOST_OWNERS:
            self._buckets.popitem(last=False)

    def stranger(self, token: VerifiedToken, grants: tuple[str, ...], *, now: datetime) -> tuple[str, list[Strangers]]:
        """Count a refusal that no policy is near. Gives its case, and windows that had to close for want of room."""
        owner = owner_of(token)
        window = self._strangers.get(owner)
        if window is None:
            window = self._strangers[owner] = Strangers(ids.new("case"), now, 0, token, grants)
        case = window.case if window.count == 0 else ids.new("case")
        if window.count and len(window.more) < MOST_CASES:
            window.more.append(case)
        window.count += 1
        closed = []
        while len(self._strangers) > MOST_OWNERS:
            closed.append(self._strangers.popitem(last=False)[1])
        return case, closed

    def window_of(self, case: str) -> Strangers | None:
        """The window that this case stands in and that is not recorded yet."""
        return next((window for window in self._strangers.values() if case == window.case or case in window.more), None)

    def close_windows(self, *, now: datetime, every: bool = False) -> Iterator[Strangers]:
        """The windows whose minute is over (or every one, at shutdown), for the ledger."""
        over = [owner for owner, window in self._strangers.items() if every or window.since + WINDOW <= now]
        for owner in over:
            yield self._strangers.pop(owner)


def _refill(bucket: Bucket, now: datetime) -> None:
    elapsed = max(0.0, (now - bucket.at).total_seconds())
    bucket.level, bucket.at = min(BURST, bucket.level + elapsed * PER_SECOND), now
