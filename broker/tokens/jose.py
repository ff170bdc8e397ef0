"""Strict parsing of a compact JWS: hostile bytes in, three checked parts out. No cryptography here.

* Nothing over 16 KiB is looked at. Exactly three parts, of base64url as RFC 7515 section 2 writes it: no padding, no other
  alphabet, no unused bits set. So one token has one spelling, and its hash is its identity.
* JSON as RFC 7493 (I-JSON) wants it: UTF-8, objects at the top, no member twice, no NaN, no number two parsers would read
  differently, no lone surrogate, no NUL, little depth.
* The header holds `alg`, `kid`, `typ`, `x5t` and `x5t#S256`, and nothing else: no key may come with the token (`jwk`, `jku`,
  `x5u`, `x5c`), nothing may change how it is read (`crit`, `b64`, `zip`, `cty`). RFC 8725 section 3.
* Whatever the bytes, the only exception is Malformed, whose text quotes none of them.
"""

import json
import math
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import orjson

LARGEST_TOKEN: Final = 16_384
DEEPEST: Final = 8
LARGEST_INT: Final = (1 << 53) - 1  # RFC 7493 section 2.2; RFC 8785, and so the ledger, can hold no larger one

_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_TO_STANDARD: Final = bytes.maketrans(b"-_+/=", b"+/!!!")  # what is no base64url becomes what is no base64
_NOT_BASE64URL: Final = "a part of the token is not base64url (RFC 7515 section 2); send the CI's JWT as it is"
# By length modulo four: what to append, and which last characters leave the unused bits at zero.
_PADDING: Final = (b"", b"", b"==", b"=")
_LAST: Final = (_ALPHABET, b"", _ALPHABET[::16], _ALPHABET[::4])
_HEADER: Final = frozenset({"alg", "kid", "typ", "x5t", "x5t#S256"})
_LONGEST_KID: Final = 255
_NO_NUMBER: Final = frozenset({bool, type(None)})


class Malformed(ValueError):
    """Not a token this broker reads. `args[0]` is one sentence for the caller."""


@dataclass(frozen=True, slots=True)
class Header:
    """The protected header: unverified until the signature is."""

    alg: str
    kid: str | None
    typ: str | None  # lower case


@dataclass(slots=True)  # not frozen, which would cost a microsecond a token
class UnverifiedToken:
    """A token whose structure is sound. Nothing in it may be believed yet; `claims` only chooses whom to ask for keys."""

    header: Header
    claims: dict[str, Any]
    signed: bytes  # header.payload, what the signature covers
    signature: bytes
    header_segment: bytes


def parse(unverified_jwt: str, headers: Mapping[bytes, Header]) -> UnverifiedToken:
    """Take a compact JWS apart. `headers` are parsed headers of tokens that verified before; they repeat for weeks.

    Raises Malformed.
    """
    if len(unverified_jwt) > LARGEST_TOKEN:
        raise Malformed(f"the token is larger than {LARGEST_TOKEN >> 10} KiB")
    try:
        token = unverified_jwt.encode("ascii")
    except UnicodeEncodeError:
        raise Malformed("the token is not plain ASCII; send the CI's JWT as it is") from None
    parts = token.split(b".")
    if len(parts) != 3:  # noqa: PLR2004  RFC 7515 section 3.1
        raise Malformed("the token is not a signed JWT (three parts between dots); send the CI's JWT as it is")
    head, payload, signature = parts
    header = headers.get(head)
    if header is None:
        header = _header(decode_object(decode(head), "header"))
    claims = decode_object(decode(payload), "payload")
    return UnverifiedToken(header, claims, token[: len(head) + 1 + len(payload)], decode(signature), head)


def decode(segment: bytes) -> bytes:
    """base64url, one spelling only. Raises Malformed."""
    rest = len(segment) & 3
    if not segment or segment[-1] not in _LAST[rest]:
        raise Malformed(_NOT_BASE64URL)
    try:
        return a2b_base64(segment.translate(_TO_STANDARD) + _PADDING[rest], strict_mode=True)
    except Base64Error:
        raise Malformed(_NOT_BASE64URL) from None


