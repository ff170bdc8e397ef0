"""Which conditions of a policy its examples prove: each is loosened in turn, and some refusal example has to notice.

* A loosened policy that no example notices is a hole: the same mistake, made by an editor of the file, would load.
* A loosening that lets nobody in who was not in before (proved by broker.proof) is no hole, and is not counted. Nor is
  one for which no job could be found, such as a second condition on what a first one says already; but that is told.
* Nothing is parsed again: the compiled statement is changed, and the examples' own tokens are asked.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from broker.authoring.mutation.suggest import others_of, suggestions, unused
from broker.authoring.mutation.weaken import DROPPED, operands, weaker
from broker.documents import Path, dotted
from broker.issuers.seam import IssuerKind, Trust
from broker.model import GrantRequest, VerifiedToken
from broker.policy.answers import AllowedGrant
from broker.policy.conditions import Condition, compile_condition
from broker.policy.decide import judge
from broker.policy.document import ExamplePart
from broker.policy.examples import example_outcomes
from broker.policy.expressions import compile_expression
from broker.policy.load import Checked
from broker.policy.policyset import Bound, Grant, Policy, Statement
from broker.policy.world import World
from broker.proof import Budget, Verdict, Witness, beyond

EXTENDED: Final = frozenset({"job.project", "job.owner", "job.ref", "job.environment", "job.workflow", "job.trigger", "job.actor", "job.runner"})  # fmt: skip

MOST_PROVING: Final = 500_000  # steps for one policy, of a few microseconds; what is left is told as open
_ID: Final = re.compile(r"(^|[^a-z])(u?u?id)$|[a-z](Id|Uuid)$")  # inside a claim whose parts the kind does not class


class Fate(StrEnum):
    """What became of one loosening."""

    NOTICED = "noticed"  # an example that has to be refused came through
    HOLE = "hole"  # nobody noticed
    SAME = "same"  # proved: it lets nobody in who was not in before
    OPEN = "open"  # no job was found that it lets in, and none is ruled out


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One loosening of one part of a policy."""

    path: Path  # of what is loosened: ("trust", 0, "job", "ref")
    said: str = field(repr=False)  # what it would be then: "any text", "no condition"
    fate: Fate
    by: str | None = field(default=None, repr=False)  # the example that noticed
    example: Mapping[str, Any] | None = field(
        default=None, repr=False
    )  # for a hole: an entry of `examples:` that would
    why: str = ""  # why there is no such entry, or what is not known

    @property
    def where(self) -> str:
        """`trust[0].job.ref`."""
        return dotted(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Every loosening of one policy."""

    checked: Checked = field(repr=False)
    mutants: tuple[Mutant, ...] = field(repr=False)

    @property
    def killed(self) -> int:
        return sum(mutant.fate is Fate.NOTICED for mutant in self.mutants)

    @property
    def total(self) -> int:
        return sum(mutant.fate in {Fate.NOTICED, Fate.HOLE} for mutant in self.mutants)

    @property
    def holes(self) -> tuple[Mutant, ...]:
        return tuple(mutant for mutant in self.mutants if mutant.fate is Fate.HOLE)


def percent(killed: int, total: int) -> float:
    """Rounded down to a tenth, so that 100 is said of nothing less."""
    return 100.0 if killed == total else (1000 * killed // total) / 10


@dataclass(frozen=True, slots=True)
class _Loosened:
    path: Path
    said: str
    statement: Statement | None = None  # the loosened one, in the place of that with its number
    grant: str | None = None  # or this grant's restrictions, loosened
    restrictions: tuple[tuple[str, Condition], ...] = ()
    bound: Bound | None = None  # whose condition was loosened
    triggers: frozenset[str] = frozenset()  # that are let in
    spec: Any = None  # of the restriction that was loosened


@dataclass(frozen=True, slots=True)
class _Tried:
    """An example with its token, and what each grant it asks for should do."""

    example: ExamplePart
    token: VerifiedToken

    def refused(self, policy: Policy) -> Iterator[str]:
        asked = [self.example.grant] if self.example.grant else list(policy.grants)
        yield from (name for name in asked if name not in self.example.expect.allow)


def coverage(checked: Checked, world: World) -> Coverage:
    """Loosen each part of the policy, and see which example notices."""
    policy, written = checked.policy, checked.written
    tried = [
        _Tried(example, found.token)
        for example, found in zip(written.examples, example_outcomes(policy, written, world), strict=True)
        if found.token is not None
    ]
    holes = _Holes(policy, tried, world, {example.name for example in written.examples})
    mutants: list[Mutant] = []
    for loosened in _all(policy, world):
        noticed = _noticed(policy, loosened, tried)
        if noticed is None:
            mutants.append(holes.of(loosened))
        else:
            mutants.append(Mutant(path=loosened.path, said=loosened.said, fate=Fate.NOTICED, by=noticed.example.name))
    return Coverage(checked=checked, mutants=tuple(mutants))


def _all(policy: Policy, world: World) -> Iterator[_Loosened]:
    for statement in policy.statements:
        kind = world.issuers[statement.issuer]
        yield from _conditions(statement, kind)
        yield from _when(statement)
        yield from _triggers(statement, kind)
    for short, grant in policy.grants.items():
        for number, (name, condition) in enumerate(grant.restrictions):
            before, after = grant.restrictions[:number], grant.restrictions[number + 1 :]
            for said, spec in weaker(condition.spec, extends=True):
                other = () if spec is DROPPED else ((name, _compiled(spec)),)
                if None not in [one for _, one in other]:
                    yield _Loosened(
                        ("grants", short, "params", name),
                        said,
                        grant=short,
                        restrictions=(*before, *other, *after),
                        spec=condition.spec,
                    )


def _conditions(statement: Statement, kind: IssuerKind) -> Iterator[_Loosened]:
    for number, bound in enumerate(statement.conditions):
        before, after = statement.conditions[:number], statement.conditions[number + 1 :]
        where, _, name = bound.key.partition(".")
        for said, spec in weaker(bound.condition.spec, extends=_extends(bound, kind)):
            condition = None if spec is DROPPED else _compiled(spec)
            if condition is None and spec is not DROPPED:
                continue  # too large a pattern, by the loader's own limits: nobody could write it
            other = () if condition is None else (replace(bound, condition=condition),)
            yield _Loosened(
                ("trust", statement.number, where, name),
                said,
                statement=statement.changed(conditions=(*before, *other, *after)),
                bound=bound,
            )


def _extends(bound: Bound, kind: IssuerKind) -> bool:
    """Whether somebody can register or push a longer name; an id and what the platform words cannot be had so."""
    where, _, name = bound.key.partition(".")
    if where == "job":
        return bound.key in EXTENDED
    return kind.trust(name) in {Trust.NAME, Trust.USER, None} and not _ID.search(name)


def _compiled(spec: Any) -> Condition | None:
    problems: list[str] = []
    return compile_condition(spec, lambda _, message: problems.append(message))


def _when(statement: Statement) -> Iterator[_Loosened]:
    if statement.when is None:
        return
    path = ("trust", statement.number, "when")
    parts = operands(statement.when.source)
    if len(parts) > 1:
        for number, part in enumerate(parts):
            try:
                rest = compile_expression(" && ".join(parts[:number] + parts[number + 1 :]))
            except ValueError:
                continue
            yield _Loosened(path, f"without {part}", statement=statement.changed(when=rest))
    yield _Loosened(path, "no expression", statement=statement.changed(when=None))


def _triggers(statement: Statement, kind: IssuerKind) -> Iterator[_Loosened]:
    """Each unsafe trigger that the kind shows an example of, and the rest together: their attacks differ in a word only."""
    shown = {trigger for claims in kind.examples.values() for trigger in kind.unsafe_triggers(claims)}
    closed = [name for name in kind.trigger_names if name not in statement.allow_triggers | statement.never_triggers]
    rest = frozenset(name for name in closed if name not in shown)
    for group in [*(frozenset({name}) for name in closed if name in shown), *([rest] if rest else [])]:
        named = ", ".join(name for name in closed if name in group)
        yield _Loosened(
            ("trust", statement.number, "allow_triggers"),
            f"{named} let in" if len(group) == 1 else f"any of {named} let in",
            statement=statement.changed(allow_triggers=statement.allow_triggers | group),
            triggers=group,
        )


def _as_policy(policy: Policy, loosened: _Loosened) -> Policy:
    if loosened.statement is not None:
        new = loosened.statement
        return replace(policy, statements=tuple(new if one.number == new.number else one for one in policy.statements))
    assert loosened.grant is not None
    grant = replace(policy.grants[loosened.grant], restrictions=loosened.restrictions)
    return replace(policy, grants={**policy.grants, loosened.grant: grant})


def _noticed(policy: Policy, loosened: _Loosened, tried: Sequence[_Tried]) -> _Tried | None:
    """An example that comes out otherwise."""
    changed = _as_policy(policy, loosened)
    for one in tried:
        if loosened.statement is not None and not loosened.statement.trusts(one.token):
            continue
        for name in one.refused(policy):
            if loosened.grant in {None, name} and _gets(changed, changed.grants[name], one):
                return one
    return None


def _gets(policy: Policy, grant: Grant, one: _Tried) -> bool:
    params = one.example.params
    request = GrantRequest(grant=grant.name, params=params)
    return isinstance(judge(policy, grant, one.token, request, trust_only=params is None), AllowedGrant)


class _Holes:
    """What nobody noticed: with an example that would, or with the proof that there can be none."""

    def __init__(self, policy: Policy, tried: Sequence[_Tried], world: World, taken: set[str]) -> None:
        self._policy, self._world, self._taken = policy, world, taken
        self._allowed = [(one.example, one.token) for one in tried if one.example.expect.allow]
        self._suggested: list[_Tried] = []
        self._purse = Budget(MOST_PROVING)

    def of(self, loosened: _Loosened) -> Mutant:
        path, said = loosened.path, loosened.said
        if loosened.grant is not None:
            return self._of_params(loosened, loosened.grant)
        if (
            before := _noticed(self._policy, loosened, self._suggested)
        ) is not None:  # one example for all of a condition
            return Mutant(path=path, said=said, fate=Fate.HOLE, example=_plain(before.example))
        found, why = self._near(loosened, ()), ""
        if found is None:
            assert loosened.statement is not None
            answer = beyond(
                [loosened.statement], self._policy.statements, kinds=self._world.issuers, urls=self._world.issuer_urls,
                purse=self._purse,
            )  # fmt: skip
            if answer.verdict is Verdict.NONE:
                return Mutant(path=path, said=said, fate=Fate.SAME)
            why = answer.why or "no claims of such a job were found"
            if answer.witness is not None and answer.witness.claims is not None:
                found = self._near(loosened, (answer.witness.claims,))
        if found is None:
            return Mutant(path=path, said=said, fate=Fate.OPEN, why=why)
        return Mutant(path=path, said=said, fate=Fate.HOLE, example=found)

    def _near(self, loosened: _Loosened, witnesses: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        assert loosened.statement is not None
        bound = loosened.bound
        for entry, token in suggestions(
            self._policy, loosened.statement, self._allowed, self._world,
            key=bound.key if bound is not None else "allow_triggers" if loosened.triggers else "when",
            spec=None if bound is None else bound.condition.spec,
            triggers=loosened.triggers, taken=self._taken, witnesses=witnesses,
        ):  # fmt: skip
            one = _Tried(ExamplePart.model_validate(entry), token)
            if _noticed(self._policy, loosened, [one]) is not None:
                self._suggested.append(one)
                self._taken.add(one.example.name)
                return entry
        return None

    def _of_params(self, loosened: _Loosened, name: str) -> Mutant:
        answer = beyond(
            self._policy.statements, self._policy.statements, kinds=self._world.issuers, urls=self._world.issuer_urls,
            params=loosened.restrictions, other_params=self._policy.grants[name].restrictions, purse=self._purse,
        )  # fmt: skip
        if answer.verdict is Verdict.NONE:
            return Mutant(path=loosened.path, said=loosened.said, fate=Fate.SAME)
        found = self._with_params(loosened, name, answer.witness)
        why = "" if found else answer.why or "what the backend itself takes of it is not known here"
        return Mutant(path=loosened.path, said=loosened.said, fate=Fate.HOLE, example=found, why=why)

    def _with_params(self, loosened: _Loosened, name: str, witness: Witness | None) -> Mapping[str, Any] | None:
        """An allowed example that sends something else: what its neighbour in the file sends, but for this one parameter."""
        param = loosened.path[-1]
        values = list(others_of((witness.values if witness else {}).get(f"params.{param}"), loosened.spec))
        for example, token in self._allowed:
            if name not in example.expect.allow:
                continue
            for value in values:
                sent: dict[str, Any] = {
                    key: item for key, item in {**(example.params or {}), str(param): value}.items() if item is not None
                }
                entry: dict[str, Any] = {
                    "name": unused(f"another {param} is not taken", self._taken),
                    **({"issuer": example.issuer} if example.issuer else {}),
                    "claims": dict(example.claims), "grant": name, "params": sent, "expect": "refuse",
                }  # fmt: skip
                one = _Tried(ExamplePart.model_validate(entry), token)
                before = judge(self._policy, self._policy.grants[name], token, GrantRequest(grant=name, params=sent))
                if not isinstance(before, AllowedGrant) and _noticed(self._policy, loosened, [one]) is not None:
                    self._taken.add(str(entry["name"]))
                    return entry
        return None


def _plain(example: ExamplePart) -> Mapping[str, Any]:
    """A suggested example as it is written."""
    entry: dict[str, Any] = {"name": example.name}
    if example.issuer:
        entry["issuer"] = example.issuer
    return {**entry, "claims": example.claims, "expect": "refuse"}
