"""The questions: is there a job that these statements trust and those do not?"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain, islice
from typing import Any, Final

from broker.issuers.seam import IssuerKind
from broker.model import VerifiedToken
from broker.policy.policyset import Bound, Statement
from broker.proof import boxes
from broker.proof.boxes import TRIGGER, WHEN, Box, Restrictions, admitted, box_of
from broker.proof.carries import carries_of
from broker.proof.realise import realise
from broker.proof.samples import samples_of
from broker.proof.terms import MOST_STEPS, Budget, Exhausted

MOST_BOXES: Final = 12  # candidates that are tried to be made into claims
GUESSING: Final = 20_000  # steps
MOST_KEYS: Final = 64  # shown of a witness
_PARAMS: Final = "params."
_TOO_MUCH: Final = "the question is too large to settle: patterns or exceptions multiply; write them more simply"
_NOT_SOUGHT: Final = "it is not proved; a job was not looked for"


class Verdict(StrEnum):
    """Is there one?"""

    NONE = "none"  # proved
    SOME = "some"  # the witness was put to the statements
    UNKNOWN = "unknown"  # neither; it has to be taken as possible


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """A job that is trusted by one side only, by the keys that the two sides look at."""

    issuer: str
    values: Mapping[str, Any] = field(repr=False)  # "job.ref", "claims.x", "params.y" -> value; None is absent
    triggers: tuple[str, ...] = ()  # unsafe triggers it has
    whens: Mapping[str, bool] = field(default_factory=dict, repr=False)  # CEL source -> its outcome
    claims: Mapping[str, Any] | None = field(default=None, repr=False)  # of a token that comes out so; None: not found


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`why` says what keeps an answer open, or what a proof took for free; empty otherwise."""

    verdict: Verdict
    witness: Witness | None = None
    why: str = ""
    unsettled: bool = False  # UNKNOWN for want of work: a larger budget might tell


def beyond(
    statements: Sequence[Statement],
    others: Sequence[Statement],
    *,
    kinds: Mapping[str, IssuerKind],
    urls: Mapping[str, str] | None = None,
    params: Restrictions = (),
    other_params: Restrictions = (),
    purse: Budget | None = None,
    prove_only: bool = False,
) -> Answer:
    """Is there a job that one of `statements` trusts and none of `others` does?

    `kinds` and `urls` go by the issuer's name, as in `World`. `params` are the `Grant.restrictions` that apply to
    `statements`, and `other_params` those of `others`: what a job sends is then part of the question. What the backend
    itself demands of it is not. Never raises; a question too large is UNKNOWN. Questions that share a `purse` pay from it:
    what is asked once it is empty is UNKNOWN at once. `prove_only` looks for no witness: the verdict is NONE or UNKNOWN.
    """
    open_answer: Answer | None = None
    purse = purse or Budget(MOST_STEPS * max(len(statements), 1))
    for statement in statements:
        rivals = [other for other in others if other.issuer == statement.issuer]
        question = _Question(
            statement, rivals, kinds.get(statement.issuer), (urls or {}).get(statement.issuer), params, other_params
        )
        budget = Budget(min(MOST_STEPS, max(purse.left, 0)))
        given = budget.left
        answer = question.proof(budget) if prove_only else question.answer(budget)
        purse.left -= given - budget.left
        if answer.verdict is Verdict.SOME:
            return answer
        if answer.verdict is Verdict.UNKNOWN and open_answer is None:
            open_answer = answer
    return open_answer or Answer(verdict=Verdict.NONE)


