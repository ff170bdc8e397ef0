"""Lengths of time as people write them: `30s`, `15m`, `6h`, `1d`.

One whole number and one unit. Zero, negative, fractional and compound lengths are refused: each has been read in two
ways by two programs before, and a TTL read wrongly is a credential that lives too long.
"""

import re
from datetime import timedelta
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

PATTERN: Final = r"[1-9][0-9]{0,6}[smhd]"
_SHAPE: Final = re.compile(PATTERN)
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
LONGEST: Final = timedelta(days=3650)


def parse(text: str) -> timedelta:
    """`parse("15m") == timedelta(minutes=15)`. Raises ValueError with what to write instead."""
    if _SHAPE.fullmatch(text) is None:
        raise ValueError('a length of time is a whole number above zero and one of s, m, h, d, such as "15m"')
    length = timedelta(**{_UNITS[text[-1]]: int(text[:-1])})
    if length > LONGEST:
        raise ValueError("a length of time is at most ten years (3650d)")
    return length


def render(length: timedelta) -> str:
    """The shortest text that `parse` reads back: `render(timedelta(hours=2)) == "2h"`. Whole seconds only."""
    seconds = int(length.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds % size == 0 and seconds:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _read(value: Any) -> timedelta:
    if isinstance(value, timedelta):  # from code, not from a file
        return value
    if not isinstance(value, str):
        raise ValueError('write a length of time as text with a unit, such as "15m"')  # noqa: TRY004  pydantic wants it
    return parse(value)


Duration = Annotated[
    timedelta,
    BeforeValidator(_read),
    PlainSerializer(render, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^{PATTERN}$", "examples": ["15m"]}),
]
"""A pydantic field that takes `"15m"`; its JSON schema says so to editors."""
