"""Sets of JSON values, one for each condition: what satisfies it, with the three-valued judging of broker.policy.conditions.

A region says of each kind of value which of them belong to it: absent, text, booleans, numbers, lists, objects. `True` is
not 1 and 1 is 1.0, as there. Regions are closed under &, | and ~, so whether one condition allows more than another is
whether `new & ~old` is empty.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from broker.policy.claims import absent
from broker.policy.conditions import Condition
from broker.proof import languages
from broker.proof.languages import ANYTHING, NOTHING, Language, Words
from broker.proof.terms import Budget, Exhausted

MOST_SHAPES: Final = 64  # alternatives of a list in one region
_BOTH: Final = frozenset({True, False})
_NEITHER: Final[frozenset[bool]] = frozenset()


@dataclass(frozen=True, slots=True)
class Numbers:
    """These numbers, or with `negated` all others."""

    values: frozenset[int | float] = frozenset()
    negated: bool = False

    def __and__(self, other: "Numbers") -> "Numbers":
        if self.negated and other.negated:
            return Numbers(self.values | other.values, negated=True)
        if self.negated:
            return Numbers(other.values - self.values)
        return Numbers(self.values - other.values if other.negated else self.values & other.values)

    def __invert__(self) -> "Numbers":
        return Numbers(self.values, not self.negated)

    def __contains__(self, number: float) -> bool:
        return (number in self.values) is not self.negated


@dataclass(frozen=True, slots=True)
class Shape:
    """Lists of which every item that is there is in `every`, and for each of `some` there is one."""

    every: "Region | None"  # None: anything
    some: "tuple[Region, ...]" = ()


@dataclass(frozen=True, slots=True)
class Region:
    """A set of JSON values. `lists` is a union of shapes."""

    absent: bool = False
    text: Language = NOTHING
    bools: frozenset[bool] = _NEITHER
    numbers: Numbers = Numbers()
    lists: tuple[Shape, ...] = ()
    objects: bool = False

    def __and__(self, other: "Region") -> "Region":
        """What is in both. Raises Exhausted where the shapes of lists multiply."""
        if self is ANY_VALUE or other is ANY_VALUE:
            return other if self is ANY_VALUE else self
        return Region(
            self.absent and other.absent,
            _both(self.text, other.text),
            self.bools & other.bools,
            self.numbers & other.numbers,
            _shapes(_crossed(one, two) for one in self.lists for two in other.lists) if self.lists else (),
            self.objects and other.objects,
        )

    def __or__(self, other: "Region") -> "Region":
        return ~(~self & ~other)

    def __invert__(self) -> "Region":
        return Region(
            not self.absent,
            languages.complement(self.text),
            _BOTH - self.bools,
            ~self.numbers,
            _others(self.lists),
            not self.objects,
        )

    def __contains__(self, value: Any) -> bool:
        if absent(value):
            return self.absent
        match value:
            case str():
                return languages.contains(self.text, value)
            case bool():
                return value in self.bools
            case int() | float():
                return value in self.numbers
            case list():
                there = [item for item in value if not absent(item)]
                return any(
                    (shape.every is None or all(item in shape.every for item in there))
                    and all(any(item in one for item in there) for one in shape.some)
                    for shape in self.lists
                )
            case _:
                return self.objects

    def is_empty(self, budget: Budget | None = None) -> bool:
        """Whether it is proved that nothing belongs to it. Raises Exhausted."""
        if self.absent or self.bools or self.objects or self.numbers.negated or self.numbers.values:
            return False
        budget = budget or Budget()
        return languages.is_empty(self.text, budget) and all(
            any((one if shape.every is None else one & shape.every).is_empty(budget) for one in shape.some)
            for shape in self.lists
        )

    def examples(self, hints: Iterable[Any] = (), budget: Budget | None = None) -> Iterator[Any]:
        """Some values of it, natural ones first: hints that belong, absence, then of each type. None is absence.

        Raises Exhausted.
        """
        budget = budget or Budget()
        given = list(hints)
        seen: list[Any] = []
        for value in self._examples(given, budget):
            if not any(type(value) is type(other) and value == other for other in seen):
                seen.append(value)
                yield value

    def _examples(self, given: list[Any], budget: Budget) -> Iterator[Any]:
        yield from (value for value in given if value in self)
        if self.text == ANYTHING and self.absent:
            yield None
        yield from languages.texts(self.text, budget, [value for value in given if isinstance(value, str)])
        if self.absent:
            yield None
        yield from sorted(self.bools, reverse=True)
        if self.numbers.negated:
            yield next(number for number in range(1, len(self.numbers.values) + 2) if number in self.numbers)
        else:
            yield from sorted(self.numbers.values)
        for shape in self.lists:
            if (found := _list_example(shape, given, budget)) is not None:
                yield found
        if self.objects:
            yield {"x": "x"}

    def example(self, hints: Iterable[Any] = ()) -> Any:
        """One value of it; None where it is absence, or where none was found."""
        return next(self.examples(hints), None)

    def opaque(self) -> Iterator[str]:
        """Each pattern in it that cannot be reasoned about, with why."""
        for pattern in sorted(languages.patterns(self.text), key=lambda one: (one.form, one.text)):
            if (why := languages.opaque(pattern.form, pattern.text)) is not None:
                yield f"the {pattern.form} {pattern.text!r} ({why})"
        for shape in self.lists:
            for inner in (shape.every, *shape.some):
                if inner is not None:
                    yield from inner.opaque()


_ANY_LIST: Final[tuple[Shape, ...]] = (Shape(None),)
PRESENT: Final = Region(False, ANYTHING, _BOTH, Numbers(negated=True), _ANY_LIST, True)
ANY_VALUE: Final = Region(True, ANYTHING, _BOTH, Numbers(negated=True), _ANY_LIST, True)
ABSENT: Final = Region(absent=True)
NO_VALUE: Final = Region()
TEXT: Final = Region(text=ANYTHING)
BOOLEAN: Final = Region(bools=_BOTH)


def region_of(spec: Any) -> Region:
    """What satisfies a condition as it stands in a policy. Raises Exhausted; the condition is one that compiles."""
    if isinstance(spec, str):
        return Region(text=Words(frozenset({spec})))
    passing, _, admits_absent = _judged(spec)
    return passing | ABSENT if admits_absent else passing


_kept: dict[str, Region] = {}
_MOST_KEPT: Final = 4096


def region_of_condition(condition: Condition) -> Region:
    """The same of a compiled condition, remembered by what its author wrote. Raises ValueError for one without `spec`."""
    if isinstance(condition.spec, str):
        return Region(text=Words(frozenset({condition.spec})))
    if condition.spec is None:  # it would pass for one that nothing satisfies, and prove too much
        raise ValueError("only a condition that was compiled from a policy can be reasoned about")
    found = _kept.get(condition.shown)
    if found is None:
        if len(_kept) >= _MOST_KEPT:
            _kept.clear()
        found = _kept[condition.shown] = region_of(condition.spec)
    return found


def _judged(spec: Any) -> tuple[Region, Region, bool]:
    """What it says yes to and what it says no to, of the values that are there; and whether it admits absence."""
    match spec:
        case list():
            parts = [_judged(item) for item in spec]
            yes, no = NO_VALUE, PRESENT
            if texts := [item for item in spec if isinstance(item, str)]:  # in one go: there may be 256
                chosen = Words(frozenset(texts))
                yes, no = Region(text=chosen), Region(text=languages.complement(chosen))
            for item, (passing, failing, _) in zip(spec, parts, strict=True):
                if not isinstance(item, str):
                    yes, no = yes | passing, no & failing
            return yes, no, any(admits for _, _, admits in parts)
        case Mapping():
            ((form, inner),) = spec.items()
            return _form(form, inner)
        case str():
            chosen = Words(frozenset({spec}))
            return Region(text=chosen), Region(text=languages.complement(chosen)), False
        case bool():
            return Region(bools=frozenset({spec})), Region(bools=frozenset({not spec})), False
        case _:
            pass
    # Nothing equals what is no number, and NaN not even itself.
    numbers = Numbers(frozenset({spec} if isinstance(spec, int | float) and spec == spec else ()))  # noqa: PLR0124
    return Region(numbers=numbers), Region(numbers=~numbers), False


def _form(form: str, inner: Any) -> tuple[Region, Region, bool]:
    if form == "absent":
        return NO_VALUE, PRESENT, True
    if form in {"glob", "regex"}:
        pattern = languages.Pattern(form, inner)
        return Region(text=pattern), Region(text=languages.complement(pattern)), False
    yes, no, _ = _judged(inner)
    if form == "not":
        return no, yes, False
    return Region(lists=(Shape(None, (yes,)),)), Region(lists=(Shape(no),)), False


def _both(one: Language, two: Language) -> Language:
    if one is two or two is ANYTHING:
        return one
    return two if one is ANYTHING else languages.both(one, two)


def _crossed(one: Shape, two: Shape) -> Shape:
    every = one.every if two.every is None else two.every if one.every is None else one.every & two.every
    return Shape(every, tuple(dict.fromkeys((*one.some, *two.some))))


def _shapes(shapes: Iterable[Shape]) -> tuple[Shape, ...]:
    found = tuple(islice(dict.fromkeys(shapes), MOST_SHAPES + 1))
    if len(found) > MOST_SHAPES:
        raise Exhausted
    return found


def _others(shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
    """All lists of none of these shapes."""
    left: tuple[Shape, ...] = _ANY_LIST
    for shape in shapes:
        unlike = [Shape(PRESENT & ~one) for one in shape.some]
        if shape.every is not None:
            unlike.append(Shape(None, (PRESENT & ~shape.every,)))
        left = _shapes(_crossed(one, two) for one in left for two in unlike)
    return left


def _list_example(shape: Shape, given: list[Any], budget: Budget) -> list[Any] | None:
    hints = [item for value in given if isinstance(value, list) for item in value]
    every = PRESENT if shape.every is None else shape.every
    items = [next((one & every).examples(hints, budget), None) for one in shape.some]
    if None in items:
        return None
    return items or [next(every.examples(hints, budget), None)]


def languages_equal(one: Any, two: Any) -> bool:
    """Whether two conditions, as they stand in policies, are proved to be satisfied by the same values."""
    return within(one, two) and within(two, one)


def within(one: Any, two: Any) -> bool:
    """Whether it is proved that whatever satisfies the first condition satisfies the second."""
    try:
        return (region_of(one) & ~region_of(two)).is_empty()
    except Exhausted:
        return False


def disjoint(one: Any, two: Any) -> bool:
    """Whether it is proved that nothing satisfies both conditions."""
    try:
        return (region_of(one) & region_of(two)).is_empty()
    except Exhausted:
        return False
