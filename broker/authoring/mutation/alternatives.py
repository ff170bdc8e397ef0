"""What a stranger might come with instead of a value that a policy trusts: the likeliest attack first.

Candidates only. Whoever asks tries each against the statements; a bad one costs time and nothing else.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from broker.authoring.write.origins import Leaf, at
from broker.authoring.write.sibling import another
from broker.issuers.seam import IssuerKind

_LITERAL: Final = re.compile(r""""((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|\b([0-9]{1,18})\b""")
_ID: Final = re.compile(r"[0-9a-fA-F{}-]*[0-9][0-9a-fA-F{}-]*")
_BREAKS: Final = re.compile(r"[-_/.:@]")
MOST_LITERALS: Final = 16


@dataclass(frozen=True, slots=True)
class Literals:
    """What a CEL expression compares with."""

    texts: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()

    @classmethod
    def of(cls, source: str) -> "Literals":
        """In the order in which they stand, each once."""
        found = list(_LITERAL.finditer(source))[:MOST_LITERALS]
        texts = [one[1] or one[2] for one in found if one[1] or one[2]]
        return cls(tuple(dict.fromkeys(texts)), tuple(dict.fromkeys(int(one[3]) for one in found if one[3])))


def alternatives(kind: IssuerKind, leaf: Leaf, value: Any, spec: Any, literals: Literals) -> Iterator[Any]:
    """Other values of the claim at `leaf`, by what it is now, the condition on it, and an expression's literals."""
    yield from _let_in(spec)
    match value:
        case bool():
            yield not value
        case str() if value in {"true", "false"}:
            yield "false" if value == "true" else "true"
        case str():
            yield from _of_text(value, spec, literals.texts)
        case list():
            yield from (["mallory"], [], *([[*value[:-1], f"{value[-1]}-evil"], value[:-1]] if value else ()))
        case int():
            yield value + 1
        case _:
            pass
    for number in literals.numbers:
        yield from (
            (number - 1, number, number + 1) if type(value) is int else (str(number - 1), str(number), str(number + 1))
        )
    yield from literals.texts
    yield from (text + "-evil" for text in _texts(spec))
    yield from (at(shown, leaf) for shown in kind.examples.values())
    yield from ((None,) if value is not None else ("other", True, "true"))


def _let_in(spec: Any) -> Iterator[Any]:
    """What `not` keeps out."""
    forbidden = spec.get("not") if isinstance(spec, Mapping) else None
    for item in forbidden if isinstance(forbidden, list) else [forbidden]:
        if isinstance(item, str | int | float | bool):
            yield item


def _of_text(value: str, spec: Any, texts: Sequence[str]) -> Iterator[str]:
    if _ID.fullmatch(value):
        yield another(value)
    yield value + "-evil"
    if value.endswith("/"):  # a job's URL
        yield value[:-1] + "-evil/"
    yield another(value)
    for glob in _globs(spec):  # one segment more, where `*` keeps it to one
        before = re.split(r"[*?]", glob, maxsplit=1)[0]
        if value.startswith(before):
            yield f"{before}x/{value[len(before) :]}"
        for place, character in enumerate(glob):
            if character in "*?":
                filled = glob[:place] + ("x/y" if character == "*" else "xy") + glob[place + 1 :]
                yield filled.replace("*", "x").replace("?", "x")
    before, _, last = value.rpartition("/")
    yield from (f"{before}/other" if before else "other", "mallory/" + value, f"{before}/x/{last}")
    for text in texts:
        yield from (value + text, text + value)
        yield from (value[: one.start()] + text + value[one.start() :] for one in _BREAKS.finditer(value))


def _globs(spec: Any) -> Iterator[str]:
    for item in spec if isinstance(spec, list) else [spec]:
        if isinstance(item, Mapping) and isinstance(item.get("glob"), str):
            yield item["glob"]


def _texts(spec: Any) -> Iterator[str]:
    for item in spec if isinstance(spec, list) else [spec]:
        if isinstance(item, str):
            yield item
