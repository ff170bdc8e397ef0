"""A statement as the rules read it: each condition with what it speaks of, and who may choose that value.

`job.project_id` and the raw claim that a kind fills it from (`claims.repository_id`) are the same to every rule.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from broker.documents import Path
from broker.issuers.seam import IssuerKind, Trust
from broker.model import JOB_FIELDS
from broker.policy.conditions import Condition
from broker.policy.document import StatementPart
from broker.policy.load import Checked
from broker.policy.policyset import Bound, Statement
from broker.policy.world import World

# Who chooses a field of a job where no single claim of the kind holds it as it is (Buildkite's ref, a flag's text).
_FIELDS: Final[Mapping[str, Trust]] = {
    "project": Trust.NAME,
    "project_id": Trust.ID,
    "owner": Trust.NAME,
    "owner_id": Trust.ID,
    "ref": Trust.USER,
    "ref_type": Trust.FACT,
    "ref_protected": Trust.FACT,
    "environment": Trust.USER,
    "environment_protected": Trust.FACT,
    "trigger": Trust.FACT,
    "fork": Trust.FACT,
    "workflow": Trust.NAME,
    "run_id": Trust.ID,
    "job_id": Trust.ID,
    "attempt": Trust.ID,
    "actor": Trust.NAME,
    "actor_id": Trust.ID,
    "sha": Trust.FACT,
    "runner": Trust.FACT,
    "run_url": Trust.NAME,
}
FLAGS: Final = ("ref_protected", "environment_protected")
_LEAST: Final = (Trust.USER, Trust.NAME, Trust.FACT, Trust.ID)
_NAMED_FIRST: Final = ("project_id", "owner_id", "project", "owner", "ref", "environment", "workflow", "trigger")


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One condition of a statement."""

    bound: Bound
    path: Path  # in the document
    name: str  # project_id, or the claim's name
    raw: bool  # under `claims`
    field: str | None  # the JobIdentity field that it speaks of, under whatever name
    trust: Trust | None  # who may choose the value; None for a claim that the kind does not know

    @property
    def condition(self) -> Condition:
        return self.bound.condition

    @property
    def only_absent(self) -> bool:
        return bool(self.condition.spec == {"absent": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """One entry of `trust:`."""

    number: int
    statement: Statement
    part: StatementPart
    kind: IssuerKind
    said: tuple[Said, ...] = field(repr=False)

    @property
    def path(self) -> Path:
        return ("trust", self.number)

    def about(self, *fields: str) -> Iterator[Said]:
        """The conditions that speak of one of these fields."""
        return (said for said in self.said if said.field in fields)

    def pins(self, *fields: str) -> bool:
        """Whether one of these fields is written out, as a value or a list of values."""
        return any(said.condition.exact is not None for said in self.about(*fields))

    def requires(self, flag: str) -> bool:
        """Whether only jobs with this flag pass: a condition on it, or a `when` that speaks of it."""
        if self.part.when is not None and flag in self.part.when:
            return True
        return any(
            not (said.condition.holds(False) or said.condition.holds("false") or said.condition.admits_absent)
            for said in self.said
            if said.name == flag
        )


def stated(checked: Checked, world: World) -> tuple[Stated, ...]:
    """Every statement of a policy."""
    return tuple(
        Stated(
            number=statement.number,
            statement=statement,
            part=checked.written.trust[statement.number],
            kind=world.issuers[statement.issuer],
            said=tuple(_said(bound, statement, world) for bound in statement.conditions),
        )
        for statement in checked.policy.statements
    )


def _said(bound: Bound, statement: Statement, world: World) -> Said:
    where, _, name = bound.key.partition(".")
    kind = world.issuers[statement.issuer]
    raw = where == "claims"
    spoken = _field_of(kind.name, name, _Key(kind, world)) if raw else name
    return Said(
        bound=bound,
        path=("trust", statement.number, where, name),
        name=name,
        raw=raw,
        field=spoken,
        trust=claim_trust(kind, name) if raw else field_trust(kind, name, world),
    )


def claim_trust(kind: IssuerKind, name: str) -> Trust | None:
    """Who may choose a claim; a JSON pointer is as good as the claim that it leads into, and a uid in it is an id."""
    if name.startswith("/") and kind.trust(name) in {None, kind.claims.get("*")}:
        outer, *_, last = [step.replace("~1", "/").replace("~0", "~") for step in name[1:].split("/")]
        return Trust.ID if last in {"uid", "instance_id", "project_number"} else kind.trust(outer)
    return kind.trust(name)


def field_trust(kind: IssuerKind, name: str, world: World) -> Trust:
    """Who may choose a job's field: whoever may choose the claim that the kind fills it from."""
    if "*" in kind.claims:  # the operator's own map or templates; nobody else can say what they are worth
        return _FIELDS[name]
    found = [kind.claims[claim] for claim in claims_of(kind, name, world)]
    return min(found, key=_LEAST.index) if found else _FIELDS[name]


class _Key:
    """A kind with the world that knows its examples; equal to every other of the same kind, so that answers are kept."""

    __slots__ = ("_world", "kind")

    def __init__(self, kind: IssuerKind, world: World | None) -> None:
        self.kind, self._world = kind, world

    def says(self, claim: str, name: str) -> bool:
        return self._world is not None and self._world.says(self.kind, claim, (name,))

    def __hash__(self) -> int:
        return id(self.kind)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.kind is self.kind


@lru_cache(maxsize=4096)
def _field_of(_kind: str, claim: str, key: _Key) -> str | None:
    if claim in FLAGS:
        return claim
    for name in (*_NAMED_FIRST, *(other for other in JOB_FIELDS if other not in _NAMED_FIRST)):
        if key.says(claim, name):
            return name
    return None


@lru_cache(maxsize=4096)
def _claims_of(_kind: str, name: str, key: _Key) -> tuple[str, ...]:
    if name in FLAGS:
        return (name,) if name in key.kind.claims else ()
    known = (claim for claim in key.kind.claims if claim[-1] != "*" and claim not in {"iss", "aud"})
    return tuple(claim for claim in known if key.says(claim, name))


def claims_of(kind: IssuerKind, name: str, world: World) -> tuple[str, ...]:
    """The claims that hold a job's field as it is, told by the kind's examples."""
    return _claims_of(kind.name, name, _Key(kind, world))


@lru_cache(maxsize=512)
def _can_say(_kind: str, name: str, key: _Key) -> bool:
    return any(getattr(key.kind.identity(claims), name) is not None for claims in key.kind.examples.values())


def can_say(kind: IssuerKind, name: str) -> bool:
    """Whether a token of this kind can hold a job's field, told by the kind's examples."""
    return _can_say(kind.name, name, _Key(kind, None))
