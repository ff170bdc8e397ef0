"""A JWKS document (RFC 7517) made into keys that can check one algorithm each, and nothing else.

* Only public RSA, EC and Ed25519 signature keys: no `oct`, no key whose private half was published, no key for encryption.
* A key checks the algorithms that fit its type, its curve and its own `alg`, among those pinned for the issuer. So a token
  cannot choose how a key is used (RFC 8725 section 3.1).
* RSA of 2048 to 8192 bits with a usual exponent: smaller is broken, larger is a way to keep the processor busy.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK
from jwt.exceptions import PyJWTError

MOST_KEYS: Final = 64
_FITTING: Final[Mapping[tuple[str, str | None], tuple[str, ...]]] = MappingProxyType({
    ("RSA", None): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
})  # fmt: skip
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_SMALLEST, _LARGEST = 2048, 8192
_EXPONENTS: Final = range(65_537, 1 << 32)


class NoKeys(ValueError):
    """A document without one usable key. `args[0]` says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """One public key under one algorithm."""

    kid: str | None
    alg: str
    _algorithm: Any = field(repr=False)  # PyJWT's algorithm object
    _key: Any = field(repr=False)  # cryptography's public key

    def verifies(self, signed: bytes, signature: bytes) -> bool:
        """Whether `signature` over `signed` was made by this key's private half."""
        try:
            return bool(self._algorithm.verify(signed, self._key, signature))
        except Exception:  # noqa: BLE001  a signature that trips the library is no signature
            return False


@dataclass(frozen=True, slots=True)
class KeySet:
    """The usable keys of one issuer."""

    keys: tuple[VerifyingKey, ...]
    _by_name: Mapping[tuple[str | None, str], VerifyingKey] = field(repr=False)

    def find(self, kid: str | None, alg: str) -> VerifyingKey | None:
        """The key a token names. A token that names none is checked only where there is one key it can mean (OIDC core 10.1)."""
        return self._by_name.get((kid, alg))


def parse(document: Mapping[str, Any], algorithms: Iterable[str]) -> KeySet:
    """The keys of a JWKS document that fit the issuer's pinned algorithms. Raises NoKeys."""
    entries = document.get("keys")
    if not isinstance(entries, list):
        raise NoKeys("the key set has no list `keys`")
    if len(entries) > MOST_KEYS:
        raise NoKeys(f"the key set has more than {MOST_KEYS} keys")
    pinned = tuple(algorithms)
    found: list[VerifyingKey] = []
    for entry in entries:
        if isinstance(entry, dict):
            found.extend(_usable(entry, pinned))
    if not found:
        raise NoKeys("the key set has no key for " + " or ".join(pinned))
    by_name: dict[tuple[str | None, str], VerifyingKey] = {}
    twice: set[tuple[str | None, str]] = set()
    for key in found:
        name = (key.kid, key.alg)
        if name in by_name and by_name[name]._key != key._key:  # noqa: SLF001
            twice.add(name)  # two keys of one name: which one is meant would be a guess
        by_name[name] = key
    for name in twice:
        del by_name[name]
    if len({id(key._key) for key in found}) == 1:  # noqa: SLF001  alone, so a token without `kid` can mean no other
        by_name.update({(None, key.alg): key for key in found})
    else:
        by_name = {name: key for name, key in by_name.items() if name[0] is not None}
    if not by_name:
        raise NoKeys("the key set has several keys and no `kid` to tell them apart")
    return KeySet(tuple(found), MappingProxyType(by_name))


def _usable(entry: dict[str, Any], pinned: tuple[str, ...]) -> list[VerifyingKey]:
    kty, crv, kid = entry.get("kty"), entry.get("crv"), entry.get("kid")
    if kty == "RSA":
        crv = None
    if not isinstance(kty, str) or not (crv is None or isinstance(crv, str)) or _PRIVATE & entry.keys():
        return []
    if kid is not None and (not isinstance(kid, str) or not kid):
        return []
    if entry.get("use", "sig") != "sig" or not _may_verify(entry.get("key_ops")):
        return []
    fitting = [alg for alg in _FITTING.get((kty, crv), ()) if alg in pinned and entry.get("alg", alg) == alg]
    if not fitting:
        return []
    try:
        public = PyJWK(entry, algorithm=fitting[0]).key
        if isinstance(public, RSAPublicKey) and not _sound_rsa(public):
            return []
        return [VerifyingKey(kid, alg, PyJWK(entry, algorithm=alg).Algorithm, public) for alg in fitting]
    except (PyJWTError, ValueError, TypeError, KeyError):
        return []  # one broken key must not take the good ones down with it


def _may_verify(operations: Any) -> bool:
    return operations is None or (isinstance(operations, list) and "verify" in operations)


def _sound_rsa(key: RSAPublicKey) -> bool:
    return _SMALLEST <= key.key_size <= _LARGEST and key.public_numbers().e in _EXPONENTS
