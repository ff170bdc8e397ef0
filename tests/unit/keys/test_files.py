"""Key files: private, whole, never replaced; sealed bytes open only where nothing was changed."""

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import ConfigError
from broker.keys.files import FileKeyStore
from broker.keys.jwk import thumbprint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def test_every_file_is_private_and_survives_a_restart(folder: Path) -> None:
    keys = FileKeyStore(folder)
    kids = {role: keys.public(role)[0].kid for role in ("identity", "log", "ssh-ca")}
    sealed, fingerprint = keys.seal(b"handle", context="lse_1"), keys.fingerprint("secret")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    again = FileKeyStore(folder)
    assert {role: again.public(role)[0].kid for role in kids} == kids
    assert again.unseal(sealed, context="lse_1") == b"handle"
    assert again.fingerprint("secret") == fingerprint
    assert "secret" not in fingerprint


def test_es256_is_the_raw_pair_of_rfc_7518(folder: Path) -> None:
    keys = FileKeyStore(folder)
    public = keys.public("identity")[0].key
    assert isinstance(public, EllipticCurvePublicKey)
    for number in range(50):  # a short r or s must be padded: one in 128 is
        signature = keys.sign("identity", b"%d" % number)
        assert len(signature) == 64
        r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
        public.verify(encode_dss_signature(r, s), b"%d" % number, ECDSA(hashes.SHA256()))


def test_rotation_signs_with_the_new_key_and_publishes_both(folder: Path) -> None:
    keys = FileKeyStore(folder)
    old = keys.public("ssh-ca")[0]
    new = keys.rotate("ssh-ca")
    assert [key.kid for key in keys.public("ssh-ca")] == [new.kid, old.kid]
    assert isinstance(new.key, Ed25519PublicKey)
    new.key.verify(keys.sign("ssh-ca", b"x"), b"x")


def test_two_stores_that_race_for_a_first_key_agree(folder: Path) -> None:
    first, second = FileKeyStore(folder), FileKeyStore(folder)
    assert first.public("log")[0].kid == second.public("log")[0].kid
    assert second.unseal(first.seal(b"x", context="c"), context="c") == b"x"


def test_a_key_open_to_others_stops_the_start(folder: Path) -> None:
    FileKeyStore(folder).public("log")
    (folder / "log.1.pem").chmod(0o640)
    with pytest.raises(ConfigError, match="chmod go-rwx"):
        FileKeyStore(folder).public("log")
    folder.chmod(0o755)
    with pytest.raises(ConfigError, match="chmod go-rwx"):
        FileKeyStore(folder)


@pytest.mark.parametrize(
    "damage", [b"", b"not a key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_damaged_key_is_told_and_not_replaced(folder: Path, damage: bytes) -> None:
    FileKeyStore(folder).public("log")
    (folder / "log.1.pem").write_bytes(damage)
    with pytest.raises(ConfigError, match="backup"):
        FileKeyStore(folder).public("log")
    assert (folder / "log.1.pem").read_bytes() == damage


@given(data=st.binary(max_size=100), at=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7))
def test_any_flipped_bit_of_a_sealed_handle_is_found(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, at: int, bit: int
) -> None:
    keys = FileKeyStore(tmp_path_factory.getbasetemp() / "sealing")
    sealed = bytearray(keys.seal(data, context="lse_1"))
    sealed[at % len(sealed)] ^= 1 << bit
    with pytest.raises(ValueError, match="changed"):
        keys.unseal(bytes(sealed), context="lse_1")
    with pytest.raises(ValueError, match="changed"):
        keys.unseal(keys.seal(data, context="lse_1"), context="lse_2")


def test_thumbprint_of_rfc_8037_appendix_a3() -> None:
    from base64 import urlsafe_b64decode

    key = Ed25519PublicKey.from_public_bytes(urlsafe_b64decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo="))
    assert thumbprint(key) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
