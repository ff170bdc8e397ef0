"""From the globs and regexes of trust policies to terms, exactly as RE2 reads them.

Only the shape of a pattern is read here; what a class matches is RE2's own word (broker.proof.alphabet). Whatever is
beyond this reader raises `Opaque`: word boundaries, anchors inside, single bytes. A pattern that is read wrongly would
make a proof worthless, so tests compare every construct with RE2, text by text.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import re2

from broker.policy.conditions import compile_pattern
from broker.proof.alphabet import ranges
from broker.proof.terms import EMPTY, NONE, Term, cat, either, loop, one_of, words

DEEPEST: Final = 60  # groups inside groups
_FLAGS: Final = re.compile(r"\?([imsU]*)(?:-([imsU]+))?([:)])")
_NAME: Final = re.compile(r"\?P?<[^>]*>")
_REPEAT: Final = re.compile(r"\{([0-9]+)(?:(,)([0-9]*))?\}")
_CODE: Final = re.compile(r"x\{([0-9A-Fa-f]+)\}|x([0-9A-Fa-f]{2})|([0-7]{1,3})")
_PROPERTY: Final = re.compile(r"[pP](?:\{[^}]*\}|.)")
_CONTROL: Final = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_TIMES: Final[dict[str, tuple[int, int | None]]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}


class Opaque(ValueError):
    """A pattern whose language is not read here; the message says which part, for people."""


@lru_cache(maxsize=4096)
def glob_term(text: str) -> Term:
    """The texts that a glob matches."""
    parts: list[_Node] = []
    for item in re.findall(r"\*\*|[*?]|[^*?]+", text):
        match item:
            case "**":
                parts.append(_Loop(_Class("."), 0, None))
            case "*":
                parts.append(_Loop(_Class("[^/]"), 0, None))
            case "?":
                parts.append(_Class("[^/]"))
            case _:
                parts.append(_Text(item))
    return _built(_Sequence(parts), first=True, last=True)


@lru_cache(maxsize=4096)
def regex_term(text: str) -> Term:
    """The printable texts that a regex matches whole. Raises Opaque, and ValueError for what is no RE2 pattern."""
    compile_pattern(text)
    return _built(_Reader(text).whole(), first=True, last=True)


@dataclass(frozen=True, slots=True)
class _Text:
    text: str


@dataclass(frozen=True, slots=True)
class _Class:
    source: str  # a one-character RE2 expression
    fold: bool = False  # under (?i)


@dataclass(frozen=True, slots=True)
class _Anchor:
    end: bool  # of the text, not its beginning


@dataclass(frozen=True, slots=True)
class _Sequence:
    items: "list[_Node]"


@dataclass(frozen=True, slots=True)
class _Choice:
    items: "list[_Node]"


@dataclass(frozen=True, slots=True)
class _Loop:
    item: "_Node"
    low: int
    high: int | None


_Node = _Text | _Class | _Anchor | _Sequence | _Choice | _Loop


class _Reader:
    """Recursive descent over one pattern. RE2 has compiled it, so it is well formed; only its meaning is asked here."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0

    def whole(self) -> _Node:
        node = self._choice(0, fold=False)
        if self.place < len(self.text):
            raise Opaque(f"the part from {self.text[self.place :]!r}")
        return node

    def _choice(self, depth: int, *, fold: bool) -> _Node:
        """Up to the end or a closing parenthesis. `(?i)` holds from where it stands to the end of its group."""
        if depth > DEEPEST:
            raise Opaque("groups nested too deeply")
        choices: list[list[_Node]] = [[]]
        while self.place < len(self.text) and self.text[self.place] != ")":
            char = self.text[self.place]
            if char == "|":
                self.place += 1
                choices.append([])
                continue
            flags = _FLAGS.match(self.text, self.place + 1) if char == "(" else None
            if flags is not None and flags[3] == ")":
                self.place = flags.end()
                fold = _folds(flags, fold=fold)
            elif char in "*+?" or (char == "{" and _REPEAT.match(self.text, self.place)):
                choices[-1][-1:] = [self._repeated(choices[-1])]
            else:
                choices[-1].extend(self._item(depth, flags, fold=fold))
        return _Choice([_Sequence(items) for items in choices]) if len(choices) > 1 else _Sequence(choices[0])

    def _repeated(self, before: list[_Node]) -> _Node:
        if not before:
            raise Opaque(f"a repetition of nothing at {self.text[self.place :]!r}")
        if self.text[self.place] == "{":
            repeat = _REPEAT.match(self.text, self.place)
            assert repeat is not None
            low = int(repeat[1])
            high = low if repeat[2] is None else int(repeat[3]) if repeat[3] else None
            self.place = repeat.end()
        else:
            low, high = _TIMES[self.text[self.place]]
            self.place += 1
        if self.text[self.place : self.place + 1] == "?":  # which of several matches comes first is all the same here
            self.place += 1
        return _Loop(before[-1], low, high)

    def _item(self, depth: int, flags: re.Match[str] | None, *, fold: bool) -> list[_Node]:
        char = self.text[self.place]
        match char:
            case "(":
                return [self._group(depth, flags, fold=fold)]
            case "[":
                return [_Class(self._brackets(), fold)]
            case "\\":
                return self._escape(fold=fold)
            case ".":
                node: _Node = _Class(".")
            case "^" | "$":  # with or without (?m): there is no newline in printable text
                node = _Anchor(end=char == "$")
            case _:
                node = _char(char, fold=fold)
        self.place += 1
        return [node]

    def _group(self, depth: int, flags: re.Match[str] | None, *, fold: bool) -> _Node:
        self.place += 1
        if flags is not None:
            self.place = flags.end()
            fold = _folds(flags, fold=fold)
        elif name := _NAME.match(self.text, self.place):
            self.place = name.end()
        elif self.text.startswith("?", self.place):
            raise Opaque(f"the group at {self.text[self.place - 1 :]!r}")
        node = self._choice(depth + 1, fold=fold)
        self.place += 1
        return node

    def _brackets(self) -> str:
        """The source of a class, with its brackets."""
        start = self.place
        self.place += 1
        if self.text.startswith("^", self.place):
            self.place += 1
        first = True
        while first or self.text[self.place] != "]":
            first = False
            if self.text[self.place] == "\\":
                self.place += 1
                item = _PROPERTY.match(self.text, self.place) or _CODE.match(self.text, self.place)
                self.place = item.end() if item else self.place + 1
            elif self.text.startswith("[:", self.place) and (end := self.text.find(":]", self.place + 2)) >= 0:
                self.place = end + 2
            else:
                self.place += 1
        self.place += 1
        return self.text[start : self.place]

    def _escape(self, *, fold: bool) -> list[_Node]:
        start = self.place
        self.place += 1
        char = self.text[self.place]
        if found := _PROPERTY.match(self.text, self.place):
            self.place = found.end()
            return [_Class(self.text[start : self.place], fold)]
        if found := _CODE.match(self.text, self.place):
            self.place = found.end()
            code = int(found[3], 8) if found[3] else int(found[1] or found[2], 16)
            return [_char(chr(code), fold=fold)]
        self.place += 1
        match char:
            case "d" | "D" | "s" | "S" | "w" | "W":
                return [_Class("\\" + char, fold)]
            case "A" | "z":
                return [_Anchor(end=char == "z")]
            case "Q":
                text, _, _ = self.text[self.place :].partition("\\E")
                self.place = min(self.place + len(text) + 2, len(self.text))
                return [_char(one, fold=fold) for one in text]
            case _:
                pass
        if char in _CONTROL:
            return [_char(_CONTROL[char], fold=fold)]
        if char.isascii() and not char.isalnum():
            return [_char(char, fold=fold)]
        raise Opaque({"b": "the word boundary \\b", "B": "\\B"}.get(char, f"\\{char}"))


