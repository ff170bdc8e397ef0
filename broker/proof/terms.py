"""Regular languages as terms with boolean operations, and their derivatives over ranges of symbols.

A term is interned: built twice it is the same object, so its derivative is made once (J. A. Brzozowski, "Derivatives of
Regular Expressions", 1964; S. Owens, J. Reppy, A. Turon, "Regular-expression derivatives re-examined", 2009).

* Every piece of work is paid for from a Budget, so a pattern made to explode ends in `Exhausted`, not in a long wait.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import Any, Final

from broker.proof.alphabet import ANY, END, Ranges, character, niceness, symbol

MOST_KEPT: Final = 200_000  # interned terms; past it the table starts anew, which costs repeated work and nothing else
MOST_STEPS: Final = 150_000  # of one question


class Exhausted(Exception):
    """The question takes more work than the budget allows; it stays open."""


class Budget:
    """Work that is left for one question, in steps of about a microsecond."""

    __slots__ = ("left",)

    def __init__(self, steps: int = MOST_STEPS) -> None:
        self.left = steps

    def spend(self, steps: int) -> None:
        """Raises Exhausted."""
        self.left -= steps
        if self.left < 0:
            raise Exhausted


class Term:
    """One language. Made by the functions below only."""

    __slots__ = ("dead", "found", "moves", "nullable", "op", "parts")

    def __init__(self, op: str, parts: Any, *, nullable: bool) -> None:
        self.op = op
        self.parts = parts
        self.nullable = nullable  # whether it holds the empty text
        self.moves: Moves | None = None
        self.dead = False  # proved to be empty
        self.found: str | None = None  # its shortest text, once it was asked for


Moves = tuple[tuple[int, ...], tuple[Term, ...]]  # from each first symbol on, up to the next: what may follow

_interned: dict[tuple[str, Any], Term] = {}


def _term(op: str, parts: Any, *, nullable: bool) -> Term:
    key = (op, parts)
    found = _interned.get(key)
    if found is None:
        if len(_interned) >= MOST_KEPT:
            _interned.clear()
        found = _interned[key] = Term(op, parts, nullable=nullable)
    return found


NONE: Final = Term("none", (), nullable=False)
EMPTY: Final = Term("words", frozenset({""}), nullable=True)
ALL: Final = Term("not", NONE, nullable=True)


def words(texts: frozenset[str]) -> Term:
    """Exactly these texts."""
    if not texts:
        return NONE
    return EMPTY if texts == {""} else _term("words", texts, nullable="" in texts)


def one_of(spans: Ranges) -> Term:
    """One character of these."""
    return _term("class", spans, nullable=False) if spans else NONE


def cat(first: Term, rest: Term) -> Term:
    """One after the other."""
    parts = []
    while first.op == "cat":
        parts.append(first.parts[0])
        first = first.parts[1]
    parts.append(first)
    for part in reversed(parts):
        if part is NONE or rest is NONE:
            return NONE
        if rest is EMPTY:
            rest = part
        elif part is not EMPTY:
            rest = _term("cat", (part, rest), nullable=part.nullable and rest.nullable)
    return rest


def either(terms: Iterable[Term]) -> Term:
    """The union."""
    parts: set[Term] = set()
    texts: set[str] = set()
    for term in terms:
        for part in term.parts if term.op == "or" else (term,):
            if part is ALL:
                return ALL
            if part.op == "words":
                texts |= part.parts
            elif part is not NONE:
                parts.add(part)
    if texts:
        parts.add(words(frozenset(texts)))
    if any(part.op == "not" and part.parts in parts for part in parts):
        return ALL
    if len(parts) < 2:  # noqa: PLR2004
        return parts.pop() if parts else NONE
    return _term("or", frozenset(parts), nullable=any(part.nullable for part in parts))


def both(terms: Iterable[Term]) -> Term:
    """The intersection."""
    parts: set[Term] = set()
    texts: frozenset[str] | None = None
    for term in terms:
        for part in term.parts if term.op == "and" else (term,):
            if part is NONE:
                return NONE
            if part.op == "words":
                texts = part.parts if texts is None else texts & part.parts
            elif part is not ALL:
                parts.add(part)
    if texts is not None:
        if not texts:
            return NONE
        parts.add(words(texts))
    if any(part.op == "not" and part.parts in parts for part in parts):
        return NONE
    if len(parts) < 2:  # noqa: PLR2004
        return parts.pop() if parts else ALL
    return _term("and", frozenset(parts), nullable=all(part.nullable for part in parts))


def complement(term: Term) -> Term:
    """Everything else."""
    if term is NONE:
        return ALL
    return term.parts if term.op == "not" else _term("not", term, nullable=not term.nullable)


def loop(term: Term, low: int, high: int | None) -> Term:
    """`term{low,high}`; no end where `high` is None."""
    if high == 0 or term is EMPTY:
        return EMPTY
    if term is NONE:
        return EMPTY if low == 0 else NONE
    if low == high == 1:
        return term
    if term.nullable:
        low = 0  # an empty turn counts as one
    return _term("loop", (term, low, high), nullable=low == 0)


PRINTABLE: Final = loop(one_of(ANY), 0, None)


def moves(term: Term, budget: Budget) -> Moves:
    """The derivatives of a term by every symbol at once. Raises Exhausted."""
    if term.moves is None:
        term.moves = _MOVES[term.op](term, budget)
        budget.spend(1 + len(term.moves[0]))
    return term.moves


def after(term: Term, text: str, budget: Budget) -> Term:
    """What may follow `text`; the text is in the language where that is nullable."""
    for char in text:
        starts, nexts = moves(term, budget)
        term = nexts[bisect_right(starts, symbol(char)) - 1]
    return term


_NOWHERE: Final[Moves] = ((0,), (NONE,))


def _table(pieces: Iterable[tuple[int, int, Term]]) -> Moves:
    """From disjoint, sorted (low, high, next); nothing follows elsewhere."""
    starts: list[int] = []
    nexts: list[Term] = []
    place = 0
    for low, high, following in pieces:
        if place < low:
            starts.append(place)
            nexts.append(NONE)
        starts.append(low)
        nexts.append(following)
        place = high + 1
    if place <= END:
        starts.append(place)
        nexts.append(NONE)
    return tuple(starts), tuple(nexts)


def _words(term: Term, budget: Budget) -> Moves:
    tails: dict[str, set[str]] = {}
    for text in term.parts:
        if text:
            tails.setdefault(text[0], set()).add(text[1:])
    budget.spend(len(term.parts))
    found = sorted((symbol(char), words(frozenset(rest))) for char, rest in tails.items())
    return _table((at, at, following) for at, following in found) if found else _NOWHERE


def _class(term: Term, _: Budget) -> Moves:
    return _table((low, high, EMPTY) for low, high in term.parts)


def _cat(term: Term, budget: Budget) -> Moves:
    tables: list[Moves] = []
    while True:
        first, rest = term.parts
        starts, nexts = moves(first, budget)
        tables.append((starts, tuple(cat(following, rest) for following in nexts)))
        if not first.nullable:
            break
        term = rest
        if term.op != "cat":
            tables.append(moves(term, budget))
            break
    return _merged(tables, either, budget)


def _loop(term: Term, budget: Budget) -> Moves:
    inner, low, high = term.parts
    rest = loop(inner, max(low - 1, 0), None if high is None else high - 1)
    return _mapped(moves(inner, budget), lambda following: cat(following, rest))


def _mapped(table: Moves, change: Callable[[Term], Term]) -> Moves:
    return table[0], tuple(map(change, table[1]))


def _merged(tables: list[Moves], join: Callable[[Iterable[Term]], Term], budget: Budget) -> Moves:
    """The tables joined point by point."""
    if len(tables) == 1:
        return tables[0]
    places = sorted({start for starts, _ in tables for start in starts})
    budget.spend(len(places) * len(tables))
    at = [-1] * len(tables)
    starts: list[int] = []
    nexts: list[Term] = []
    for place in places:
        for number, table in enumerate(tables):
            while at[number] + 1 < len(table[0]) and table[0][at[number] + 1] <= place:
                at[number] += 1
        joined = join(table[1][at[number]] for number, table in enumerate(tables))
        if not nexts or nexts[-1] is not joined:
            starts.append(place)
            nexts.append(joined)
    return tuple(starts), tuple(nexts)


_MOVES: Final[dict[str, Callable[[Term, Budget], Moves]]] = {
    "none": lambda _, __: _NOWHERE,
    "words": _words,
    "class": _class,
    "cat": _cat,
    "loop": _loop,
    "not": lambda term, budget: _mapped(moves(term.parts, budget), complement),
    "or": lambda term, budget: _merged([moves(part, budget) for part in term.parts], either, budget),
    "and": lambda term, budget: _merged([moves(part, budget) for part in term.parts], both, budget),
}


def shortest(term: Term, budget: Budget) -> str | None:
    """A shortest text of the language that is not empty, of the nicest characters; None where there is none.

    Raises Exhausted. Breadth first, so that the answer is the shortest; the states of an empty language are kept as dead.
    """
    if term.found is not None or term.dead:
        return term.found
    seen = {term}
    layer = [(term, "")]
    while layer:
        following: list[tuple[Term, str]] = []
        for state, text in layer:
            for char, target in _steps(state, budget):
                if target.nullable:
                    term.found = text + char
                    return term.found
                if target not in seen and not target.dead:
                    seen.add(target)
                    budget.spend(1)
                    following.append((target, text + char))
        layer = following
    for state in seen:
        state.dead = not state.nullable
    return None


def _steps(state: Term, budget: Budget) -> list[tuple[str, Term]]:
    """Each state that follows, with the nicest character that leads there."""
    starts, nexts = moves(state, budget)
    best: dict[Term, tuple[int, str]] = {}
    for number, target in enumerate(nexts):
        if target is NONE:
            continue
        char = character(starts[number], starts[number + 1] - 1 if number + 1 < len(starts) else END)
        if char is not None and (target not in best or niceness(char) < best[target][0]):
            best[target] = (niceness(char), char)
    return [(char, target) for target, (_, char) in sorted(best.items(), key=lambda item: item[1])]