def decode_object(data: bytes, what: str, *, deepest: int = DEEPEST) -> dict[str, Any]:
    """A JSON object of hostile origin; `what` names it in the error. Raises Malformed."""
    plain = _plain_object(data)
    if plain is not None:
        return plain
    try:
        text = data.decode("utf-8")
        value = _STRICT.decode(text)
    except UnicodeDecodeError:
        raise Malformed(f"the token's {what} is not UTF-8") from None
    except Malformed:
        raise
    except (ValueError, RecursionError):  # RecursionError: depth that the stack would have to pay for
        raise Malformed(f"the token's {what} is not JSON (RFC 8259)") from None
    if type(value) is not dict:
        raise Malformed(f"the token's {what} is not a JSON object")
    members: dict[str, Any] = value
    if _depth(members) > deepest:
        raise Malformed(f"the token's {what} is nested deeper than {deepest}")
    if "\\" in text and not _sound(members):
        raise Malformed(f"the token's {what} holds text that is no text (a lone surrogate or NUL)")
    return members


def _plain_object(data: bytes) -> dict[str, Any] | None:
    """The object, where it is of the plainest kind, as nearly all tokens are: flat, without escapes or fractions.

    None says only "read it the slow way", which judges; half of its time is enough here because nothing is called back for
    each member. No nesting and no escapes, so there is no depth, surrogate or NUL to look for. No member stands there twice:
    without escapes every quote begins or ends a text, so a member that was written and not read leaves quotes over.
    """
    if b"\\" in data or b"[" in data or data.count(b"{") != 1:
        return None
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    if type(value) is not dict:
        return None
    texts = len(value)
    for inner in value.values():
        kind = type(inner)
        if kind is str:
            texts += 1
        elif (kind is not int or not -LARGEST_INT <= inner <= LARGEST_INT) and kind not in _NO_NUMBER:
            return None
    return value if data.count(b'"') == 2 * texts else None


def _header(members: dict[str, Any]) -> Header:
    if not members.keys() <= _HEADER:
        raise Malformed(
            "the token's header has a member other than alg, kid, typ, x5t; keys and critical extensions are refused"
        )
    alg, kid, typ = members.get("alg"), members.get("kid"), members.get("typ")
    if type(alg) is not str:
        raise Malformed("the token's header names no algorithm")
    if kid is not None and (type(kid) is not str or not 0 < len(kid) <= _LONGEST_KID):
        raise Malformed("the token's header has a `kid` that is no short text")
    if typ is not None and type(typ) is not str:
        raise Malformed("the token's header has a `typ` that is no text")
    return Header(alg, kid, typ.lower().removeprefix("application/") if typ is not None else None)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):  # one parser takes the first, another the last: RFC 8725 section 2.4's cousin
        raise Malformed("the token has a JSON member twice")
    return members


def _int(digits: str) -> int:
    if len(digits) > 17 or abs(value := int(digits)) > LARGEST_INT:  # noqa: PLR2004  sign and 16 digits
        raise Malformed("the token has a number beyond 2^53, which programs read differently")
    return value


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise Malformed("the token has a number beyond all bounds")
    return value


def _constant(_: str) -> NoReturn:
    raise Malformed("the token has NaN or Infinity where JSON has none")


_NUMBERS: Final[dict[str, Any]] = {"parse_int": _int, "parse_float": _float, "parse_constant": _constant}
_STRICT: Final = json.JSONDecoder(object_pairs_hook=_members, **_NUMBERS)


def _depth(value: Any) -> int:
    """How many objects and lists stand inside one another; breadth first, so the stack does not pay."""
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) is dict or type(inner) is list
        ]
    return depth


def _sound(value: Any) -> bool:
    """Whether every text can be written as UTF-8 and stored by a database."""
    if type(value) is str:
        return "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)
    if type(value) is dict:
        return all(_sound(name) and _sound(inner) for name, inner in value.items())
    return all(_sound(inner) for inner in value) if type(value) is list else True
