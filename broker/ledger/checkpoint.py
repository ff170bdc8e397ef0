"""Checkpoints: the log's size and root under an Ed25519 signature. C2SP signed-note and tlog-checkpoint. Pure.

* A checkpoint is trusted only through a verifier key (`vkey`) that the reader already has.
* One meaning, one sequence of bytes: base64 with stray bits, a size with a leading zero or a missing newline is refused,
  so no byte of a checkpoint can change unnoticed.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from broker.ledger.merkle import HASH_SIZE

ED25519: Final = b"\x01"  # the signature type byte of signed-note
_MOST_SIGNATURES: Final = 64
_LARGEST_NOTE: Final = 1 << 20
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_KEY_ID_SIZE: Final = 4


class BadNote(ValueError):
    """A note, checkpoint or verifier key that is malformed, or that its key did not sign. The text says which."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the log's key signs."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def text(self) -> str:
        """The note text: three lines, then the extension lines."""
        lines = (self.origin, str(self.size), base64.b64encode(self.root).decode(), *self.extensions)
        return "".join(line + "\n" for line in lines)


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A log's public key under its name; `str()` is the vkey: `<name>+<key id, hex>+<base64(0x01 || public key)>`."""

    name: str
    public: bytes  # 32 bytes, RFC 8032

    def __post_init__(self) -> None:
        if not _is_name(self.name):
            raise BadNote("a key name is not empty and has no spaces and no plus sign")
        if len(self.public) != HASH_SIZE:
            raise BadNote("an Ed25519 public key has 32 bytes")

    @property
    def key_id(self) -> bytes:
        """SHA-256(name || 0x0A || 0x01 || public key)[:4]."""
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519 + self.public).digest()[:_KEY_ID_SIZE]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(ED25519 + self.public).decode()}"

    @classmethod
    def parse(cls, text: str) -> "VerifierKey":
        """Read a vkey. Raises BadNote where it is malformed, not Ed25519, or its id is not its key's."""
        parts = text.strip().split("+", 2)
        if len(parts) != 3:  # noqa: PLR2004  name, id, key
            raise BadNote("a verifier key has the form name+id+key")
        material = _unbase64(parts[2])
        if material[:1] != ED25519:
            raise BadNote("the verifier key is not an Ed25519 key (type 0x01)")
        key = cls(parts[0], material[1:])
        if key.key_id.hex() != parts[1]:
            raise BadNote("the verifier key's id does not belong to its name and key")
        return key


def sign_note(text: str, key: VerifierKey, sign: Callable[[bytes], bytes]) -> bytes:
    """The note of `text` with one signature line; `sign` makes the 64-byte Ed25519 signature."""
    signature = base64.b64encode(key.key_id + sign(text.encode())).decode()
    return f"{text}\n\N{EM DASH} {key.name} {signature}\n".encode()


def open_note(note: bytes, key: VerifierKey) -> str:
    """The text, once `key` is seen to have signed it. Signatures of unknown keys are ignored. Raises BadNote."""
    text, signatures = _split(note)
    verified = False
    for name, key_id, signature in signatures:
        if (name, key_id) == (key.name, key.key_id):
            try:
                Ed25519PublicKey.from_public_bytes(key.public).verify(signature, text.encode())
            except InvalidSignature:
                raise BadNote(f"the signature of {name} does not belong to this text") from None
            verified = True
    if not verified:
        raise BadNote(f"not signed by {key.name}+{key.key_id.hex()}")
    return text


def sign_checkpoint(checkpoint: Checkpoint, key: VerifierKey, sign: Callable[[bytes], bytes]) -> bytes:
    """The signed note of a checkpoint."""
    return sign_note(checkpoint.text(), key, sign)


def open_checkpoint(note: bytes, key: VerifierKey) -> Checkpoint:
    """The checkpoint, once its signature by `key` and its origin (the key's name) are checked. Raises BadNote."""
    checkpoint = parse_checkpoint(open_note(note, key))
    if checkpoint.origin != key.name:
        raise BadNote(f"the checkpoint is of {checkpoint.origin}, the key is of {key.name}")
    return checkpoint


def parse_checkpoint(text: str) -> Checkpoint:
    """Read a note text as a checkpoint, unverified. Raises BadNote."""
    lines = text.split("\n")
    if lines.pop() != "" or len(lines) < 3 or "" in lines:  # noqa: PLR2004  origin, size, root
        raise BadNote("a checkpoint has at least three lines, none of them empty")
    origin, size, root, *extensions = lines
    if not _SIZE.fullmatch(size):
        raise BadNote("the checkpoint's tree size is not a whole number")
    decoded = _unbase64(root)
    if len(decoded) != HASH_SIZE:
        raise BadNote("the checkpoint's root is not a SHA-256 hash")
    return Checkpoint(origin, int(size), decoded, tuple(extensions))


def note_origin(note: bytes) -> str:
    """The first line of a note, unverified: whose key to look for. Raises BadNote."""
    return _split(note)[0].partition("\n")[0]


def _split(note: bytes) -> tuple[str, list[tuple[str, bytes, bytes]]]:
    if len(note) > _LARGEST_NOTE:
        raise BadNote("the note is too large")
    try:
        whole = note.decode()
    except UnicodeDecodeError:
        raise BadNote("the note is not UTF-8") from None
    if any(char < " " and char != "\n" for char in whole):
        raise BadNote("the note holds control characters")
    text, blank, tail = whole.rpartition("\n\n")
    if not blank or not tail.endswith("\n"):
        raise BadNote("the note has no signatures, or was cut")
    lines = tail[:-1].split("\n")
    if len(lines) > _MOST_SIGNATURES:
        raise BadNote("the note has too many signatures")
    return text + "\n", [_signature(line) for line in lines]


def _signature(line: str) -> tuple[str, bytes, bytes]:
    dash, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    blob = _unbase64(encoded)
    if dash != "\N{EM DASH}" or not _is_name(name) or len(blob) <= _KEY_ID_SIZE:
        raise BadNote("the note has a malformed signature line")
    return name, blob[:_KEY_ID_SIZE], blob[_KEY_ID_SIZE:]


def _is_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(char.isspace() for char in name)


def _unbase64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadNote("the note holds broken base64") from None
    if base64.b64encode(data).decode() != text:  # stray bits after the last byte: two spellings of one signature
        raise BadNote("the note holds base64 that is not canonical")
    return data
