"""OpenSSH public keys and user certificates as bytes: RFC 4251 section 5, RFC 4253 section 6.6, PROTOCOL.certkeys.

* A public key is read strictly: one line, a known algorithm, a blob that is that key and nothing after it, a point on
  the curve, a modulus long enough. Certificates, hardware keys and options before the key are refused.
* A certificate is packed by hand because a library's builder takes several times the signature itself. The tests read it
  back with cryptography, ssh-keygen and sshd.
"""

import binascii
import functools
import re
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    SECP521R1,
    EllipticCurve,
    EllipticCurvePublicKey,
)

LONGEST_LINE: Final = 8192
SHORTEST_RSA: Final = 3072  # bits
LONGEST_RSA: Final = 8192
USER_CERTIFICATE: Final = 1
_LINE: Final = re.compile(
    r"(?P<type>[a-z0-9-]{1,40}) (?P<blob>[A-Za-z0-9+/]+={0,2})(?: (?P<comment>[^\x00-\x1f\x7f]*))?"
)
_CURVES: Final[dict[str, tuple[str, EllipticCurve]]] = {
    "ecdsa-sha2-nistp256": ("nistp256", SECP256R1()),
    "ecdsa-sha2-nistp384": ("nistp384", SECP384R1()),
    "ecdsa-sha2-nistp521": ("nistp521", SECP521R1()),
}
ALGORITHMS: Final = ("ssh-ed25519", *_CURVES, "ssh-rsa")


@dataclass(frozen=True, slots=True)
class UserKey:
    """A job's public key: its algorithm, and the fields of its blob after the algorithm's name, as they stood."""

    algorithm: str
    fields: bytes


@functools.lru_cache(maxsize=512)  # the model that admits a key and the backend that certifies it both read it
def read_public_key(line: str) -> UserKey:
    """Read `ssh-ed25519 AAAA... comment`, with at most one newline at its end. Raises ValueError, which says what is wrong."""
    if len(line) > LONGEST_LINE:
        raise ValueError(f"the public key is longer than {LONGEST_LINE} characters")
    match = _LINE.fullmatch(line.removesuffix("\n"))
    if match is None:
        raise ValueError("one OpenSSH public key is expected: its type, a space, its base64, and perhaps a comment")
    algorithm = match["type"]
    if algorithm not in ALGORITHMS:
        raise ValueError(f"the key's type has to be one of {', '.join(ALGORITHMS)}")
    try:
        blob = binascii.a2b_base64(match["blob"], strict_mode=True)
        named, rest = _take(blob)
        if named != algorithm.encode():
            raise ValueError("the blob names another type than the line")
        _check(algorithm, rest)
    except (binascii.Error, struct.error):
        raise ValueError("the public key's base64 is damaged") from None
    return UserKey(algorithm, rest)


def _check(algorithm: str, fields: bytes) -> None:
    first, rest = _take(fields)
    if algorithm == "ssh-ed25519":
        if len(first) != 32 or rest:  # noqa: PLR2004  RFC 8709 section 4
            raise ValueError("an Ed25519 key has 32 bytes")
        return
    second, rest = _take(rest)
    if rest:
        raise ValueError("the public key has bytes after its end")
    if algorithm == "ssh-rsa":
        _check_rsa(exponent=_mpint(first), modulus=_mpint(second))
        return
    name, curve = _CURVES[algorithm]
    if first != name.encode() or second[:1] != b"\x04":  # uncompressed, RFC 5656 section 3.1
        raise ValueError("the key's curve and type disagree")
    EllipticCurvePublicKey.from_encoded_point(curve, second)  # raises ValueError off the curve


def _check_rsa(*, exponent: int, modulus: int) -> None:
    if not SHORTEST_RSA <= modulus.bit_length() <= LONGEST_RSA:
        raise ValueError(f"an RSA key has to have {SHORTEST_RSA} to {LONGEST_RSA} bits; an Ed25519 key is better")
    if modulus % 2 == 0 or exponent % 2 == 0 or not 65537 <= exponent < 1 << 64:  # noqa: PLR2004  SP 800-56B section 6.2
        raise ValueError("this is no RSA key that anybody should use")


def _take(data: bytes) -> tuple[bytes, bytes]:
    (length,) = struct.unpack_from(">I", data)
    if len(data) < 4 + length:
        raise ValueError("the public key is cut short")
    return data[4 : 4 + length], data[4 + length :]


def _mpint(data: bytes) -> int:
    """A positive multiple-precision integer in its one shortest form, RFC 4251 section 5."""
    if not data or data[0] & 0x80 or (data[0] == 0 and (len(data) == 1 or not data[1] & 0x80)):
        raise ValueError("a number in the public key is not in its shortest form")
    return int.from_bytes(data)


def string(data: bytes) -> bytes:
    """RFC 4251's string: four bytes of length, then the bytes."""
    return struct.pack(">I", len(data)) + data


def options(pairs: Iterable[tuple[str, str | None]]) -> bytes:
    """Critical options or extensions: sorted by name, a value wrapped once more (PROTOCOL.certkeys)."""
    packed = sorted((name.encode(), b"" if value is None else string(value.encode())) for name, value in pairs)
    return b"".join(string(name) + string(value) for name, value in packed)


def user_certificate(
    key: UserKey,
    *,
    nonce: bytes,
    serial: int,
    key_id: str,
    principals: Sequence[str],
    valid_after: int,
    valid_before: int,
    critical_options: bytes,
    extensions: bytes,
    ca: bytes,
    sign: Callable[[bytes], bytes],
) -> str:
    """A user certificate line, `ssh-ed25519-cert-v01@openssh.com AAAA...`, signed by the Ed25519 key of 32 bytes `ca`.

    Times are Unix seconds; sshd accepts it from `valid_after` on and before `valid_before`. Raises ValueError without
    principals: sshd takes such a certificate as good for every account.
    """
    if not principals or not all(principals):
        raise ValueError("a certificate without principals would be good for every account")
    kind = key.algorithm + "-cert-v01@openssh.com"
    body = b"".join((
        string(kind.encode()),
        string(nonce),
        key.fields,
        struct.pack(">QI", serial, USER_CERTIFICATE),
        string(key_id.encode()),
        string(b"".join(string(name.encode()) for name in principals)),
        struct.pack(">QQ", valid_after, valid_before),
        string(critical_options),
        string(extensions),
        string(b""),  # reserved
        string(string(b"ssh-ed25519") + string(ca)),
    ))  # fmt: skip
    signed = body + string(string(b"ssh-ed25519") + string(sign(body)))
    return kind + " " + binascii.b2a_base64(signed, newline=False).decode()
