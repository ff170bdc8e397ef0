"""Identifiers that sort by time: a prefix and a UUIDv7 (RFC 9562 section 5.7) in Crockford base32.

`lse_01KAN7Q2J8E5V6W0YB3C9DFGHM`: 26 characters, case-insensitive to read aloud, no I, L, O or U.
"""

import os
import re
import time
from typing import Final

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS: Final = [a + b for a in ALPHABET for b in ALPHABET]  # ten bits at a time: 13 look-ups an id
_SHIFTS: Final = tuple(range(120, -1, -10))
_SHAPE: Final = re.compile(r"(iss|lse|ses|case|evt)_[0-7][0-9A-HJKMNP-TV-Z]{25}")


def uuid7(unix_ms: int | None = None) -> int:
    """A UUIDv7 as an integer; `unix_ms` is only for tests, which need a known order."""
    ms = time.time_ns() // 1_000_000 if unix_ms is None else unix_ms
    random = int.from_bytes(os.urandom(10))
    return (
        (ms & 0xFFFFFFFFFFFF) << 80 | 0x7 << 76 | (random >> 68 & 0xFFF) << 64 | 0x2 << 62 | random & 0x3FFFFFFFFFFFFFFF
    )


def new(prefix: str) -> str:
    """A fresh id such as `new("lse")`."""
    value = uuid7()
    pairs = _PAIRS
    return prefix + "_" + "".join([pairs[value >> shift & 0x3FF] for shift in _SHIFTS])


def is_id(text: str, prefix: str) -> bool:
    """Whether `text` has the shape of an id of this kind; look-ups ask this before they ask the ledger."""
    match = _SHAPE.fullmatch(text)
    return match is not None and match[1] == prefix
