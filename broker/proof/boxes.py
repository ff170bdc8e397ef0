"""Statements as boxes: for each thing that a condition looks at, the region of its values.

Besides `job.*`, `claims.*` and `params.*` there is a yes or no for each unsafe trigger (`trigger:NAME`) and for each CEL
source (`when:SOURCE`): an expression is not looked into, but the same text has the same outcome for the same job.
Every dimension is taken as free of the others, which allows more jobs than there are; so what is shown to be empty is.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Final, get_args, get_type_hints

from broker.issuers.seam import IssuerKind
from broker.model import JobIdentity
from broker.policy.conditions import Condition
from broker.policy.policyset import Statement
from broker.proof.carries import carries_of, known, quiet
from broker.proof.regions import ABSENT, ANY_VALUE, BOOLEAN, TEXT, Region, region_of_condition
from broker.proof.terms import Budget

TRIGGER: Final = "trigger:"
WHEN: Final = "when:"
_JOB: Final = {name: get_args(hint)[0] for name, hint in get_type_hints(JobIdentity).items()}
_TRUE: Final = Region(bools=frozenset({True}))
_FALSE: Final = Region(bools=frozenset({False}))
_WORD: Final = TEXT | ABSENT
_FLAG: Final = BOOLEAN | ABSENT

Box = Mapping[str, Region]
Restrictions = Sequence[tuple[str, Condition]]


def universe(key: str) -> Region:
    """Every value there can be at a key."""
    where, _, name = key.partition(".")
    if where == "job":
        return _FLAG if _JOB.get(name) is bool else _WORD
    return BOOLEAN if key.startswith((TRIGGER, WHEN)) else ANY_VALUE


def admitted(statement: Statement) -> frozenset[str]:
    """The unsafe triggers that a statement lets through."""
    return statement.allow_triggers - statement.never_triggers


def box_of(statement: Statement, restrictions: Restrictions, kind: IssuerKind | None, triggers: Iterable[str]) -> Box:
    """The jobs that a statement trusts, with these limits on what they send. Raises Exhausted.

    `triggers` are the names that tell the statements in question apart; any other is let through by none of them.
    """
    box: dict[str, Region] = {}
    carries = carries_of(kind)
    through = admitted(statement)
    found = [(bound.key, bound.condition) for bound in statement.conditions]
    for key, condition in [*found, *((f"params.{name}", condition) for name, condition in restrictions)]:
        region = region_of_condition(condition)
        if (carry := carries.get(key)) is not None:
            _narrow(box, carry.claim, carry.pulled_back(region))  # the same condition, asked of the claim
        else:
            _narrow(box, key, region & universe(key))
    shown, settled = quiet(known(kind), through)
    for key, region in shown.items():
        _narrow(box, key, region)
    for name in sorted(frozenset(triggers) - through - settled):
        box[TRIGGER + name] = _FALSE
    if statement.when is not None:
        box[WHEN + statement.when.source] = _TRUE
    return box


def _narrow(box: dict[str, Region], key: str, region: Region) -> None:
    box[key] = box[key] & region if key in box else region


def is_empty(box: Box, budget: Budget) -> bool:
    """Whether it is proved that no job is in it. Raises Exhausted."""
    return any(region.is_empty(budget) for region in box.values())


def beyond(box: Box, others: Sequence[Box], budget: Budget) -> Iterator[Box]:
    """Boxes, apart from each other, that hold what is in `box` and in none of `others`. None is proved to be empty.

    Raises Exhausted. What leaves one piece is taken away at once; where there are several, depth first, by the other box
    that leaves least.
    """
    left = others
    while True:
        whole, several = box, []
        for other in left:
            pieces = _without(box, other, budget)
            if pieces is None:
                continue
            if not pieces:
                return
            if len(pieces) == 1:
                box = pieces[0]
            else:
                several.append((len(pieces), other))
        left = [other for _, other in several]
        if box is whole or not left:
            break
    if not left:
        yield box
        return
    taken = min(several, key=itemgetter(0))[1]
    rest = [other for other in left if other is not taken]
    for piece in _without(box, taken, budget) or ():
        yield from beyond(piece, rest, budget)


def _without(box: Box, other: Box, budget: Budget) -> list[Box] | None:
    """`box` without `other` in disjoint pieces; None where they have nothing in common."""
    pieces: list[Box] = []
    inside = dict(box)
    for key, region in other.items():
        budget.spend(5)
        mine = inside.get(key)
        if mine is None:
            mine = universe(key)
        if mine is region:
            continue
        common = mine & region
        if common.is_empty(budget):
            return None
        outside = mine & ~region
        if not outside.is_empty(budget):
            pieces.append({**inside, key: outside})
        inside[key] = common
    return pieces
