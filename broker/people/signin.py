"""The sign-in of a request: a bearer token becomes a Person, or an answer that says how to sign in.

* The verifier knows the people's issuer and no other, and is not the jobs'; nothing else of the token is believed before it.
* The first use of a token is in the ledger, durable, before the first answer to it. Tables of what was seen are bounded.
* Whoever has no role and owns no policy is told so and not recorded: every employee could otherwise fill the ledger.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from typing import Final

from broker.errors import RoleNeeded, SignInNeeded, SubjectTokenRejected, TooManyReads
from broker.ledger import events
from broker.ledger.records import Entry, Event
from broker.ledger.store import Ledger
from broker.model import Secret
from broker.people.roles import Nobody, Person
from broker.people.settings import People
from broker.tokens.observer import Observer
from broker.tokens.verify import TokenVerifier

MOST_SEEN: Final = 10_000
BURST: Final = 60.0
PER_SECOND: Final = 1.0
RESOURCE: Final = "/.well-known/oauth-protected-resource"  # RFC 9728 section 3
_HOW: Final = "sign in with `jobkey-broker signin --broker {url}`"
# Why a token was not good, for people: what the jobs' verifier says speaks of a CI.
_WHY: Final = {
    "malformed": "that is no token of a person's sign-in",
    "issuer": "that token is of another issuer than the one people sign in with here",
    "type": "that is another type of token than the one this broker takes from people",
    "expired": "your sign-in is over",
    "too-old": "your sign-in is too old for this broker",
    "audience": "that token was made for another service",
}
_NOT_GOOD: Final = "that token is not good"


class SignIn:
    """Build one per broker; `start` and `close` around its life."""

    def __init__(
        self,
        people: People | None,
        ledger: Ledger,
        *,
        url: str,
        owns: Callable[[Person], bool],
        observer: Observer | None = None,
    ) -> None:
        """`owns`: whether some policy in force names this person as an owner."""
        self.people, self._ledger, self._url, self._owns = people, ledger, url, owns
        self._verifier = TokenVerifier([people.issuer] if people else [], observer=observer)
        self._seen: OrderedDict[bytes, asyncio.Task[None]] = OrderedDict()
        self._read: OrderedDict[tuple[bytes, str], None] = OrderedDict()
        self._buckets: OrderedDict[str, tuple[float, datetime]] = OrderedDict()

    async def start(self) -> None:
        """Fetch the issuer's keys ahead of need. Returns at once."""
        await self._verifier.start()

    async def close(self) -> None:
        """End all fetching."""
        await self._verifier.close()

    async def person(self, authorization: str | None, *, now: datetime) -> Person:
        """Who asks, by the Authorization header.

        Raises SignInNeeded, RoleNeeded, IssuerUnreachable, LedgerUnwritable.
        """
        if self.people is None:
            raise RoleNeeded(
                "nobody can sign in to this broker: it has no `people:`; its operators read cases on its own host"
            )
        token = _bearer(authorization)
        if token is None:
            raise SignInNeeded(_HOW.format(url=self._url), challenge=self._challenge())
        try:
            verified = await self._verifier.verify(token.reveal(), now=now)
        except SubjectTokenRejected as error:
            raise self._no(_WHY.get(error.reason, _NOT_GOOD)) from None
        # OpenID Connect Core section 3.1.3.7: an ID token that another client had made is not ours to take.
        if not self.people.access_tokens and verified.claims.get("azp") not in {None, self.people.client_id}:
            raise self._no(_WHY["audience"])
        try:
            person = self.people.person(verified)
        except Nobody as error:
            raise RoleNeeded(str(error)) from None
        if not person.roles and not self._owns(person):
            raise RoleNeeded(
                "you are signed in, and nobody here: no role of this broker is yours, and no policy names you as an owner"
            )
        await self._once(person, str(verified.claims["sub"]), now)
        return person

    async def reads(self, person: Person, case: str, *, now: datetime) -> None:
        """Record that a case was read, once a token and case. Raises TooManyReads, LedgerUnwritable."""
        key = (person.token_key, case)
        if key in self._read:
            return
        self._take(person.name, now)
        await self._write(events.case_read(case=case, person=person.name, roles=sorted(person.roles), now=now))
        self._read[key] = None
        while len(self._read) > MOST_SEEN:
            self._read.popitem(last=False)

    async def _once(self, person: Person, subject: str, now: datetime) -> None:
        """Requests that arrive together wait for the one write."""
        assert self.people is not None
        task = self._seen.get(person.token_key)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            event = events.person_signed_in(
                person=person.name, subject=subject, idp=self.people.issuer.url, roles=sorted(person.roles),
                expires_at=person.expires_at, now=now,
            )  # fmt: skip
            task = self._seen[person.token_key] = asyncio.create_task(self._write(event))
            while len(self._seen) > MOST_SEEN:
                self._seen.popitem(last=False)
        await asyncio.shield(task)

    async def _write(self, event: Event) -> None:
        await self._ledger.write(Entry(events=(event,)))

    def _take(self, name: str, now: datetime) -> None:
        """One read out of this person's bucket."""
        level, at = self._buckets.get(name, (BURST, now))
        level = min(BURST, level + max(0.0, (now - at).total_seconds()) * PER_SECOND)
        if level < 1:
            wait = max(1, round((1 - level) / PER_SECOND))
            raise TooManyReads(
                f"each case that is read is recorded, so they come one a second; wait {wait} s", retry_after=wait
            )
        self._buckets[name] = (level - 1, now)
        self._buckets.move_to_end(name)
        while len(self._buckets) > MOST_SEEN:
            self._buckets.popitem(last=False)

    def _no(self, why: str) -> SignInNeeded:
        return SignInNeeded(f"{why}; {_HOW.format(url=self._url)}", challenge=self._challenge("invalid_token"))

    def _challenge(self, error: str | None = None) -> str:
        """RFC 6750 section 3: no `error` where no token was sent. RFC 9728 section 5.1: where to learn how to get one."""
        said = f', error="{error}"' if error else ""
        return f'Bearer realm="jobkey people", resource_metadata="{self._url}{RESOURCE}"{said}'

    def resource(self) -> dict[str, object]:
        """RFC 9728 section 2, with what a public client has to know besides."""
        found: dict[str, object] = {"resource": self._url, "resource_name": "Jobkey broker"}
        if self.people is None:
            return found
        if self.people.device_endpoint is not None:
            found["jobkey_device_authorization_endpoint"] = self.people.device_endpoint
        return found | {
            "authorization_servers": [self.people.issuer.url],
            "bearer_methods_supported": ["header"],
            "scopes_supported": list(self.people.scopes),
            "jobkey_client_id": self.people.client_id,
            "jobkey_token": "access_token" if self.people.access_tokens else "id_token",
            "jobkey_max_age": int(self.people.issuer.max_age.total_seconds()),
        }


def _bearer(authorization: str | None) -> Secret | None:
    """RFC 6750 section 2.1; None where there is none."""
    scheme, _, value = (authorization or "").partition(" ")
    value = value.strip(" ")
    return Secret(value) if scheme.lower() == "bearer" and value else None
