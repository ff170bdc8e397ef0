"""One issuer's keys, kept fresh without a request ever steering or multiplying a fetch.

* A key that is known is handed out without waiting: `known` neither suspends nor hops threads.
* Single flight: however many tokens ask, one fetch runs. Before the keys grow old a fetch runs behind the requests.
* An unknown `kid` may cause a fetch, but only from a small bucket (three at once, then one in 15 seconds), so 10,000
  made-up `kid`s cost the issuer a handful. While the bucket is empty the answer is "try again", not "your token is bad":
  it may be the first token after a rotation.
* Keep last good: a fetch that fails, or brings nothing sound, changes nothing. The last good set serves until `stale_limit`,
  then nobody is let in. A set that arrives replaces the old one whole, so a key the issuer took back is gone.

Time is an argument-less monotonic clock in seconds, given by whoever builds it, so tests move it by hand.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from broker.errors import IssuerUnreachable
from broker.issuers.trusted import TrustedIssuer
from broker.tokens.fetching import Fetched, FetchFailed, discover, fetch_keys
from broker.tokens.keyset import VerifyingKey
from broker.tokens.observer import Observer

SHORTEST_FRESH: Final = 60.0  # bounds on what Cache-Control may ask for
LONGEST_FRESH: Final = 900.0  # a key taken back by a healthy issuer is gone within 15 minutes
DEFAULT_FRESH: Final = 300.0
REFRESH_AT: Final = 0.8  # of the fresh time: a fetch behind the requests has the rest to succeed in
DISCOVERY_FRESH: Final = 3600.0
RETRY_FIRST: Final = 2.0
RETRY_LONGEST: Final = 60.0
BUCKET: Final = 3
BUCKET_SECONDS: Final = 15.0  # until one more fetch for an unknown kid is allowed


class UnknownKey(Exception):
    """A set fetched after the question does not hold the key."""


class IssuerKeys:
    """The key cache of one issuer. One event loop only."""

    def __init__(self, issuer: TrustedIssuer, *, clock: Callable[[], float], observer: Observer) -> None:
        self.issuer = issuer
        self._clock, self._observer = clock, observer
        self._fetched: Fetched | None = None
        self._fetched_at = self._refresh_at = self._fresh_until = 0.0
        self._jwks_uri: str | None = None
        self._discovered_at = 0.0
        self._failures = 0
        self._retry_at = 0.0
        self._why = "not fetched yet"
        self._bucket, self._bucket_at = float(BUCKET), clock()
        self._flight: asyncio.Task[bool] | None = None
        self._stale_limit = issuer.stale_limit.total_seconds()

    def known(self, kid: str | None, alg: str) -> VerifyingKey | None:
        """A key that may be used right now, at once; None where `find` has to look closer."""
        if self._fetched is None:
            return None
        now = self._clock()
        if now >= self._refresh_at:
            if now >= self._fresh_until and not self._may_serve_stale(now):
                return None
            if now >= self._retry_at:
                self._start()  # behind the requests: nobody waits for it
        return self._fetched.keys.find(kid, alg)

    async def find(self, kid: str | None, alg: str) -> VerifyingKey:
        """A key, fetched if need be. Raises UnknownKey, or IssuerUnreachable where trying again can help."""
        if self._fetched is None or self._clock() >= self._fresh_until:
            await self._refresh_if_allowed()
        self._refuse_stale()
        if (key := self._look(kid, alg)) is not None:
            return key
        if (
            self._flight is not None
        ):  # somebody else's fetch may bring it; it began before this question, so it proves nothing
            await self._wait()
            if (key := self._look(kid, alg)) is not None:
                return key
        if not self._take():
            raise self._unreachable(
                "its keys were fetched moments ago and may not be asked for again yet", BUCKET_SECONDS
            )
        good = await self._wait()
        if (key := self._look(kid, alg)) is not None:
            return key
        if not good:
            raise self._unreachable(self._why, self._retry_at - self._clock())
        raise UnknownKey

    async def refresh(self) -> bool:
        """Fetch now, joining a fetch under way. True where a sound set arrived. Never raises."""
        return await self._wait()

    def due_in(self) -> float:
        """Seconds until the background task should fetch; zero or less means now."""
        due = self._retry_at if self._failures or self._fetched is None else self._refresh_at
        return due - self._clock()

    @property
    def age(self) -> float | None:
        """Seconds since the last good fetch, for /readyz and metrics."""
        return None if self._fetched is None else self._clock() - self._fetched_at

    @property
    def trouble(self) -> str | None:
        """Why the last fetch failed, for the operator; None after a good one."""
        return self._why if self._failures or self._fetched is None else None

    async def close(self) -> None:
        """End a fetch under way."""
        if self._flight is not None:
            self._flight.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._flight

    def _look(self, kid: str | None, alg: str) -> VerifyingKey | None:
        return None if self._fetched is None else self._fetched.keys.find(kid, alg)

    def _refuse_stale(self) -> None:
        if self._fetched is None:
            raise self._unreachable(self._why, self._retry_at - self._clock())
        if self._clock() - self._fetched_at > self._stale_limit:
            raise self._unreachable(
                "its last good keys are older than stale_limit: " + self._why, self._retry_at - self._clock()
            )

    def _may_serve_stale(self, now: float) -> bool:
        """In an outage the last good set serves at once: a job must not wait for a fetch that will time out."""
        return self._failures > 0 and now - self._fetched_at <= self._stale_limit

    async def _refresh_if_allowed(self) -> bool:
        """Fetch for keys that are missing or old, unless that failed moments ago. True where a fetch begun now went well."""
        now = self._clock()
        if self._fetched is not None and self._may_serve_stale(now):
            if now >= self._retry_at:
                self._start()
            return False
        if self._flight is not None:
            await self._wait()
            return False
        return now >= self._retry_at and await self._wait()

    def _take(self) -> bool:
        """One fetch out of the bucket for unknown kids."""
        now = self._clock()
        self._bucket = min(float(BUCKET), self._bucket + (now - self._bucket_at) / BUCKET_SECONDS)
        self._bucket_at = now
        if self._bucket < 1:
            return False
        self._bucket -= 1
        return True

    def _start(self) -> asyncio.Task[bool]:
        if self._flight is None:
            self._flight = asyncio.get_running_loop().create_task(self._fetch(), name=f"jwks-{self.issuer.name}")
            self._flight.add_done_callback(self._landed)
        return self._flight

    def _landed(self, flight: asyncio.Task[bool]) -> None:
        if self._flight is flight:
            self._flight = None

    async def _wait(self) -> bool:
        # Shielded: a client that hangs up must not cancel the fetch that others wait for.
        return await asyncio.shield(self._start())

    async def _fetch(self) -> bool:
        try:
            fetched = await self._straight_from_issuer()
        except FetchFailed as error:
            self._failed(str(error))
            return False
        except Exception as error:  # noqa: BLE001  a bug here must not end the background task or fail a request
            self._failed(f"unexpected {type(error).__name__}")
            return False
        now = self._clock()
        asked = DEFAULT_FRESH if fetched.max_age is None else fetched.max_age
        fresh = min(max(asked, SHORTEST_FRESH), LONGEST_FRESH, self._stale_limit)
        self._fetched, self._fetched_at = fetched, now
        self._refresh_at, self._fresh_until = now + fresh * REFRESH_AT, now + fresh
        self._failures, self._retry_at = 0, 0.0
        self._observer.keys_fetched(self.issuer.name, ok=True)
        return True

    async def _straight_from_issuer(self) -> Fetched:
        if self._jwks_uri is None or self._clock() - self._discovered_at >= DISCOVERY_FRESH:
            self._jwks_uri = await discover(self.issuer)
            self._discovered_at = self._clock()
        return await fetch_keys(self._jwks_uri, self.issuer)

    def _failed(self, why: str) -> None:
        self._why, self._failures = why, self._failures + 1
        self._retry_at = self._clock() + min(RETRY_FIRST * 2 ** min(self._failures - 1, 10), RETRY_LONGEST)
        self._jwks_uri = None  # it may have moved: ask discovery again
        self._observer.keys_fetched(self.issuer.name, ok=False)

    def _unreachable(self, why: str, retry_after: float) -> IssuerUnreachable:
        error = IssuerUnreachable(
            f"the keys of issuer {self.issuer.name!r} cannot be had now; try again shortly",
            reason=f"issuer {self.issuer.name}: {why}",
        )
        error.retry_after = max(1, min(int(retry_after) + 1, 60))
        return error
