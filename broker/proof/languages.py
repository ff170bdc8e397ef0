"""Sets of texts as formulas over plain values and patterns: membership by RE2 itself, emptiness by terms.

The texts are those that are not empty: an empty claim is absent. A pattern that cannot be read (`Opaque`) is a free fact
about a text, the same one wherever the same pattern stands: the set is empty only where it is under every assumption.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any, Final

from broker.policy.conditions import compile_pattern, glob_to_re2, matches
from broker.proof import terms
from broker.proof.syntax import Opaque, glob_term, regex_term
from broker.proof.terms import Budget, Exhausted, Term

MOST_OPAQUE: Final = 4  # in one formula: every assumption about them is tried


@dataclass(frozen=True, slots=True)
class Words:
    """These texts, or with `negated` all others."""

    texts: frozenset[str]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Pattern:
    """What a glob or regex matches, or with `negated` all other texts, those with control characters too.

    A `prefix` is no condition: it is how an issuer kind tells a ref from other text, control characters and all.
    """

    form: str  # glob | regex | prefix
    text: str
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Joined:
    """An intersection (`every`) or a union of other languages."""

    every: bool
    parts: "frozenset[Language]"


Language = Words | Pattern | Joined

NOTHING: Final = Words(frozenset())
ANYTHING: Final = Words(frozenset(), negated=True)


def both(*languages: Language) -> Language:
    """The intersection."""
    return _joined(languages, every=True)


def either(*languages: Language) -> Language:
    """The union."""
    return _joined(languages, every=False)


def complement(language: Language) -> Language:
    """All other texts."""
    match language:
        case Words(texts, negated):
            return Words(texts, not negated)
        case Pattern(form, text, negated):
            return Pattern(form, text, not negated)
        case Joined(every, parts):
            return _joined(map(complement, parts), every=not every)


def _joined(languages: Iterable[Language], *, every: bool) -> Language:
    """Plain values are folded into one set, by the patterns' own word on each of them where the set is finite.

    A union is the same with everything turned round, so it is written as one: `a | b` is `~(~a & ~b)`.
    """
    included: frozenset[str] | None = None  # in an intersection
    excluded: frozenset[str] = frozenset()
    parts: set[Language] = set()
    for language in languages:
        for part in language.parts if isinstance(language, Joined) and language.every == every else (language,):
            if not isinstance(part, Words):
                parts.add(part)
            elif part.negated is every:
                excluded |= part.texts
            else:
                included = part.texts if included is None else included & part.texts
    if included is not None:
        kept = frozenset(text for text in included - excluded if all(contains(part, text) is every for part in parts))
        return Words(kept, negated=not every)
    if any(isinstance(part, Pattern) and Pattern(part.form, part.text, not part.negated) in parts for part in parts):
        return Words(frozenset(), negated=not every)
    if excluded or not parts:
        parts.add(Words(excluded, negated=every))
    return next(iter(parts)) if len(parts) == 1 else Joined(every, frozenset(parts))


def contains(language: Language, text: str) -> bool:
    """Whether a text belongs to it, by RE2's own matching."""
    match language:
        case Words(texts, negated):
            return (text in texts) is not negated
        case Pattern(form, source, negated):
            said = text.startswith(source) if form == "prefix" else matches(_compiled(form, source), text)
            return said is not negated
        case Joined(every, parts):
            return (all if every else any)(contains(part, text) for part in parts)


@lru_cache(maxsize=4096)
def _compiled(form: str, text: str) -> Any:
    return compile_pattern(glob_to_re2(text) if form == "glob" else text)


@lru_cache(maxsize=4096)
def opaque(form: str, text: str) -> str | None:
    """Why a pattern cannot be reasoned about; None where it can."""
    try:
        _term_of(form, text)
    except Opaque as error:
        return str(error)
    return None


def _term_of(form: str, text: str) -> Term:
    if form == "prefix":
        return terms.cat(terms.words(frozenset({text})), terms.ALL)
    return glob_term(text) if form == "glob" else regex_term(text)


def patterns(language: Language) -> Iterator[Pattern]:
    """Every pattern inside."""
    match language:
        case Pattern():
            yield language
        case Joined(_, parts):
            for part in parts:
                yield from patterns(part)
        case Words():
            pass


def literals(language: Language) -> Iterator[str]:
    """Every plain value inside."""
    match language:
        case Words(texts):
            yield from texts
        case Joined(_, parts):
            for part in parts:
                yield from literals(part)
        case Pattern():
            pass


def is_empty(language: Language, budget: Budget) -> bool:
    """Whether it is proved that no text belongs to it. Raises Exhausted."""
    if isinstance(language, Words):
        return not language.texts and not language.negated
    if any(text and contains(language, text) for text in map(_instance, patterns(language))):
        return False  # seen at a glance, and spares the search
    return all(terms.shortest(term, budget) is None for term in _assumed(language))


def texts(language: Language, budget: Budget, hints: Iterable[str] = ()) -> Iterator[str]:
    """Some texts that belong to it, by RE2's own word, the most natural ones first. Raises Exhausted."""
    given = list(hints)
    for text in given:
        if text and contains(language, text):
            yield text
    if isinstance(language, Words) and not language.negated:
        yield from sorted(language.texts, key=lambda text: (len(text), text))
        return
    near = [*given, *sorted(literals(language)), *(_instance(pattern) for pattern in patterns(language))]
    later: list[str] = []
    for text in filter(None, near):
        belonging = [changed for changed in _variants(text) if contains(language, changed)]
        yield from belonging[:1]
        later += belonging[1:]
    for term in _assumed(language):
        found = terms.shortest(term, budget)
        if found is not None and contains(language, found):
            yield found
    yield from later


def _variants(text: str) -> tuple[str, ...]:
    name, _, host = text.partition("@")
    return text, f"{name}-x@{host}" if host else f"{text}-x", text + "x", "x" + text, text + "/x"


def _instance(pattern: Pattern) -> str:
    if pattern.form == "regex":
        return ""
    return pattern.text.replace("**", "x/y").replace("*", "x").replace("?", "x")


def _assumed(language: Language) -> Iterator[Term]:
    """Its term under every assumption about what is opaque."""
    unread = sorted({(p.form, p.text) for p in patterns(language) if opaque(p.form, p.text) is not None})
    if len(unread) > MOST_OPAQUE:
        raise Exhausted
    for outcome in product((True, False), repeat=len(unread)):
        yield _term(language, dict(zip(unread, outcome, strict=True)))


def _term(language: Language, assumed: dict[tuple[str, str], bool]) -> Term:
    if isinstance(language, Joined):
        return (terms.both if language.every else terms.either)([_term(part, assumed) for part in language.parts])
    if isinstance(language, Words):
        term = terms.words(language.texts)
    else:
        known = assumed.get((language.form, language.text))
        # Nothing but printable text matches a pattern, read or not.
        known_as = {None: None, True: terms.PRINTABLE, False: terms.NONE}[known]
        term = known_as or _term_of(language.form, language.text)
    return terms.complement(term) if language.negated else term
