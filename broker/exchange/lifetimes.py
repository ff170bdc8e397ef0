"""What a job does with its leases: renew one, end one, end the session. Each is judged against the policy as it is now."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from broker import ids
from broker.backends.seam import Backend, BackendError, Handle
from broker.errors import BackendFailed, LeaseEnded, NotRenewable, UnknownLease
from broker.exchange.credentials import Exchange
from broker.exchange.leases import OPEN
from broker.exchange.making import GRANTED, granted_digest
from broker.exchange.near import near_grants
from broker.exchange.requests import CredentialRequest, Ended
from broker.ledger import events
from broker.ledger.records import Entry, Event, LeaseChange, LeaseMoved, LeaseRecord, SessionChange, SessionRecord
from broker.model import GrantRequest, LeaseState, Secret
from broker.policy import AllowedGrant

ACTIVE: Final = frozenset({LeaseState.ACTIVE})

log: Final = structlog.get_logger("jobkey.exchange")


class Lifetimes:
    """Renewal and revocation by the session."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange, self._backends = exchange, exchange.backends
        self._ledger, self._keeper = exchange.ledger, exchange.keeper

    async def renew(self, bearer: Secret, lease_id: str, ttl: timedelta | None, *, now: datetime) -> LeaseRecord:
        """Lengthen a lease by what the policy allows now. Raises UnknownLease, LeaseEnded, NotRenewable, GrantRefused, BackendFailed.

        It never shortens: where the lease lasts longer already, the target is asked for that end once more.
        """
        session = await self._exchange.open_session(bearer, now=now)
        await self._own(session, lease_id)
        async with self._keeper.renewing(lease_id):
            lease = await self._own(session, lease_id)
            if lease.state is not LeaseState.ACTIVE or lease.expires_at <= datetime.now(UTC):
                raise LeaseEnded(f"the lease is {lease.state}; ask for a fresh credential with your session")
            backend = self._backends.get(lease.backend)
            if backend is None or not lease.renewable:
                raise NotRenewable("this credential cannot be renewed; ask for a fresh one with your session")
            granted, handle = await self._still_granted(session, lease, bearer, ttl, now=now)
            until = max(min(now + granted.ttl, session.expires_at), lease.expires_at)
            return await self._renew(backend, lease, handle, until, now=now)

    async def _still_granted(
        self, session: SessionRecord, lease: LeaseRecord, bearer: Secret, ttl: timedelta | None, *, now: datetime
    ) -> tuple[AllowedGrant, Handle]:
        """The grant as it is now, if it is still the one that was minted: a narrower one must not lengthen a wider credential."""
        token = self._exchange.verifier.restore(session.issuer, json.loads(session.claims), token_key=session.token_key)
        asked = CredentialRequest(bearer=bearer, grants=(GrantRequest(grant=lease.grant, ttl=ttl),))
        policies = self._exchange.policies()
        (granted,) = await self._exchange.judge(token, asked, policies, now=now)
        try:
            handle = self._keeper.unseal(lease)
        except ValueError:
            raise NotRenewable("this credential cannot be renewed; ask for a fresh one with your session") from None
        if handle.get(GRANTED) != granted_digest(granted):
            reason = f"{lease.grant} is granted, but no longer as it was when {lease.id} was minted"
            near = near_grants(
                [lease.grant], policies, key="grant", code="changed", expected="the grant as it was when it was minted",
                got="the grant as it is now",
            )  # fmt: skip
            await self._exchange.refuse(token, asked, policies, code="changed", reason=reason, near=near, now=now)
        return granted, handle

    async def _renew(
        self, backend: Backend, lease: LeaseRecord, handle: Handle, until: datetime, *, now: datetime
    ) -> LeaseRecord:
        # The later end is durable before the target knows of it: a crash in between leaves a lease that says too much,
        # never too little.
        await self._change(_lasting(lease, until), events.renewing(lease=replace(lease, expires_at=until), now=now))
        self._keeper.expect(until)
        try:
            real = await backend.renew(handle, until)
        except Exception as error:  # noqa: BLE001  a backend's surprise is a 502 too
            reason = str(error) if isinstance(error, BackendError) else f"unexpected {type(error).__name__}"
            log.warning("renewal-failed", lease=lease.id, backend=lease.backend, reason=reason)
            if isinstance(error, BackendError) and not error.retry:  # a no; all else may have been done, unheard
                await self._change(_lasting(lease, lease.expires_at))
                self._keeper.expect(lease.expires_at)
                told = "the backend refused to renew the credential, and would again; it works until its end"
                raise BackendFailed(told, reason=reason, hopeless=True) from None
            told = "the backend did not say whether it renewed the credential; it works at least until its old end"
            raise BackendFailed(told, reason=reason) from None
        renewed = replace(lease, expires_at=real)
        await self._change(_lasting(lease, real), events.renewed(lease=renewed, now=now))
        self._keeper.expect(real)
        return renewed

    async def end_lease(self, bearer: Secret, lease_id: str, *, now: datetime) -> Ended:
        """End one lease now. Raises SessionRejected, UnknownLease."""
        session = await self._exchange.open_session(bearer, now=now)
        lease = await self._own(session, lease_id)
        return (await self._keeper.end([lease], why="the job gave it back", by="job", now=now))[0]

    async def end_by_possession(self, lease_id: str, *, now: datetime) -> Ended:
        """End the lease of a token whose signature was checked: whoever holds it may give it up (RFC 7009). Raises UnknownLease."""
        lease = await self._ledger.lease(lease_id)
        if lease is None:
            raise UnknownLease("no such lease")
        return (await self._keeper.end([lease], why="whoever held it gave it up", by="bearer", now=now))[0]

    async def end_session(self, bearer: Secret, *, now: datetime) -> list[Ended]:
        """End the session and every lease of it. Raises SessionRejected."""
        session = await self._exchange.open_session(bearer, now=now)
        leases = await self._ledger.leases_of(session.id)
        at = datetime.now(UTC)
        at = at.replace(
            microsecond=at.microsecond // 1000 * 1000
        )  # the ledger keeps milliseconds, and the event has to agree
        why = "the job ended"
        also = Entry(
            sessions=(SessionChange(session=session.id, ended_at=at),),
            events=(events.session_ended(session=session.id, why=why, at=at),),
        )
        ended = await self._keeper.end(leases, why=why, by="job", also=also, now=now)
        known = {lease.id for lease in leases}  # what became active between the list and the commit
        late = [
            lease for lease in await self._ledger.leases_of(session.id) if lease.id not in known or lease.state in OPEN
        ]
        return ended + (await self._keeper.end(late, why=why, by="job", now=now) if late else [])

    async def _own(self, session: SessionRecord, lease_id: str) -> LeaseRecord:
        lease = await self._ledger.lease(lease_id) if ids.is_id(lease_id, "lse") else None
        if lease is None or lease.session != session.id:
            raise UnknownLease("this session has no such lease; check the id in the answer that issued it")
        return lease

    async def _change(self, change: LeaseChange, event: Event | None = None) -> None:
        try:
            await self._ledger.write(Entry(changes=(change,), events=(event,) if event else ()))
        except LeaseMoved as moved:
            raise LeaseEnded(f"the lease is {moved.state}; ask for a fresh credential with your session") from None


def _lasting(lease: LeaseRecord, until: datetime) -> LeaseChange:
    return LeaseChange(lease=lease.id, expected=ACTIVE, state=LeaseState.ACTIVE, expires_at=until)
