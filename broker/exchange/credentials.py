"""`POST /v1/credentials`: the one way a credential leaves the broker. The order is design section 3, step by step."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

import orjson
import structlog

from broker import ids
from broker.backends.seam import Backend, BackendError, Handle, Minted, Order
from broker.errors import (
    BackendFailed,
    GrantRefused,
    LedgerUnwritable,
    MalformedRequest,
    SessionRejected,
    SubjectTokenRejected,
    TokenReused,
)
from broker.exchange import sessions
from broker.exchange.floods import Floods
from broker.exchange.leases import LeaseKeeper, refused_many
from broker.exchange.requests import CredentialRequest, Issued, IssuedCredential, IssuedSession
from broker.keys import KeyStore
from broker.ledger import events
from broker.ledger.records import AlreadyRedeemed, Entry, Event, LeaseChange, LeaseRecord, SessionChange, SessionRecord
from broker.ledger.store import Ledger
from broker.metrics import count_issued
from broker.model import LeaseState, Secret, VerifiedToken
from broker.policy import Allowed, AllowedGrant, BadParams, Denied, PolicySet, decide
from broker.tokens.verify import TokenVerifier, challenge_of

log: Final = structlog.get_logger("jobkey.exchange")

REFUSED: Final = "no policy grants this job what it asked for; show the case number to the owners of the policy"
PENDING: Final = frozenset({LeaseState.PENDING})


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, proved: by a fresh token (`record` is what would redeem it) or by the secret of an open session."""

    token: VerifiedToken
    record: SessionRecord
    secret: Secret | None  # of a session that this request opens


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


