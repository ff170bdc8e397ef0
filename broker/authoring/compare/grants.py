"""Two versions of one grant: which jobs only one of them lets have it, and what else about it changed.

* NONE is said only where it is proved: by regular languages over the statements, and for templates in `with:` only where
  both versions fill in the same ones.
* SOME always comes with a job whose claims were put to `decide` with both sets: one mints for it, the other does not.
* A policy in `mode: observe` mints nothing, so nobody is allowed by it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from broker.authoring.compare.reach import Part, Reach, reach, show, slots_of, templated
from broker.issuers.seam import IssuerKind
from broker.model import GrantRequest, VerifiedToken
from broker.policy import Allowed, AllowedGrant, BadParams, Denied, PolicySet, decide
from broker.policy.conditions import Condition, compile_condition
from broker.policy.decide import judge
from broker.policy.examples import example_token
from broker.policy.policyset import Bound, Statement
from broker.policy.world import World
from broker.proof import Answer, Verdict, Witness, beyond

NOON: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)  # the same instant for both sets; no answer depends on it
PLAIN: Final = tuple(
    condition
    for pattern in ("[a-z]{2,8}", "[0-9]{1,6}", "[a-z]{2,8}/[a-z]{2,8}", "[a-z][a-z0-9:/._@-]{1,40}")
    if (condition := compile_condition({"regex": pattern}, lambda _path, _message: None)) is not None
)  # what values usually look like that options and params take
_ODD: Final = "\N{REPLACEMENT CHARACTER} /{};"  # of no shape that an option takes
Restrictions = tuple[tuple[str, Condition], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job that one version lets have the grant and the other does not, as `decide` said of both."""

    issuer: str
    claims: Mapping[str, Any]
    params: Mapping[str, Any]  # what it sends, where a restriction looks at it
    statement: int  # the one that trusts it, from 0
    reads: tuple[tuple[str, str], ...]  # what the statements look at, and what they find
    missed: tuple[tuple[str, str, str], ...]  # what the other version misses: key, expected, got
    refusal: str = ""  # where no condition says why: "there is no such grant"
    needs: tuple[str, ...] = ()  # what it has to send besides, which the backend asks of every job


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """Whether a job exists that only one version allows. `why` says what could not be decided, or what was assumed."""

    verdict: Verdict
    job: Job | None = None
    why: str = ""


