"""The alphabet of the proofs: every code point as a symbol, those that a glob or a regex can match in one run of integers.

* Patterns never match text with a non-printable character (broker.policy.conditions.matches), so a pattern's class is a
  set of ranks among the printable code points. Printable ASCII has the ranks 0 to 94; `LAST` stands for the end of the
  run, whatever Unicode version Python knows. The others, lone surrogates too, come behind it, in their own order.
* What a class matches is asked of RE2 itself, over all printable text: its tables and its case folding, never a guess.
  Only ASCII classes without flags are read here, because asking takes a tenth of a second the first time.
"""

import re
from bisect import bisect_left
from functools import cache, lru_cache
from typing import Final

import re2

Ranges = tuple[tuple[int, int], ...]  # symbols, both ends inclusive, sorted, apart

LAST: Final = 1 << 20
END: Final = LAST + 0x110000
ANY: Final[Ranges] = ((0, LAST),)
_ASCII: Final = 95  # printable ones
_SPACE: Final = 32
_SAFE: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_/.:@+~=, #!%&*()$?|<>;'\"{}`")
_GROUPS: Final = {"d": "0123456789", "s": " "}
_GROUPS["w"] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_" + _GROUPS["d"]
_ITEM: Final = re.compile(r"\\([dws])|(?:\\([^A-Za-z0-9\s])|([^\\\[\]^-]))(?:-([A-Za-z0-9]))?|(-)(?=$)", re.ASCII)
# What a person would write comes first, in a witness.
_LIKED: Final = "xabcdefghijklmnopqrstuvwyz1023456789XABCDEFGHIJKLMNOPQRSTUVWYZ-_./"


@cache
def printable() -> str:
    """Every printable code point, in order. A tenth of a second, once."""
    return "".join(filter(str.isprintable, map(chr, range(0x110000))))


def symbol(char: str) -> int:
    """The symbol of one code point."""
    if " " <= char <= "~":
        return ord(char) - _SPACE
    return bisect_left(printable(), char) if char.isprintable() else LAST + 1 + ord(char)


def character(low: int, high: int) -> str | None:
    """The best character to show of these symbols; None where no code point has one of them."""
    if low < _ASCII:
        return _shown(low, min(high, _ASCII - 1))
    if low <= LAST:
        rest = printable()
        if low < len(rest):
            return rest[low]
        low = LAST + 1
    for code in range(low - LAST - 1, min(high - LAST, 0x110000)):
        if not chr(code).isprintable():
            return chr(code)
    return None


def niceness(char: str) -> int:
    """How unlike a person's text a character is; 0 is best."""
    at = _LIKED.find(char)
    return at if at >= 0 else len(_LIKED) + ord(char)


@lru_cache(maxsize=4096)
def _shown(low: int, high: int) -> str:
    liked = next((char for char in _LIKED if low <= ord(char) - _SPACE <= high), None)
    return liked or chr(low + _SPACE)


@lru_cache(maxsize=1024)
def ranges(source: str, *, fold: bool = False) -> Ranges:
    r"""The printable symbols that a one-character RE2 expression matches: `[^/]`, `\pL`, `(?i)k` with `fold`."""
    if not fold and (simple := _simple(source)) is not None:
        return simple
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    everything = printable()
    pattern = re2.compile(f"(?{'i' if fold else 's'}:(?:{source})+)", options)
    spans = [match.span() for match in pattern.finditer(everything)]
    # The last printable code point stands for the run's end, or a class could end just before symbols of nothing.
    return tuple((low, LAST if high == len(everything) else high - 1) for low, high in spans)


def _simple(source: str) -> Ranges | None:
    if source == ".":
        return ANY
    if len(source) == 2 and source[0] == "\\" and source[1].lower() in _GROUPS:  # noqa: PLR2004  a backslash and a letter
        return _of(set(_GROUPS[source[1].lower()]), negated=source[1].isupper())
    if not (source.startswith("[") and source.endswith("]") and source.isascii()):
        return None
    body = source[1:-1]
    negated = body.startswith("^")
    body = body[negated:]
    chars: set[str] = set()
    place = 0
    while place < len(body):
        item = _ITEM.match(body, place)
        if item is None:
            return None
        group, escaped, plain, upto, dash = item.groups()
        first = escaped or plain or dash
        if group:
            chars |= set(_GROUPS[group])
        elif upto:
            if not (first.isalnum() and first <= upto):
                return None
            chars |= {chr(code) for code in range(ord(first), ord(upto) + 1)}
        elif escaped or dash or plain in _SAFE:
            chars.add(first)
        else:
            return None
        place = item.end()
    return _of(chars, negated=negated) if chars and all(" " <= char <= "~" for char in chars) else None


def _of(chars: set[str], *, negated: bool) -> Ranges:
    spans: list[tuple[int, int]] = []
    for code in sorted(ord(char) - _SPACE for char in chars):
        if spans and spans[-1][1] == code - 1:
            spans[-1] = (spans[-1][0], code)
        else:
            spans.append((code, code))
    return inverse(tuple(spans)) if negated else tuple(spans)


def inverse(spans: Ranges) -> Ranges:
    """The printable symbols outside."""
    found, start = [], 0
    for low, high in spans:
        if start < low:
            found.append((start, low - 1))
        start = high + 1
    if start <= LAST:
        found.append((start, LAST))
    return tuple(found)
