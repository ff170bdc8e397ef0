"""Design section 3, steps 3 to 5: claim, mint and record, answer; all grants of one request or none.

* What leaves a trace is named in the ledger, pending, before it is made, and held while it is made.
* The session is looked at after that and before anything is made. Whoever ends it later finds the pending leases, and
  with them moved on the record of this request cannot be written: no lease of an ended session ever becomes active.
* One commit makes everything true. Until it returned, the answer does not exist.
"""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import structlog

from broker import ids
from broker.backends.seam import Backend, BackendError, Handle, Minted, Order
from broker.errors import BackendFailed, LedgerUnwritable, SessionRejected
from broker.exchange.leases import LeaseKeeper
from broker.exchange.requests import CredentialRequest, Issued, IssuedCredential, IssuedSession
from broker.exchange.trials import differing
from broker.keys import KeyStore
from broker.ledger import events
from broker.ledger.records import Entry, Event, LeaseChange, LeaseMoved, LeaseRecord, SessionRecord
from broker.ledger.store import Ledger
from broker.metrics import count_issued
from broker.model import LeaseState, Secret, VerifiedToken
from broker.policy import AllowedGrant
from broker.policy.trial import Change
from broker.turns import TURN
from broker.values import value

log: Final = structlog.get_logger("jobkey.exchange")

PENDING: Final = frozenset({LeaseState.PENDING})
GRANTED: Final = "jobkey.granted"  # in the sealed handle of what can be renewed: the digest of what was granted


@value(frozen=True, slots=True)
class Caller:
    """Who asks, proved: by a fresh token (`record` is what would redeem it) or by the secret of an open session."""

    token: VerifiedToken
    record: SessionRecord
    secret: Secret | None  # of a session that this request opens


@value(frozen=True, slots=True)
class Decided:
    """A request that may be served, and everything that decided so."""

    caller: Caller
    request: CredentialRequest
    granted: Sequence[AllowedGrant]
    policy_set: str
    now: datetime
    differs: tuple[Change, ...] = ()  # what policies' next versions would say otherwise


@dataclass(slots=True)
class Making:
    """One credential on its way: what was decided, what the ledger knows, what was made."""

    granted: AllowedGrant
    backend: Backend
    order: Order
    handle: Handle
    minted: Minted | None = field(default=None, repr=False)

    @property
    def lease(self) -> str:
        return self.order.lease