PROVED: Final = Direction(verdict=Verdict.NONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Both directions for one grant, and what else changed about it."""

    allowed: Direction
    refused: Direction
    reach: tuple[Reach, ...] = ()
    sends: Job | None = None  # one that both versions trust, with params that only the new one takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A grant in one of the two sets; `part` is None where the set has no such grant."""

    policies: PolicySet = field(repr=False)
    name: str
    part: Part | None = None

    @property
    def mints(self) -> bool:
        return self.part is not None and not self.part.policy.observed

    @property
    def statements(self) -> tuple[Statement, ...]:
        """Those by which a job gets a credential."""
        return self.part.policy.statements if self.part is not None and self.mints else ()

    @property
    def restrictions(self) -> Restrictions:
        return self.part.grant.restrictions if self.part is not None and self.mints else ()


def compare_grant(old: Version, new: Version, world: World) -> Compared:
    """Both directions. `world` gives the issuers and their URLs; its guardrails are not looked at."""
    allowed, gives = _split(old, new, world)
    refused, takes = _split(new, old, world)
    changed: tuple[Reach, ...] = ()
    if old.part is not None and new.part is not None:
        changed = tuple(reach(old.part, new.part, gives=gives.verdict, takes=takes.verdict))
        if not (old.mints and new.mints):  # then all or nothing is given, and the two directions say so
            changed = tuple(replace(one, gives=Verdict.NONE, takes=Verdict.NONE) for one in changed)
    sends = gives.job if gives is not allowed else None
    return Compared(allowed=allowed, refused=refused, reach=changed, sends=sends)


def _split(less: Version, more: Version, world: World) -> tuple[Direction, Direction]:
    """(who, what they may send): the second is apart where the same jobs are trusted and only their params differ."""
    found = gained(less, more, world)
    if found.verdict is Verdict.NONE or not (less.mints and more.mints):
        return found, found
    if gained(less, more, world, params=False).verdict is Verdict.NONE:
        return PROVED, found
    return found, found


def gained(less: Version, more: Version, world: World, *, params: bool = True) -> Direction:
    """Whether `more` mints for a job that `less` does not mint for. Without `params`, what a job sends is left out."""
    if not more.mints:
        return PROVED
    answer = beyond(
        more.statements,
        less.statements,
        kinds=world.issuers,
        urls=world.issuer_urls,
        params=more.restrictions if params else (),
        other_params=less.restrictions if params else (),
    )
    if answer.verdict is Verdict.NONE:
        if less.mints and templated(less.part) and templated(less.part) != templated(more.part):
            return _unfilled(less, more, world)
        return PROVED
    job = _proved_by(answer.witness, less, more, world)
    if job is None and answer.verdict is Verdict.SOME:
        job = next(_plainer(less, more, world, params=params), None)
    if job is not None:
        return Direction(verdict=Verdict.SOME, job=job)
    return Direction(verdict=Verdict.UNKNOWN, why=_undecided(answer))


def _plainer(less: Version, more: Version, world: World, *, params: bool) -> Iterator[Job]:
    """Jobs whose values look like what options and params take, where the first one that was found did not get through.

    A narrower question finds nothing that the first one does not cover, and `decide` has the last word.
    """
    slots = slots_of(more.part)
    named = dict.fromkeys(name for name, _ in (*more.restrictions, *less.restrictions)) if params else {}
    for inserted in PLAIN if slots else PLAIN[:1]:
        for sent in PLAIN if named else PLAIN[:1]:
            extra = tuple(Bound(key=key, read=read, condition=inserted) for key, read in slots)
            answer = beyond(
                [one.changed(conditions=(*one.conditions, *extra)) for one in more.statements],
                less.statements,
                kinds=world.issuers,
                urls=world.issuer_urls,
                params=(*more.restrictions, *((name, sent) for name in named)) if params else (),
                other_params=less.restrictions if params else (),
            )
            job = _proved_by(answer.witness, less, more, world)
            if job is not None:
                yield job


def _undecided(answer: Answer) -> str:
    if answer.why:
        return answer.why
    if answer.verdict is Verdict.SOME:
        return "the conditions let somebody in, and no job was found that gets the credential"
    return "the conditions could not be decided"


def _unfilled(less: Version, more: Version, world: World) -> Direction:
    """The statements trust nobody more; but a job whose values did not fit the old options may get the new ones."""
    everybody = beyond(more.statements, (), kinds=world.issuers, urls=world.issuer_urls, params=more.restrictions)
    witness = everybody.witness
    if everybody.verdict is Verdict.NONE:
        return PROVED
    if witness is not None and witness.claims is not None:
        for claims in _altered(witness.claims):
            job = _tried(witness, claims, less, more, world)
            if job is not None:
                return Direction(verdict=Verdict.SOME, job=job)
    why = "the other version fills other values of the job into its options, and refuses a job that lacks one or whose value does not fit"
    return Direction(verdict=Verdict.UNKNOWN, why=why)


def _altered(claims: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The claims, and with each one missing or of a strange shape."""
    yield claims
    for name in claims:
        yield {other: value for other, value in claims.items() if other != name}
        yield {**claims, name: _ODD}


def _proved_by(witness: Witness | None, less: Version, more: Version, world: World) -> Job | None:
    if witness is None or witness.claims is None:
        return None
    return _tried(witness, witness.claims, less, more, world)


def _params(witness: Witness) -> dict[str, Any]:
    return {
        name.removeprefix("params."): value
        for name, value in witness.values.items()
        if name.startswith("params.") and value is not None
    }


def _tried(witness: Witness, claims: Mapping[str, Any], less: Version, more: Version, world: World) -> Job | None:
    """The job, if `decide` lets it have the grant by `more` and not by `less`."""
    issuer, params = witness.issuer, _params(witness)
    kind = world.issuers.get(issuer)
    token = None if kind is None else token_of(issuer, kind, claims)
    if token is None:
        return None
    got = minted(more, token, params)
    if got is None or minted(less, token, params) is not None:
        return None
    grant, needs = got
    missed, refusal = _refusal(less, token, params)
    return Job(
        issuer=issuer, claims=dict(claims), params=dict(params), statement=grant.statement,
        reads=_reads(token, less, more), missed=missed, refusal=refusal, needs=needs,
    )  # fmt: skip


def token_of(issuer: str, kind: IssuerKind, claims: Mapping[str, Any]) -> VerifiedToken | None:
    """The token with these claims; None where this kind of issuer could not have signed them."""
    try:
        return example_token(issuer, kind, claims)
    except Exception:  # noqa: BLE001  claims of any shape; whatever they break in the kind's mapping, no job has them
        return None


def minted(
    version: Version, token: VerifiedToken, params: Mapping[str, Any]
) -> tuple[AllowedGrant, tuple[str, ...]] | None:
    """What this version mints for the job, and what the job has to send besides; None where it mints nothing.

    Params that only the backend asks for, such as a public key, are no part of whom a policy trusts.
    """
    request = GrantRequest(grant=version.name, params=params)
    match decide(version.policies, token, [request], now=NOON):
        case Allowed(grants=(grant,)):
            return None if grant.observed else (grant, ())
        case BadParams(problems=problems, missing=missing) if len(problems) == len(missing) and version.mints:
            assert version.part is not None
            trusted = judge(version.part.policy, version.part.grant, token, request, trust_only=True)
            if isinstance(trusted, AllowedGrant) and all(
                condition.holds(params.get(name)) for name, condition in version.restrictions
            ):
                return trusted, tuple(name for _, name in missing)
    return None


def _refusal(
    version: Version, token: VerifiedToken, params: Mapping[str, Any]
) -> tuple[tuple[tuple[str, str, str], ...], str]:
    if version.part is None:
        return (), "there is no such grant"
    match decide(version.policies, token, [GrantRequest(grant=version.name, params=params)], now=NOON):
        case Denied() as denied:
            near = denied.near()
            where = "" if not near or near[0].statement is None else f"trust[{near[0].statement}] "
            return tuple((where + miss.key, miss.expected, miss.got) for miss in near), ""
        case Allowed():
            return (), "it observes and mints nothing"
        case BadParams(problems=problems):
            return (), "; ".join(f"params.{one.param}: {one.message}" for one in problems)


def _reads(token: VerifiedToken, *versions: Version) -> tuple[tuple[str, str], ...]:
    """What the conditions of both versions look at in this job. Its project is always told."""
    found: dict[str, str] = {} if token.job.project is None else {"job.project": show(token.job.project)}
    bounds: list[Bound] = [
        bound
        for version in versions
        for statement in version.statements
        if statement.issuer == token.issuer
        for bound in statement.conditions
    ]
    for bound in bounds:
        found[bound.key] = show(bound.read(token))
    for trigger in token.unsafe_triggers:
        found["unsafe trigger"] = trigger
    return tuple(found.items())
