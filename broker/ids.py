"""Identifiers that sort by time: a prefix and a UUIDv7 (RFC 9562 section 5.7) in Crockford base32.

`lse_01KAN7Q2J8E5V6W0YB3C9DFGHM`: 26 characters, case-insensitive to read aloud, no I, L, O or U.
"""

import os
import re
import time
from typing import Final

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS: Final = [a + b for a in ALPHABET for b in ALPHABET]  # ten bits at a time: 13 look-ups an id
_TIME: Final = range(40, -1, -10)  # the first ten characters are the 48 bits of time
_SHAPE: Final = re.compile(r"(iss|lse|ses|case|evt)_[0-7][0-9A-HJKMNP-TV-Z]{25}")


def new(prefix: str) -> str:
    """A fresh id such as `new("lse")`."""
    return prefix + "_" + encode(time.time_ns() // 1_000_000, os.urandom(10))


def encode(unix_ms: int, random: bytes) -> str:
    """The 26 characters of the UUIDv7 of an instant and 80 random bits, of which 74 are used."""
    bits = int.from_bytes(random) & 0x0FFF_3FFF_FFFF_FFFF_FFFF | 0x7000_8000_0000_0000_0000  # version 7, variant 2
    pairs = _PAIRS
    # Written out, because an issuance makes four ids: a loop takes half as long again.
    return (
        _instant(unix_ms)
        + pairs[bits >> 70]
        + pairs[bits >> 60 & 0x3FF]
        + pairs[bits >> 50 & 0x3FF]
        + pairs[bits >> 40 & 0x3FF]
        + pairs[bits >> 30 & 0x3FF]
        + pairs[bits >> 20 & 0x3FF]
        + pairs[bits >> 10 & 0x3FF]
        + pairs[bits & 0x3FF]
    )


_last: tuple[int, str] = (-1, "")


def _instant(unix_ms: int) -> str:
    """The first ten characters; ids of one millisecond share them, and one request makes several."""
    global _last  # noqa: PLW0603  a cache of one
    known, text = _last
    if known != unix_ms:
        text = "".join([_PAIRS[unix_ms >> shift & 0x3FF] for shift in _TIME])
        _last = (unix_ms, text)
    return text


def first_of(prefix: str, unix_ms: int) -> str:
    """The least id of an instant: what ids of one prefix are compared with to find those since then."""
    return prefix + "_" + encode(max(unix_ms, 0), bytes(10))


def made_at(id_: str) -> int:
    """The unix milliseconds in an id, whose shape `is_id` has told to be one."""
    return sum(ALPHABET.index(letter) << 5 * (9 - at) for at, letter in enumerate(id_.partition("_")[2][:10]))


def is_id(text: str, prefix: str) -> bool:
    """Whether `text` has the shape of an id of this kind; look-ups ask this before they ask the ledger."""
    match = _SHAPE.fullmatch(text)
    return match is not None and match[1] == prefix