class Exchange:
    """The use case."""

    def __init__(
        self,
        *,
        verifier: TokenVerifier,
        policies: Callable[[], PolicySet],
        backends: Mapping[str, Backend],
        ledger: Ledger,
        keys: KeyStore,
        keeper: LeaseKeeper,
        floods: Floods,
    ) -> None:
        self.verifier, self.policies, self.backends = verifier, policies, backends
        self.ledger, self.keys, self.keeper, self.floods = ledger, keys, keeper, floods
        self._making: set[asyncio.Task[Issued]] = set()  # shielded from clients that hang up; finished at shutdown

    async def drain(self) -> None:
        """Let what is being made be finished and recorded."""
        await asyncio.gather(*self._making, return_exceptions=True)

    async def issue(self, request: CredentialRequest, *, now: datetime) -> Issued:
        """Raises every BrokerError."""
        caller = await self.identify(request, now=now)
        granted = await self.judge(caller.token, request, now=now)
        return await self._issue(caller, granted, request, now=now)

    # 1. Verify -------------------------------------------------------------------------------------------------------

    async def identify(self, request: CredentialRequest, *, now: datetime) -> Caller:
        """Who asks. Raises SubjectTokenRejected, SessionRejected, MalformedRequest, IssuerUnreachable, TooManyRefusals."""
        if sessions.looks_like_session(request.bearer):
            if request.verifier or request.nonce:
                raise MalformedRequest("verifier and nonce go with a subject token, not with a session; leave them out")
            record = await self.open_session(request.bearer, now=now)
            return Caller(
                self.verifier.restore(record.issuer, orjson.loads(record.claims), token_key=record.token_key),
                record,
                None,
            )
        token = await self.verifier.verify(request.bearer.reveal(), now=now)
        self.floods.admit(token, now=now)
        prove_possession(token, request.verifier)
        session = ids.new("ses")
        secret = sessions.new_secret(session)
        claims = orjson.dumps(token.claims).decode()
        return Caller(
            token, sessions.open_session(token, claims, session=session, secret=secret, nonce=request.nonce), secret
        )

    async def open_session(self, bearer: Secret, *, now: datetime) -> SessionRecord:
        """The session this secret opens. Raises SessionRejected."""
        return sessions.check(await self.ledger.session(sessions.session_id(bearer)), bearer, now=now)

    # 2. Decide -------------------------------------------------------------------------------------------------------

    async def judge(
        self, token: VerifiedToken, request: CredentialRequest, *, now: datetime
    ) -> tuple[AllowedGrant, ...]:
        """What the policies of this moment allow. Raises GrantRefused, after recording it, and MalformedRequest."""
        policies = self.policies()
        match decide(policies, token, request.grants, now=now):
            case Allowed(grants=grants) if not any(grant.observed for grant in grants):
                return grants
            case Allowed(grants=grants):
                reason = "a policy in observe mode would have allowed this: " + ", ".join(
                    grant.name for grant in grants if grant.observed
                )
                return await self._refuse(token, request, policies, code="observe", reason=reason, now=now)
            case BadParams() as bad:
                missing = self._to_make(bad, policies)
                raise MalformedRequest(_told(bad), extra={"missing": missing} if missing else None)
            case Denied() as denied:
                return await self._refuse(token, request, policies, code=denied.code, reason=denied.explain(), now=now)

    def _to_make(self, bad: BadParams, policies: PolicySet) -> list[dict[str, str]]:
        """Parameters that a client can make by itself and send again: the token is not spent by this refusal."""
        helps = (
            (grant, param, self.backends[policies.grants[grant][1].backend].params_help.get(param))
            for grant, param in bad.missing
        )
        return [{"grant": grant, "param": param, "make": make} for grant, param, make in helps if make]

    async def _refuse(
        self,
        token: VerifiedToken,
        request: CredentialRequest,
        policies: PolicySet,
        *,
        code: str,
        reason: str,
        now: datetime,
    ) -> tuple[AllowedGrant, ...]:
        """Record, then raise GrantRefused. The same words whatever the policies say, and durable before they are said."""
        self.floods.refused(token, now=now)
        asked = tuple(grant.grant for grant in request.grants)
        if policies.names(token):
            case = ids.new("case")
            told: dict[str, Any] = {
                "case": case, "grants": asked, "issuer": token.issuer, "job": token.job.present(), "claims": dict(token.claims),
                "reason": reason, "policy_set": policies.version, "now": now,
            }  # fmt: skip
            event = events.observed(**told, allowed=True) if code == "observe" else events.refused(**told, code=code)
            await self.ledger.write(Entry(events=(event,)))
        else:
            case, closed = self.floods.stranger(token, asked, now=now)
            if closed:
                await self.ledger.write(Entry(events=tuple(refused_many(window, now) for window in closed)))
        raise GrantRefused(REFUSED, reason=reason, case=case)

    # 3. Claim, 4. Mint and record, 5. Answer -------------------------------------------------------------------------

    async def _issue(
        self, caller: Caller, granted: Sequence[AllowedGrant], request: CredentialRequest, *, now: datetime
    ) -> Issued:
        if any(
            self.backends[grant.backend].trace for grant in granted
        ):  # a client that hangs up must not leave a lease half made
            task = asyncio.create_task(self._make(caller, granted, request, now=now))
            self._making.add(task)
            task.add_done_callback(self._making.discard)
            return await asyncio.shield(task)
        return await self._make(caller, granted, request, now=now)

    async def _make(
        self, caller: Caller, granted: Sequence[AllowedGrant], request: CredentialRequest, *, now: datetime
    ) -> Issued:
        issuance = ids.new("iss")
        making = [self._order(caller, grant, issuance, now=now) for grant in granted]
        traced = [one for one in making if one.backend.trace]
        claim = caller.record if caller.secret else None
        try:
            if traced:  # named in the ledger before anything exists outside
                await self.ledger.write(
                    Entry(claim=claim, leases=tuple(self._row(one, LeaseState.PENDING, now) for one in traced))
                )
                claim = None
            await self._mint(caller, making, traced, issuance, now=now)
            await self._record(caller, making, issuance, claim=claim, now=now)
        except AlreadyRedeemed as winner:
            return await self._again(winner.session, caller, granted, request, now=now)
        if traced or caller.secret is None:
            await self._still_open(caller, making, now=now)
        self.keeper.expect(min(one.minted.expires_at for one in making if one.minted))
        for one in making:
            count_issued(one.granted.kind)
        credentials = tuple(
            IssuedCredential(grant=one.granted.name, lease=one.lease, minted=one.minted) for one in making if one.minted
        )
        session = IssuedSession(id=caller.record.id, expires_at=caller.record.expires_at, secret=caller.secret)
        return Issued(issuance=issuance, session=session, credentials=credentials)

    def _order(self, caller: Caller, granted: AllowedGrant, issuance: str, *, now: datetime) -> Making:
        backend = self.backends[granted.backend]
        ttl = max(
            min(granted.ttl, caller.record.expires_at - now), min(backend.shortest, granted.ttl)
        )  # no credential outlives its job
        order = Order(
            lease=ids.new("lse"), issuance=issuance, session=caller.record.id, grant=granted.name, issuer=caller.token.issuer,
            job=caller.token.job, options=granted.options, params=granted.params, ttl=ttl, now=now,
        )  # fmt: skip
        return Making(granted, backend, order, backend.plan(order) if backend.trace else {})

    async def _mint(
        self, caller: Caller, making: Sequence[Making], traced: Sequence[Making], issuance: str, *, now: datetime
    ) -> None:
        """Mint all, those that leave a trace side by side. Raises BackendFailed after taking back what was made."""
        results = (
            await asyncio.gather(*(self._mint_traced(one) for one in traced), return_exceptions=True) if traced else []
        )
        failed = next((result for result in results if isinstance(result, BaseException)), None)
        if failed is None:
            try:
                for one in making:
                    if not one.backend.trace:
                        one.minted = await one.backend.mint(one.order, _nothing_to_record)
            except Exception as error:  # noqa: BLE001  a backend's surprise is a 502 too
                failed = error
            else:
                return
        await self._fail(caller, traced, failed, issuance, now=now)

    async def _mint_traced(self, one: Making) -> None:
        async def record(handle: Handle) -> None:
            change = LeaseChange(
                lease=one.lease, expected=PENDING, state=LeaseState.PENDING, sealed=self.keeper.seal(one.lease, handle)
            )
            await self.ledger.write(Entry(changes=(change,)))
            one.handle = handle

        one.minted = await one.backend.mint(one.order, record)
        one.handle = one.minted.handle

    async def _fail(
        self, caller: Caller, traced: Sequence[Making], error: BaseException, issuance: str, *, now: datetime
    ) -> None:
        reason = str(error) if isinstance(error, BackendError) else f"unexpected {type(error).__name__}"
        log.warning("mint-failed", issuance=issuance, reason=reason)
        case = ids.new("case")
        rows = [self._row(one, LeaseState.PENDING, now) for one in traced]
        event = events.failed(
            case=case,
            issuance=issuance,
            session=caller.record,
            leases=rows,
            why=reason,
            job=caller.token.job.present(),
            now=now,
        )
        await self.keeper.undo(
            list(zip(rows, (one.handle for one in traced), strict=True)),
            why="this mint or a sibling failed",
            also=event,
            now=now,
        )
        if isinstance(error, LedgerUnwritable):
            raise error
        if not isinstance(error, Exception):
            raise error  # cancelled: the request is gone, the leases were undone
        raise BackendFailed(
            "a backend did not give the credential; nothing was issued. Try again with the same nonce",
            reason=reason,
            case=case,
        )

    async def _record(
        self, caller: Caller, making: Sequence[Making], issuance: str, *, claim: SessionRecord | None, now: datetime
    ) -> None:
        """One commit makes it all true; until it returned, the answer does not exist."""
        rows = {one.lease: self._row(one, LeaseState.ACTIVE, now) for one in making}
        entry = Entry(
            claim=claim,
            leases=tuple(rows[one.lease] for one in making if not one.backend.trace),
            changes=tuple(_activate(rows[one.lease]) for one in making if one.backend.trace),
            events=(self._issued(caller, making, rows, issuance, now=now),),
        )
        try:
            await self.ledger.write(entry)
        except (LedgerUnwritable, AlreadyRedeemed):
            for one in making:
                one.minted = None  # thrown away: it was never told to anybody
            raise

    async def _still_open(self, caller: Caller, making: Sequence[Making], *, now: datetime) -> None:
        """Between claim and record the session may have been ended, or given a new secret by a retry: then this answer is void."""
        record = await self.ledger.session(caller.record.id)
        if record is not None and record.ended_at is None and record.secret_hash == caller.record.secret_hash:
            return
        rows = [row for one in making if (row := await self.ledger.lease(one.lease))]
        await self.keeper.end(rows, why="the session ended while this was made", by="broker", now=now)
        raise SessionRejected("the session was ended while the credential was made; nothing was issued")

    def _row(self, one: Making, state: LeaseState, now: datetime) -> LeaseRecord:
        minted = one.minted
        return LeaseRecord(
            id=one.lease, issuance=one.order.issuance, session=one.order.session, grant=one.granted.name,
            policy_version=one.granted.policy_version, backend=one.granted.backend, kind=one.granted.kind, state=state, minted_at=now,
            expires_at=minted.expires_at if minted else one.order.expires_at,
            renewable=minted.renewable if minted else False,
            fingerprint=self.keys.fingerprint(minted.fingerprinted) if minted else None,
            sealed=self.keeper.seal(one.lease, minted.handle if minted else one.handle),
        )  # fmt: skip

    def _issued(
        self, caller: Caller, making: Sequence[Making], rows: Mapping[str, LeaseRecord], issuance: str, *, now: datetime
    ) -> Event:
        leases = [
            events.IssuedLease(rows[one.lease], one.granted.statement, one.minted.facts if one.minted else {})
            for one in making
        ]
        return events.issued(
            session=caller.record, issuance=issuance, kind=caller.token.kind, job=caller.token.job.present(),
            claims=dict(caller.token.claims), policy_set=self.policies().version, leases=leases, now=now,
        )  # fmt: skip

    # A token that comes again -----------------------------------------------------------------------------------------

    async def _again(
        self,
        winner: SessionRecord,
        caller: Caller,
        granted: Sequence[AllowedGrant],
        request: CredentialRequest,
        *,
        now: datetime,
    ) -> Issued:
        """The same nonce is the same client, whose answer was lost: one session still, its secret new, its leases minted anew."""
        known = (
            winner.nonce_hash is not None
            and request.nonce is not None
            and sessions.digest(request.nonce.reveal()) == winner.nonce_hash
        )
        if not known or winner.ended_at is not None:
            case = ids.new("case")
            await self.ledger.write(
                Entry(
                    events=(
                        events.reused(
                            case=case,
                            session=winner.id,
                            issuer=caller.token.issuer,
                            job=caller.token.job.present(),
                            now=now,
                        ),
                    )
                )
            )
            raise TokenReused(
                "this subject token was redeemed before, and each is good for once; get a fresh ID token from your CI."
                " If nobody of yours used it, it was stolen: show the case number to your security team",
                case=case,
            )
        secret = sessions.new_secret(winner.id)
        renewed = replace(winner, secret_hash=sessions.digest(secret.reveal()))
        why = "the client asked again with the same nonce"
        turn = Entry(
            sessions=(SessionChange(session=winner.id, secret_hash=renewed.secret_hash),),
            events=(events.session_renewed(session=renewed, why=why, now=now),),
        )
        await self.keeper.end(
            await self.ledger.leases_of(winner.id),
            why="the client asked again with the same nonce",
            by="job",
            also=turn,
            now=now,
        )
        issued = await self._issue(Caller(caller.token, renewed, None), granted, request, now=now)
        return Issued(
            issuance=issued.issuance,
            session=IssuedSession(id=winner.id, expires_at=winner.expires_at, secret=secret),
            credentials=issued.credentials,
        )


