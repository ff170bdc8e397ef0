"""RFC 8785 canonical JSON: one value, one sequence of bytes, so that a hash speaks about the value.

* The `rfc8785` library decides what canonical means. orjson, thirty times faster, takes over only for values where both
  provably write the same bytes: no floats, whole numbers inside +-(2^53 - 1), string keys, no key outside the Basic
  Multilingual Plane (UTF-16 order is then code point order), no surrogates. tests/property holds the two together.
* `recordable` makes any JSON value canonicalisable, because a claim must not be able to stop its own record.
"""

import contextlib
import math
import re
from collections.abc import Mapping
from typing import Any, Final

import orjson
import rfc8785

LARGEST: Final = 2**53 - 1  # RFC 8785 section 3.2.2.3: what every reader of JSON takes for the same number

_OPTIONS: Final = (
    orjson.OPT_SORT_KEYS  # by UTF-8, which is by code point
    | orjson.OPT_STRICT_INTEGER  # 2^53 - 1 is the largest
    | orjson.OPT_PASSTHROUGH_SUBCLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_DATACLASS
)
_UNORDERED: Final = re.compile(rb"[\xf0-\xf4]")  # a character beyond the BMP begins so in UTF-8, and nothing else does
_PLAIN: Final = frozenset({str, bool, int, type(None)})


def dumps(value: Any) -> bytes:
    """The canonical bytes. Raises ValueError for what JSON or RFC 8785 cannot say (NaN, 2^53, a lone surrogate)."""
    if _same(value):
        with contextlib.suppress(orjson.JSONEncodeError):  # then the library says what is wrong
            written = orjson.dumps(value, option=_OPTIONS)
            if written.isascii() or not _UNORDERED.search(written):
                return written
    return rfc8785.dumps(value)


def recordable(value: Any) -> Any:
    """The same value, with what RFC 8785 refuses written as text: numbers as digits, lone surrogates as U+FFFD."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, Mapping):
        return {recordable(str(key)): recordable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [recordable(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > LARGEST:
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _same(value: Any) -> bool:
    """Whether both encoders write this value alike, as far as its types tell; the fast one looks at numbers and keys itself."""
    kind = type(value)
    if kind is dict:
        items = value.values()
    elif kind is list:
        items = value
    else:
        return kind in _PLAIN
    if _PLAIN.issuperset(map(type, items)):  # most objects: one pass in C
        return True
    for item in items:  # noqa: SIM110  a loop is faster than all() over a generator, and this is the hot path
        if type(item) not in _PLAIN and not _same(item):
            return False
    return True
