"""What a condition leaves open, read from its words: the patterns in it, and how much of a value each writes out."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

_META: Final = frozenset("\\^$.|?*+()[]{}")
_STARS: Final = ("*", "**")
_LITERAL: Final = re.compile(r"\\([^A-Za-z0-9])")


@dataclass(frozen=True, slots=True)
class Open:
    """One pattern of a condition: its form, as it is written, and the text that every value it admits begins with."""

    form: str  # glob, regex or not
    written: str
    prefix: str

    @property
    def shown(self) -> str:
        return f'{{{self.form}: "{self.written}"}}' if self.form != "not" else f"{{not: {self.written}}}"


def opens(spec: Any) -> Iterator[Open]:
    """Every pattern in a condition's spec, alternatives included. A `not` is a pattern that begins with nothing."""
    if isinstance(spec, list):
        for item in spec:
            yield from opens(item)
    elif isinstance(spec, Mapping):
        ((form, inner),) = spec.items()
        if form == "glob":
            if len(prefix := re.split(r"[*?]", inner, maxsplit=1)[0]) < len(inner):
                yield Open(form, inner, prefix)
        elif form == "regex":
            if any(_LITERAL.sub("", inner).find(sign) >= 0 for sign in _META):
                yield Open(form, inner, regex_prefix(inner))
        elif form == "contains":
            yield from opens(inner)
        elif form == "not":
            yield Open("not", str(inner), "")


def regex_prefix(pattern: str) -> str:
    """The text that every match of an RE2 pattern begins with, as far as it is plain to see; never too long."""
    text = pattern.removeprefix("^").removeprefix("\\A")
    if "|" in text:  # any alternative may begin otherwise
        return ""
    prefix: list[str] = []
    place = 0
    while place < len(text):
        escaped = _LITERAL.match(text, place)
        if escaped:
            sign, after = escaped[1], escaped.end()
        elif text[place] not in _META:
            sign, after = text[place], place + 1
        else:
            break
        if text[after : after + 1] in {"*", "?", "+", "{"} and text[after : after + 1]:
            break  # this one may be missing or repeated
        prefix.append(sign)
        place = after
    return "".join(prefix)


def overlap(one: str, other: str) -> bool:
    """Whether some text matches both globs; `*` and `?` stay inside a `/` segment, `**` crosses."""
    left, right = _parts(one), _parts(other)
    # meets[j]: whether what is left of both, from i and from j on, can be the same text. Row by row, from the end.
    below: list[bool] = []
    for i in range(len(left), -1, -1):
        meets = [False] * (len(right) + 1)
        for j in range(len(right), -1, -1):
            a, b = left[i : i + 1], right[j : j + 1]
            if not a and not b:
                meets[j] = True
            elif a and a[0] in _STARS:  # the star ends here, or takes what the other side has next
                meets[j] = below[j] or bool(b and _takes(a[0], b[0]) and meets[j + 1])
            elif b and b[0] in _STARS:
                meets[j] = meets[j + 1] or bool(a and _takes(b[0], a[0]) and below[j])
            elif a and b:
                meets[j] = below[j + 1] and (a == b or (a[0] == "?" and b[0] != "/") or (b[0] == "?" and a[0] != "/"))
        below = meets
    return below[0]


def _takes(star: str, part: str) -> bool:
    """Whether a star can cover one part of the other side."""
    return star == "**" or part != "/"


def _parts(glob: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\*\*|\*|\?|.", glob, re.DOTALL))