def _folds(flags: re.Match[str], *, fold: bool) -> bool:
    return (fold or "i" in flags[1]) and "i" not in (flags[2] or "")


def _char(char: str, *, fold: bool) -> _Node:
    if fold and (char.isalpha() or not char.isascii()) and char.isprintable():
        return _Class(re2.escape(char), fold=True)
    return _Text(char)


def _built(node: _Node, *, first: bool, last: bool) -> Term:
    """The term. `first`: nothing can stand before this node, so `^` holds there; `last` in the same way."""
    match node:
        case _Text(text):
            return words(frozenset({text})) if text.isprintable() else NONE
        case _Class(source, fold):
            return one_of(ranges(source, fold=fold))
        case _Anchor(end):
            if last if end else first:
                return EMPTY
            raise Opaque("an anchor (^ or $) inside")
        case _Choice(items):
            return either([_built(item, first=first, last=last) for item in items])
        case _Loop(item, low, high):
            once = high == 1
            return loop(_built(item, first=first and once, last=last and once), low, high)
        case _Sequence(items):
            return _sequence(items, first=first, last=last)


def _sequence(items: list[_Node], *, first: bool, last: bool) -> Term:
    parts: list[Term] = []
    heads = next((at for at, item in enumerate(items) if not isinstance(item, _Anchor)), len(items))
    tails = next((at for at, item in enumerate(reversed(items)) if not isinstance(item, _Anchor)), len(items))
    run = ""
    for at, item in enumerate(items):
        if isinstance(item, _Text) and item.text.isprintable():
            run += item.text
            continue
        if run:
            parts.append(words(frozenset({run})))
            run = ""
        parts.append(_built(item, first=first and at <= heads, last=last and at >= len(items) - 1 - tails))
    if run:
        parts.append(words(frozenset({run})))
    term = EMPTY
    for part in reversed(parts):
        term = cat(part, term)
    return term
