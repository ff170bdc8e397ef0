"""What `decide` answers with. A refusal can say why, to the ledger and the policy's owners; it does so when it is asked."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Literal

from broker.values import value

Code = Literal["unknown-grant", "no-statement", "trigger", "guardrail", "template", "params"]

MOST_EXPLAINED: Final = 64  # misses in one explanation; the rest are counted
MOST_TOLD: Final = 4  # misses on one line
_NEAREST: Final[Sequence[Code]] = ("params", "template", "guardrail", "trigger", "no-statement", "unknown-grant")


@value(frozen=True, slots=True, kw_only=True)
class AllowedGrant:
    """One grant, narrowed and ready to be minted. With `observed`, nothing may be minted: the policy is on trial."""

    name: str  # payments/deploy
    policy: str
    policy_version: str  # sha256:<hex>
    statement: int  # which entry of `trust:`, from 0
    backend: str
    kind: str
    ttl: timedelta
    options: Any = field(repr=False)  # an instance of the backend's Options, templates filled in
    params: Any = field(repr=False)  # an instance of the backend's Params
    observed: bool = False


@value(frozen=True, slots=True)
class Allowed:
    """Every grant asked for."""

    grants: tuple[AllowedGrant, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """One condition that did not hold. Names policy content: for the ledger and the policy's owners only."""

    grant: str
    policy: str | None
    statement: int | None  # from 0; None where it concerns no statement
    key: str  # issuer, job.ref, claims.repository_id, allow_triggers, when, with, params.principal
    code: Code
    expected: str = field(repr=False)
    got: str = field(repr=False)

    def as_json(self) -> dict[str, str | int]:
        """Its members that are there, for an event."""
        members = {
            name: getattr(self, name) for name in ("grant", "policy", "statement", "key", "code", "expected", "got")
        }
        return {name: value for name, value in members.items() if value is not None}


class Denied:
    """No. `code` is the class of the nearest miss; `misses` holds every one.

    Saying why costs more than saying no, and a flood of strangers is told no only: both are found when somebody first asks.
    """

    __slots__ = ("_find", "_found")

    def __init__(self, find: Callable[[], tuple[Miss, ...]]) -> None:
        self._find = find
        self._found: tuple[Miss, ...] | None = None

    @property
    def misses(self) -> tuple[Miss, ...]:
        """Every miss of every statement of every grant that was asked for, in order."""
        if self._found is None:
            self._found = self._find()
        return self._found

    @property
    def code(self) -> Code:
        """The class of the refusal."""
        return min((miss.code for miss in self.misses), key=_NEAREST.index, default="unknown-grant")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Denied) and self.misses == other.misses

    def __hash__(self) -> int:
        return hash(self.misses)

    def __repr__(self) -> str:
        return f"Denied(code={self.code!r})"

    def near(self, grant: str | None = None) -> tuple[Miss, ...]:
        """The misses of the statement that came nearest, of `grant` or of all: what to look at first.

        Nearest is fewest misses; a statement for another issuer is never nearer than one for the job's own.
        """
        return nearest(miss for miss in self.misses if grant in {None, miss.grant})

    def explain(self) -> str:
        """Some lines for the ledger: each grant, each statement, each miss with what was expected and what came."""
        lines: list[str] = []
        place: tuple[str, int | None] | None = None
        for miss in self.misses[:MOST_EXPLAINED]:
            if place != (miss.grant, miss.statement):
                place = (miss.grant, miss.statement)
                lines.append(f"{miss.grant}: " + ("refused" if miss.statement is None else f"trust[{miss.statement}]"))
            lines.append(f"  {miss.key}: expected {miss.expected}, got {miss.got}")
        if len(self.misses) > MOST_EXPLAINED:
            lines.append(f"  and {len(self.misses) - MOST_EXPLAINED} more")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParamProblem:
    """What is wrong with something the job sent. Safe to tell it: it speaks of the backend, not of the policy."""

    grant: str
    param: str  # "ttl", or a name in `params`; empty for all of them
    message: str


@dataclass(frozen=True, slots=True)
class BadParams:
    """The job is trusted, and what it sent is wrong. `missing` lists (grant, param) that it has to make and send."""

    problems: tuple[ParamProblem, ...]
    missing: tuple[tuple[str, str], ...] = ()


Decision = Allowed | Denied | BadParams


def nearest(misses: Iterable[Miss]) -> tuple[Miss, ...]:
    """Those of the statement that came nearest to none."""
    groups: dict[tuple[str, int | None], list[Miss]] = {}
    for miss in misses:
        groups.setdefault((miss.grant, miss.statement), []).append(miss)
    found = sorted(groups.values(), key=lambda group: (group[0].key == "issuer", len(group)))
    return tuple(found[0]) if found else ()


def told(misses: Iterable[Miss], *, most: int = MOST_TOLD) -> str:
    """The nearest statement on one line: each condition that did not hold, what it expected and what came."""
    near = nearest(misses)
    return f"trust[{near[0].statement}] " + "; ".join(
        f"{miss.key}: expected {miss.expected}, got {miss.got}" for miss in near[:most]
    )
