"""`POST /v1/credentials`: the one way a credential leaves the broker. The order is design section 3, step by step."""

import asyncio
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

import orjson

from broker import ids
from broker.backends.seam import Backend
from broker.errors import (
    GrantRefused,
    MalformedRequest,
    RequestRefused,
    SessionRejected,
    SubjectTokenRejected,
    TokenReused,
)
from broker.exchange import sessions
from broker.exchange.floods import Floods
from broker.exchange.leases import OPEN, LeaseKeeper
from broker.exchange.making import Caller, Decided, Maker
from broker.exchange.near import Entry as Near
from broker.exchange.near import near_grants, near_misses, near_params
from broker.exchange.requests import CredentialRequest, Issued, IssuedSession
from broker.exchange.trials import differing
from broker.keys import KeyStore
from broker.ledger import events
from broker.ledger.records import AlreadyRedeemed, Entry, SessionChange, SessionRecord
from broker.ledger.store import Ledger
from broker.model import Secret, VerifiedToken
from broker.policy import Allowed, AllowedGrant, BadParams, Denied, PolicySet, decide
from broker.policy.trial import trial
from broker.tokens.verify import TokenVerifier, challenge_of
from broker.turns import TURN

REFUSED: Final = "no policy grants this job what it asked for; show the case number to the owners of the policy"

