"""Every way to loosen one part of a trust statement: what mutation testing asks of each, whether an example would notice.

Each result admits all that the original admits, and (unless it is equivalent, which a proof finds out) something more.
"""

from collections.abc import Iterator
from typing import Any, Final

import re2

from broker.policy.conditions import LONGEST_PATTERN, LONGEST_VALUE

Weaker = tuple[str, Any]  # what was done, in a few words; and the condition that is left, DROPPED for none
DROPPED: Final = object()
_ANY_TEXT: Final = {"not": {"regex": "[^\\x00-\\x{10FFFF}]"}}  # unlike {regex: ".*"}, one with control characters, too
_OPEN, _CLOSED = frozenset("([{"), frozenset(")]}")


def weaker(spec: Any, *, extends: bool) -> Iterator[Weaker]:
    """Looser forms of a condition, the least loose first. `extends`: somebody may choose a longer value, as of a name."""
    yield from _narrowly(spec, extends=extends)
    match spec:
        case {"contains": inner} if _of_text(inner) and inner != _ANY_TEXT:
            yield "any list with a text in it", {"contains": _ANY_TEXT}
        case _ if _of_text(spec) and spec != _ANY_TEXT:
            yield "any text", _ANY_TEXT
        case _:
            pass
    yield "no condition", DROPPED


def _narrowly(spec: Any, *, extends: bool) -> Iterator[Weaker]:
    match spec:
        case str() if extends:
            longer = _longer(spec)
            if longer is not None:
                yield f"{spec} and what begins so", longer
        case list():
            for number, item in enumerate(spec):
                for said, other in _narrowly(item, extends=extends):
                    yield said, [*spec[:number], other, *spec[number + 1 :]]
        case {"glob": str(glob)}:
            yield from ((f"{other}", {"glob": other}) for other in _looser_globs(glob, extends=extends))
        case {"not": list(items)} if len(items) > 1:
            for number, item in enumerate(items):
                yield f"{_shown(item)} is let in", {"not": [*items[:number], *items[number + 1 :]]}
        case {"contains": inner}:
            for said, other in _narrowly(inner, extends=extends):
                yield said, {"contains": other}
        case _:
            pass


def _longer(value: str) -> dict[str, str] | None:
    """What begins like the value, within its last segment: `refs/heads/main` is the beginning of `refs/heads/main-evil`."""
    if len(value) > min(LONGEST_VALUE, LONGEST_PATTERN) - 1 or not value.isprintable():
        return None
    if set(value) & set("*?"):  # a glob has no way to say these
        return {"regex": re2.escape(value) + "[^/]*"}
    return {"glob": value + "*"}


def _looser_globs(glob: str, *, extends: bool) -> Iterator[str]:
    for place, character in enumerate(glob):
        alone = character == "*" and glob[place - 1 : place] != "*" and glob[place + 1 : place + 2] != "*"
        if alone:
            yield glob[:place] + "**" + glob[place + 1 :]
        elif character == "?":
            other = glob[:place] + "*" + glob[place + 1 :]
            if "***" not in other:
                yield other
    if extends and not glob.endswith("*"):
        yield glob + "*"


def _of_text(spec: Any) -> bool:
    """Whether all that satisfies the condition is text, and no absence: then any text is looser."""
    match spec:
        case str():
            return True
        case list():
            return all(_of_text(item) for item in spec)
        case {"glob": _} | {"regex": _}:
            return True
        case {"not": inner}:
            return _of_text(inner)
        case _:
            return False


def _shown(item: Any) -> str:
    return item if isinstance(item, str) else str(item)


def operands(source: str) -> list[str]:
    """The parts that a CEL expression joins by && at its top; the expression itself where it is no such thing."""
    parts: list[str] = []
    depth = start = place = 0
    quote = ""
    while place < len(source):
        character = source[place]
        if quote:
            if character == "\\":
                place += 1
            elif character == quote:
                quote = ""
        elif character in "\"'":
            quote = character
        elif character in _OPEN:
            depth += 1
        elif character in _CLOSED:
            depth -= 1
        elif depth == 0 and (character == "?" or source.startswith("||", place)):
            return [source]  # && binds stronger than these: its operands are not the whole expression's
        elif depth == 0 and source.startswith("&&", place):
            parts.append(source[start:place].strip())
            place += 1
            start = place + 1
        place += 1
    return [*parts, source[start:].strip()]