def _activate(row: LeaseRecord) -> LeaseChange:
    return LeaseChange(
        lease=row.id, expected=PENDING, state=LeaseState.ACTIVE, expires_at=row.expires_at, sealed=row.sealed,
        fingerprint=row.fingerprint, renewable=row.renewable,
    )  # fmt: skip


async def _nothing_to_record(handle: Handle) -> None:
    """For backends without a trace."""


def prove_possession(token: VerifiedToken, verifier: Secret | None) -> None:
    """The bound audience (design section 6): a token stolen from a log is worth nothing without the verifier."""
    if token.challenge is None:
        if verifier is not None:
            raise MalformedRequest("a verifier was sent, but the token's audience is not bound to one; leave it out")
        return
    if verifier is None:
        raise MalformedRequest(
            "the token's audience is bound to a verifier; send the verifier that its challenge was made from"
        )
    if challenge_of(verifier.reveal()) != token.challenge:
        raise SubjectTokenRejected("the verifier does not belong to this token's audience; ask your CI for a new token")


def _told(bad: BadParams) -> str:
    """What is wrong with what a trusted job sent; it speaks of the backend, not of the policy."""
    return "; ".join(f"{problem.grant}: {problem.param or 'params'}: {problem.message}" for problem in bad.problems)[
        :1000
    ]


def ttl_left(expires_at: datetime, now: datetime) -> int:
    """Whole seconds, rounded down, for `expires_in`."""
    return max(0, int((expires_at - now) / timedelta(seconds=1)))