STRANGER: Final = "no policy names this job's project, owner or id"


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
        self.ledger, self.keeper, self.floods = ledger, keeper, floods
        self._maker = Maker(backends=backends, ledger=ledger, keys=keys, keeper=keeper)
        self._making: set[asyncio.Task[Issued]] = set()  # shielded from clients that hang up; finished at shutdown

    async def drain(self) -> None:
        """Let what is being made be finished and recorded."""
        await asyncio.gather(*self._making, return_exceptions=True)

    async def issue(self, request: CredentialRequest, *, now: datetime) -> Issued:
        """Raises every BrokerError."""
        caller = await self.identify(request, now=now)
        await TURN
        policies = self.policies()  # once: one request sees one set
        granted = await self.judge(caller.token, request, policies, now=now)
        differs = trial(policies, caller.token, request.grants)
        return await self._issue(Decided(caller, request, granted, policies.version, now, differs))

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
        try:
            prove_possession(token, request.verifier)
        except RequestRefused as refusal:  # the token is genuine: somebody else may be holding it
            policies = self.policies()
            near = near_grants(
                [grant.grant for grant in request.grants], policies, key="verifier", code="verifier",
                expected="the verifier that the token's audience is bound to", got="none, or another",
            )  # fmt: skip
            refusal.case = await self.record(
                token, request, policies, code="verifier", reason=refusal.detail, near=near, now=now
            )
            raise
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
        self, token: VerifiedToken, request: CredentialRequest, policies: PolicySet, *, now: datetime
    ) -> tuple[AllowedGrant, ...]:
        """What these policies allow. Raises GrantRefused, after recording it, and MalformedRequest."""
        match decide(policies, token, request.grants, now=now):
            case Allowed(grants=grants) if not any(grant.observed for grant in grants):
                return grants
            case Allowed(grants=grants):
                observed = [grant.name for grant in grants if grant.observed]
                reason = "a policy in observe mode would have allowed this: " + ", ".join(observed)
                near = near_grants(observed, policies, key="mode", code="observe", expected="enforce", got="observe")
                return await self.refuse(token, request, policies, code="observe", reason=reason, near=near, now=now)
            case BadParams() as bad:
                missing = self._to_make(bad, policies)
                if len(missing) == len(bad.problems):  # the client makes them and asks again: nothing to remember
                    raise MalformedRequest(_told(bad), extra={"missing": missing})
                near = near_params(bad, policies)
                case = await self.record(token, request, policies, code="params", reason=_told(bad), near=near, now=now)
                raise MalformedRequest(_told(bad), case=case, extra={"missing": missing} if missing else None)
            case Denied() if not policies.names(token):  # saying why costs more than saying no: a flood pays for the no
                return await self.refuse(token, request, policies, code="stranger", reason=STRANGER, now=now)
            case Denied() as denied:
                near = near_misses(denied.misses, policies, token)
                why = denied.explain()
                return await self.refuse(token, request, policies, code=denied.code, reason=why, near=near, now=now)

    def _to_make(self, bad: BadParams, policies: PolicySet) -> list[dict[str, str]]:
        """Parameters that a client can make by itself and send again: the token is not spent by this refusal."""
        helps = (
            (grant, param, self.backends[policies.grants[grant][1].backend].params_help.get(param))
            for grant, param in bad.missing
        )
        return [{"grant": grant, "param": param, "make": make} for grant, param, make in helps if make]

    async def refuse(
        self,
        token: VerifiedToken,
        request: CredentialRequest,
        policies: PolicySet,
        *,
        code: str,
        reason: str,
        near: Sequence[Near] = (),
        now: datetime,
    ) -> tuple[AllowedGrant, ...]:
        """Record, then raise GrantRefused. The same words whatever the policies say, and durable before they are said."""
        case = await self.record(token, request, policies, code=code, reason=reason, near=near, now=now)
        raise GrantRefused(REFUSED, reason=reason, case=case)

    async def record(
        self,
        token: VerifiedToken,
        request: CredentialRequest,
        policies: PolicySet,
        *,
        code: str,
        reason: str,
        near: Sequence[Near] = (),
        now: datetime,
    ) -> str:
        """Remember that a proved identity was told no; gives the case. Raises LedgerUnwritable."""
        self.floods.refused(token, now=now)
        asked = tuple(grant.grant for grant in request.grants)
        if not policies.names(token):
            case, closed = self.floods.stranger(token, asked, now=now)
            if closed:
                await self.keeper.strangers(closed, now)
            return case
        case = ids.new("case")
        told: dict[str, Any] = {
            "case": case, "grants": asked, "issuer": token.issuer, "job": token.job.present(), "claims": dict(token.claims),
            "reason": reason, "policy_set": policies.version, "near": near, "now": now,
        }  # fmt: skip
        event = events.observed(**told, allowed=True) if code == "observe" else events.refused(**told, code=code)
        differs = differing(trial(policies, token, request.grants), token, policies.version, {"case": case}, now=now)
        await self.ledger.write(Entry(events=(event, *differs)))
        return case

    # 3. Claim, 4. Mint and record, 5. Answer -------------------------------------------------------------------------

    async def _issue(self, decided: Decided) -> Issued:
        try:
            if not any(self.backends[grant.backend].trace for grant in decided.granted):
                return await self._maker.make(decided)
            # A client that hangs up must not leave a lease half made.
            task = asyncio.create_task(self._maker.make(decided))
            self._making.add(task)
            task.add_done_callback(self._making.discard)
            return await asyncio.shield(task)
        except AlreadyRedeemed as winner:
            return await self._again(winner.session, decided)

    # A token that comes again -----------------------------------------------------------------------------------------

    async def _again(self, winner: SessionRecord, decided: Decided) -> Issued:
        """The same nonce is the same client, whose answer was lost: one session still, its secret new, its leases minted anew."""
        request, token, now = decided.request, decided.caller.token, decided.now
        known = (
            winner.nonce_hash is not None
            and request.nonce is not None
            and hmac.compare_digest(sessions.digest(request.nonce.reveal()), winner.nonce_hash)
        )
        if not known or winner.ended_at is not None:
            case = ids.new("case")
            told = events.reused(case=case, session=winner.id, issuer=token.issuer, job=token.job.present(), now=now)
            await self.ledger.write(Entry(events=(told,)))
            raise TokenReused(
                "this subject token was redeemed before, and each is good for once; get a fresh ID token from your CI."
                " If nobody of yours used it, it was stolen: show the case number to your security team",
                case=case,
            )
        secret = sessions.new_secret(winner.id)
        renewed = replace(winner, secret_hash=sessions.digest(secret.reveal()))
        why = "the client asked again with the same nonce"
        turned = Entry(
            sessions=(SessionChange(session=winner.id, secret_hash=renewed.secret_hash),),
            events=(events.session_renewed(session=renewed, why=why, now=now),),
        )
        await self.keeper.end(await self.ledger.leases_of(winner.id), why=why, by="job", also=turned, now=now)
        # What the earlier request brought on its way between that look and the commit. First the leases, then the session:
        # where the secret is still ours, no later retry had made anything yet when the leases were read.
        late = [lease for lease in await self.ledger.leases_of(winner.id) if lease.state in OPEN]
        session = await self.ledger.session(winner.id)
        if session is None or session.ended_at is not None or session.secret_hash != renewed.secret_hash:
            raise SessionRejected("another request with the same nonce took over; use its answer")
        if late:
            await self.keeper.end(late, why=why, by="job", now=now)
        issued = await self._issue(replace(decided, caller=Caller(token, renewed, None)))
        opened = IssuedSession(id=winner.id, expires_at=winner.expires_at, secret=secret)
        return replace(issued, session=opened)


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