class Maker:
    """Makes what was decided. `make` raises AlreadyRedeemed where another request redeemed the same token."""

    def __init__(self, *, backends: Mapping[str, Backend], ledger: Ledger, keys: KeyStore, keeper: LeaseKeeper) -> None:
        self._backends, self._ledger, self._keys, self._keeper = backends, ledger, keys, keeper

    async def make(self, decided: Decided) -> Issued:
        """Raises AlreadyRedeemed, BackendFailed, SessionRejected, LedgerUnwritable."""
        caller, now = decided.caller, decided.now
        issuance = ids.new("iss")
        making = await self._orders(decided, issuance)
        traced = [one for one in making if one.backend.trace]
        claim = caller.record if caller.secret else None
        with self._keeper.hold([one.lease for one in traced]):
            if traced:
                pending = tuple(self._row(one, LeaseState.PENDING, now) for one in traced)
                await self._ledger.write(Entry(claim=claim, leases=pending))
                claim = None
                if not await self._is_open(caller):
                    await self._undo(decided, traced, issuance, why="the session ended before anything was made")
                    raise SessionRejected("the session was ended while the credential was made; nothing was issued")
            await TURN
            error = await self._mint(making, traced)
            if error is not None:
                raise await self._failed(decided, traced, issuance, error, claimed=claim is None)
            await TURN
            await self._record(decided, making, traced, issuance, claim=claim)
        if not traced and caller.secret is None and not await self._is_open(caller):
            await self._withdraw(making, now=now)
        return self._answer(caller, making, issuance)

    async def _orders(self, decided: Decided, issuance: str) -> list[Making]:
        try:
            return [self._order(decided, granted, issuance) for granted in decided.granted]
        except Exception as error:  # noqa: BLE001  a plan that fails, however, is a 502; nothing was claimed and nothing made
            raise await self._failed(decided, (), issuance, error, claimed=False) from None

    def _order(self, decided: Decided, granted: AllowedGrant, issuance: str) -> Making:
        caller, backend, now = decided.caller, self._backends[granted.backend], decided.now
        left = caller.record.expires_at - now
        ttl = max(min(granted.ttl, left), min(backend.shortest, granted.ttl))  # no credential outlives its job
        order = Order(
            lease=ids.new("lse"), issuance=issuance, session=caller.record.id, grant=granted.name, issuer=caller.token.issuer,
            job=caller.token.job, options=granted.options, params=granted.params, ttl=ttl, now=now,
        )  # fmt: skip
        return Making(granted, backend, order, backend.plan(order) if backend.trace else {})

    async def _mint(self, making: Sequence[Making], traced: Sequence[Making]) -> BaseException | None:
        """Mint all, those that leave a trace side by side; the first thing that went wrong."""
        if traced:
            results = await asyncio.gather(*(self._mint_traced(one) for one in traced), return_exceptions=True)
            failed = next((result for result in results if isinstance(result, BaseException)), None)
            if failed is not None:
                return failed
        try:
            for one in making:
                if not one.backend.trace:
                    one.minted = await one.backend.mint(one.order, _nothing_to_record)
        except Exception as error:  # noqa: BLE001  a backend's surprise is a 502 too
            return error
        return None

    async def _mint_traced(self, one: Making) -> None:
        async def record(handle: Handle) -> None:
            change = LeaseChange(
                lease=one.lease, expected=PENDING, state=LeaseState.PENDING, sealed=self._keeper.seal(one.lease, handle)
            )
            await self._ledger.write(Entry(changes=(change,)))
            one.handle = handle

        one.minted = await one.backend.mint(one.order, record)
        one.handle = one.minted.handle

    async def _failed(
        self, decided: Decided, traced: Sequence[Making], issuance: str, error: BaseException, *, claimed: bool
    ) -> BaseException:
        """Take back what was made, and record that; what the caller is told."""
        if isinstance(error, LeaseMoved):
            await self._undo(decided, traced, issuance, why="the session ended while this was made")
            return SessionRejected("the session was ended while the credential was made; nothing was issued")
        reason = str(error) if isinstance(error, BackendError) else f"unexpected {type(error).__name__}"
        log.warning("mint-failed", issuance=issuance, reason=reason)
        case = ids.new("case")
        if claimed:
            await self._undo(decided, traced, issuance, why=reason, case=case)
        else:  # the token was not redeemed, so there is no session to speak of
            token = decided.caller.token
            refused = events.refused(
                case=case, code=BackendFailed.__name__, grants=[one.name for one in decided.granted], issuer=token.issuer,
                job=token.job.present(), claims=dict(token.claims), reason=reason, policy_set=decided.policy_set, now=decided.now,
            )  # fmt: skip
            await self._ledger.write(Entry(events=(refused,)))
        if isinstance(error, LedgerUnwritable) or not isinstance(error, Exception):
            return error  # cancelled: the request is gone, the leases were undone
        if isinstance(error, BackendError) and not error.retry:
            told = "a backend refused to give the credential, and would again; nothing was issued. Show the case to the broker's operators"
            return BackendFailed(told, reason=reason, case=case, hopeless=True)
        told = "a backend did not give the credential; nothing was issued. Try again with the same nonce"
        return BackendFailed(told, reason=reason, case=case)

    async def _undo(
        self, decided: Decided, traced: Sequence[Making], issuance: str, *, why: str, case: str | None = None
    ) -> None:
        """Raises LedgerUnwritable; the keeper then undoes what is still pending."""
        rows = [self._row(one, LeaseState.PENDING, decided.now) for one in traced]
        event = events.failed(
            issuance=issuance, session=decided.caller.record, leases=rows, why=why, case=case,
            job=decided.caller.token.job.present(), now=decided.now,
        )  # fmt: skip
        leases = list(zip(rows, (one.handle for one in traced), strict=True))
        await self._keeper.undo(leases, why="this mint or a sibling failed", also=event, now=decided.now)

    async def _record(
        self,
        decided: Decided,
        making: Sequence[Making],
        traced: Sequence[Making],
        issuance: str,
        *,
        claim: SessionRecord | None,
    ) -> None:
        """The one commit. Raises AlreadyRedeemed, SessionRejected, LedgerUnwritable."""
        rows = {one.lease: self._row(one, LeaseState.ACTIVE, decided.now) for one in making}
        entry = Entry(
            claim=claim,
            leases=tuple(rows[one.lease] for one in making if not one.backend.trace),
            changes=tuple(_activate(rows[one.lease]) for one in traced),
            events=(
                self._issued(decided, making, rows, issuance),
                *differing(
                    decided.differs, decided.caller.token, decided.policy_set, {"issuance": issuance}, now=decided.now
                ),
            ),
        )
        try:
            await self._ledger.write(entry)
        except LeaseMoved as moved:
            raise await self._failed(decided, traced, issuance, moved, claimed=True) from None
        except LedgerUnwritable:  # it may have happened all the same: then they are active, and nobody has them
            self._keeper.owe([one.lease for one in traced], why="the answer was never given")
            raise

    async def _is_open(self, caller: Caller) -> bool:
        """The session may have been ended, or given a new secret by a retry, since the request was judged."""
        record = await self._ledger.session(caller.record.id)
        return record is not None and record.ended_at is None and record.secret_hash == caller.record.secret_hash

    async def _withdraw(self, making: Sequence[Making], *, now: datetime) -> None:
        """Signatures that are thrown away. Raises SessionRejected."""
        rows = [row for one in making if (row := await self._ledger.lease(one.lease))]
        why = "the session ended while this was made"
        try:
            await self._keeper.end(rows, why=why, by="broker", now=now)
        except LedgerUnwritable:
            self._keeper.owe([row.id for row in rows], why=why)
        raise SessionRejected("the session was ended while the credential was made; nothing was issued")

    def _answer(self, caller: Caller, making: Sequence[Making], issuance: str) -> Issued:
        self._keeper.expect(min(one.minted.expires_at for one in making if one.minted))
        for one in making:
            count_issued(one.granted.kind)
        credentials = tuple(
            IssuedCredential(grant=one.granted.name, lease=one.lease, minted=one.minted) for one in making if one.minted
        )
        session = IssuedSession(id=caller.record.id, expires_at=caller.record.expires_at, secret=caller.secret)
        return Issued(issuance=issuance, session=session, credentials=credentials)

    def _row(self, one: Making, state: LeaseState, now: datetime) -> LeaseRecord:
        minted = one.minted
        handle = minted.handle if minted else one.handle
        if minted is not None and minted.renewable:
            handle = {**handle, GRANTED: granted_digest(one.granted)}
        return LeaseRecord(
            id=one.lease, issuance=one.order.issuance, session=one.order.session, grant=one.granted.name,
            policy_version=one.granted.policy_version, backend=one.granted.backend, kind=one.granted.kind, state=state, minted_at=now,
            expires_at=minted.expires_at if minted else one.order.expires_at,
            renewable=minted.renewable if minted else False,
            fingerprint=self._keys.fingerprint(minted.fingerprinted) if minted else None,
            sealed=self._keeper.seal(one.lease, handle),
        )  # fmt: skip

    def _issued(
        self, decided: Decided, making: Sequence[Making], rows: Mapping[str, LeaseRecord], issuance: str
    ) -> Event:
        caller = decided.caller
        leases = [
            events.IssuedLease(rows[one.lease], one.granted.statement, one.minted.facts if one.minted else {})
            for one in making
        ]
        return events.issued(
            session=caller.record, issuance=issuance, kind=caller.token.kind, job=caller.token.job.present(),
            claims=dict(caller.token.claims), policy_set=decided.policy_set, leases=leases, now=decided.now,
        )  # fmt: skip


def granted_digest(granted: AllowedGrant) -> str:
    """What a renewal must still be granted: the same backend with the same options, templates filled in."""
    text = f"{granted.backend}\n{granted.kind}\n{granted.options.model_dump_json()}"
    return hashlib.sha256(text.encode()).hexdigest()


def _activate(row: LeaseRecord) -> LeaseChange:
    return LeaseChange(
        lease=row.id, expected=PENDING, state=LeaseState.ACTIVE, expires_at=row.expires_at, sealed=row.sealed,
        fingerprint=row.fingerprint, renewable=row.renewable,
    )  # fmt: skip


async def _nothing_to_record(handle: Handle) -> None:
    """For backends without a trace."""
