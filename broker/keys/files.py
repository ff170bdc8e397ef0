"""Private keys in files of mode 0600, in a folder of mode 0700.

`<role>.<n>.pem` are a role's signing keys, PKCS#8; the highest n signs, all of them are published. `seal.key` and
`fingerprint.key` are 32 random bytes each. A key file that others could read stops the start: a leaked CA key is worse
than a broker that does not come up.
"""

import hashlib
import hmac
import os
import re
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from broker.errors import ConfigError
from broker.keys import KeyStore, PublicKey
from broker.keys.jwk import thumbprint

PrivateKey = EllipticCurvePrivateKey | Ed25519PrivateKey

ALGORITHMS: Final = {"identity": "ES256", "log": "EdDSA", "ssh-ca": "EdDSA"}
_FILE: Final = re.compile(r"([a-z0-9-]+)\.([0-9]+)\.pem")
_ES256: Final = ECDSA(hashes.SHA256())


class FileKeyStore(KeyStore):
    """Keys under `folder`; each is made the first time it is asked for. Not safe for two processes that both make keys."""

    def __init__(self, folder: Path) -> None:
        """Raises ConfigError where the folder or a key in it is open to others or cannot be read."""
        self._folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{folder}: the key folder cannot be made: {error.strerror}") from None
        _must_be_private(folder)
        self._private: dict[str, PrivateKey] = {}
        self._public: dict[str, tuple[PublicKey, ...]] = {}
        self._aead: AESGCM | None = None
        self._hmac: hmac.HMAC | None = None

    def __repr__(self) -> str:
        return f"FileKeyStore({str(self._folder)!r})"

    def public(self, role: str) -> Sequence[PublicKey]:
        if role not in self._public:
            self._load(role)
        return self._public[role]

    def sign(self, role: str, data: bytes) -> bytes:
        key = self._private.get(role) or self._load(role)
        if isinstance(key, Ed25519PrivateKey):
            return key.sign(data)
        r, s = decode_dss_signature(key.sign(data, _ES256))
        return r.to_bytes(32) + s.to_bytes(32)

    def fingerprint(self, text: str) -> str:
        if self._hmac is None:
            self._hmac = hmac.new(self._secret("fingerprint.key"), digestmod=hashlib.sha256)
        mac = self._hmac.copy()  # the keyed state is ready: half the work of a fresh HMAC
        mac.update(text.encode())
        return "hmac-sha256:" + mac.hexdigest()

    def seal(self, data: bytes, *, context: str) -> bytes:
        nonce = os.urandom(12)
        return nonce + self._cipher().encrypt(nonce, data, context.encode())

    def unseal(self, sealed: bytes, *, context: str) -> bytes:
        try:
            return self._cipher().decrypt(sealed[:12], sealed[12:], context.encode())
        except (InvalidTag, ValueError):
            raise ValueError("the sealed bytes, their context or the seal key were changed") from None

    def exists(self, role: str) -> bool:
        """Whether the role has a key; asking `public` would make one."""
        return bool(self._files(role))

    def rotate(self, role: str) -> PublicKey:
        """Make a new signing key for a role; the old ones stay published until their files are removed."""
        numbers = [number for number, _ in self._files(role)]
        self._make(role, max(numbers, default=0) + 1)
        self._load(role)
        return self._public[role][0]

    def _cipher(self) -> AESGCM:
        if self._aead is None:
            self._aead = AESGCM(self._secret("seal.key"))
        return self._aead

    def _secret(self, name: str) -> bytes:
        path = self._folder / name
        if not path.exists():
            _write_private(path, os.urandom(32))
        secret = _read_private(path)
        if len(secret) != 32:  # noqa: PLR2004
            raise ConfigError(f"{path}: holds {len(secret)} bytes, not 32; restore it from a backup")
        return secret

    def _files(self, role: str) -> list[tuple[int, Path]]:
        found = ((_FILE.fullmatch(path.name), path) for path in self._folder.iterdir())
        return sorted(((int(m[2]), path) for m, path in found if m and m[1] == role), reverse=True)

    def _make(self, role: str, number: int) -> None:
        algorithm = ALGORITHMS.get(role, "EdDSA")
        key: PrivateKey = generate_private_key(SECP256R1()) if algorithm == "ES256" else Ed25519PrivateKey.generate()
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        _write_private(self._folder / f"{role}.{number}.pem", pem)

    def _load(self, role: str) -> PrivateKey:
        if not self._files(role):
            self._make(role, 1)
        keys: list[PrivateKey] = []
        for _, path in self._files(role):
            try:
                key = load_pem_private_key(_read_private(path), None)
            except ValueError:
                raise ConfigError(f"{path}: not a private key; restore it from a backup") from None
            if not isinstance(key, EllipticCurvePrivateKey | Ed25519PrivateKey):
                raise ConfigError(f"{path}: keys are EC P-256 or Ed25519 here")
            keys.append(key)
        self._public[role] = tuple(_describe(key) for key in keys)
        self._private[role] = keys[0]
        return keys[0]


def _describe(key: PrivateKey) -> PublicKey:
    public: EllipticCurvePublicKey | Ed25519PublicKey = key.public_key()
    return PublicKey(thumbprint(public), "EdDSA" if isinstance(public, Ed25519PublicKey) else "ES256", public)


def _must_be_private(path: Path) -> None:
    status = path.stat()
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise ConfigError(
            f"{path}: others may read it (mode {stat.S_IMODE(status.st_mode):04o}); run: chmod go-rwx {path}"
        )


def _read_private(path: Path) -> bytes:
    _must_be_private(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def _write_private(path: Path, data: bytes) -> None:
    """Whole or not at all: a half-written key would lock every sealed lease away."""
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 0600 by mkstemp
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)  # never replaces a key that another process made meanwhile
    except FileExistsError:
        pass
    finally:
        os.unlink(temporary)  # noqa: PTH108
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