@dataclass(frozen=True, slots=True)
class _Question:
    """One statement against others of its issuer."""

    statement: Statement
    others: Sequence[Statement]
    kind: IssuerKind | None
    url: str | None
    params: Restrictions
    other_params: Restrictions

    def proof(self, budget: Budget) -> Answer:
        """Whether there is provably none; a witness takes many times as long."""
        try:
            left = next(self._boxes(budget), None)
        except (Exhausted, RecursionError):
            return Answer(verdict=Verdict.UNKNOWN, why=_TOO_MUCH, unsettled=True)
        return Answer(verdict=Verdict.NONE) if left is None else Answer(verdict=Verdict.UNKNOWN, why=_NOT_SOUGHT)

    def answer(self, budget: Budget) -> Answer:
        """What can be told for so much work."""
        first: Box | None = None
        settled = True
        try:
            for box in islice(self._boxes(budget), MOST_BOXES):
                first = box if first is None else first
                witness = self._realised(box, budget)
                if witness is not None:
                    return Answer(verdict=Verdict.SOME, witness=witness)
        except (Exhausted, RecursionError):
            settled = False
            if first is None and (witness := self._guessed()) is not None:
                return Answer(verdict=Verdict.SOME, witness=witness)
        if first is None and settled:
            return Answer(verdict=Verdict.NONE)
        return self._open(first, settled=settled)

    def _bounds(self) -> Iterator[Bound]:
        """Every condition in question."""
        return chain(self.statement.conditions, *(other.conditions for other in self.others))

    def _guessed(self) -> Witness | None:
        """A token of the statement's, where there was no time to take the others' away: it may be none of theirs."""
        budget = Budget(GUESSING)
        try:
            return self._realised(box_of(self.statement, self.params, self.kind, ()), budget)
        except (Exhausted, RecursionError):
            return None

    def _boxes(self, budget: Budget) -> Iterator[Box]:
        triggers = admitted(self.statement).union(*map(admitted, self.others))
        box = box_of(self.statement, self.params, self.kind, triggers)
        if boxes.is_empty(box, budget):
            return
        rivals = [box_of(other, self.other_params, self.kind, triggers) for other in self.others]
        yield from boxes.beyond(box, rivals, budget)

    def _realised(self, box: Box, budget: Budget) -> Witness | None:
        if self.kind is None:
            return None
        sent = {key: next(region.examples((), budget), None) for key, region in box.items() if key.startswith(_PARAMS)}

        def only_here(token: VerifiedToken) -> bool:
            return (
                self.statement.trusts(token)
                and _fits(self.params, sent)
                and not (_fits(self.other_params, sent) and any(other.trusts(token) for other in self.others))
            )

        token = realise(box, (self.statement.issuer, self.kind, self.url), only_here, budget)
        if token is None:
            return None
        expressions = [one.when for one in (self.statement, *self.others) if one.when is not None]
        return Witness(
            issuer=self.statement.issuer,
            values={bound.key: bound.read(token) for bound in islice(self._bounds(), MOST_KEYS)} | sent,
            triggers=token.unsafe_triggers,
            whens={when.source: when.holds(token.job, token.claims) for when in expressions},
            claims=token.claims,
        )

    def _open(self, box: Box | None, *, settled: bool) -> Answer:
        """The answer where neither a proof nor a token was found."""
        if box is None:
            return Answer(verdict=Verdict.UNKNOWN, why=_TOO_MUCH, unsettled=True)
        keys = {bound.key for bound in self._bounds()}
        carries = {key: carry for key, carry in carries_of(self.kind).items() if key in keys}
        shown = keys.union(carry.claim for carry in carries.values())
        values: dict[str, Any] = {}
        try:
            for key, region in box.items():
                if key in shown or key.startswith(_PARAMS):
                    values[key] = region.example(samples_of(self.kind).hints(key) if self.kind is not None else ())
        except Exhausted:
            settled = False
        told = {key: carry.told(values[carry.claim]) for key, carry in carries.items() if carry.claim in values}
        values = {key: value for key, value in values.items() if key in keys or key.startswith(_PARAMS)} | told
        whens = {key.removeprefix(WHEN): True in region for key, region in box.items() if key.startswith(WHEN)}
        witness = Witness(
            issuer=self.statement.issuer,
            values=values,
            triggers=tuple(
                key.removeprefix(TRIGGER)
                for key, region in box.items()
                if key.startswith(TRIGGER) and False not in region
            ),
            whens=whens,
        )
        return Answer(
            verdict=Verdict.UNKNOWN,
            witness=witness,
            why=self._why(box, witness, settled=settled),
            unsettled=not settled,
        )

    def _why(self, box: Box, witness: Witness, *, settled: bool) -> str:
        if self.kind is None:
            said = [f"the issuer {self.statement.issuer!r} is not configured, so no claims can be made for it"]
        else:
            given = [f"{key} = {_shown(value)}" for key, value in witness.values.items()]
            given += [f"the unsafe trigger {name}" for name in witness.triggers]
            said = [f"no claims of {self.kind.title} were found that give " + (", ".join(given) or "this")]
        said += [f"`when: {source}` is not looked into" for source in witness.whens]
        opaque = dict.fromkeys(note for region in box.values() for note in region.opaque())
        said += [f"{note} is not looked into" for note in opaque]
        if not settled:
            said.append(_TOO_MUCH)
        return "; ".join(said)


def _fits(restrictions: Restrictions, sent: Mapping[str, Any]) -> bool:
    return all(condition.holds(sent.get(_PARAMS + name)) for name, condition in restrictions)


def _shown(value: Any) -> str:
    return "absent" if value is None else json.dumps(value)
