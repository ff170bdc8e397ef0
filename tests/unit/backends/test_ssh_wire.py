"""Public keys read strictly; certificates that cryptography and ssh-keygen read back."""

import base64
import struct
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificate,
    SSHCertificateType,
    load_ssh_public_identity,
)
from hypothesis import given
from hypothesis import strategies as st

from broker.backends import ssh_wire
from tests.system import require

CA = ed25519.Ed25519PrivateKey.generate()
KEYS = {
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
    "nistp256": ec.generate_private_key(ec.SECP256R1()),
    "nistp384": ec.generate_private_key(ec.SECP384R1()),
    "nistp521": ec.generate_private_key(ec.SECP521R1()),
    "rsa": rsa.generate_private_key(public_exponent=65537, key_size=3072),
}
principals = st.lists(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}", fullmatch=True), min_size=1, max_size=8)


def line(key: object) -> str:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()  # type: ignore[attr-defined]


def certify(public: str, **changed: object) -> str:
    asked: dict[str, object] = {
        "nonce": b"n" * 32, "serial": 77, "key_id": "lease=lse_1", "principals": ["deploy"], "valid_after": 1_000_000,
        "valid_before": 1_000_300, "critical_options": b"", "extensions": b"",
        "ca": CA.public_key().public_bytes_raw(), "sign": CA.sign, **changed,
    }  # fmt: skip
    return ssh_wire.user_certificate(ssh_wire.read_public_key(public), **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KEYS)
def test_cryptography_reads_every_kind_back(kind: str) -> None:
    options = ssh_wire.options([("source-address", "10.0.0.0/8"), ("force-command", "id")])
    extensions = ssh_wire.options([("permit-user-rc", None), ("permit-pty", None)])
    text = certify(line(KEYS[kind]), critical_options=options, extensions=extensions, principals=["a", "b"])
    certificate = load_ssh_public_identity(text.encode())
    assert isinstance(certificate, SSHCertificate)
    certificate.verify_cert_signature()
    assert certificate.type is SSHCertificateType.USER
    assert certificate.serial == 77
    assert certificate.key_id == b"lease=lse_1"
    assert list(certificate.valid_principals) == [b"a", b"b"]
    assert (certificate.valid_after, certificate.valid_before) == (1_000_000, 1_000_300)
    assert certificate.critical_options == {b"force-command": b"id", b"source-address": b"10.0.0.0/8"}
    assert certificate.extensions == {b"permit-pty": b"", b"permit-user-rc": b""}
    assert certificate.public_key() == KEYS[kind].public_key()
    assert certificate.signature_key() == CA.public_key()


@given(names=principals, serial=st.integers(1, 2**64 - 1), key_id=st.text(st.characters(codec="ascii"), max_size=200))
def test_whatever_is_packed_is_what_is_read(names: list[str], serial: int, key_id: str) -> None:
    certificate = load_ssh_public_identity(
        certify(line(KEYS["ed25519"]), principals=names, serial=serial, key_id=key_id).encode()
    )
    assert isinstance(certificate, SSHCertificate)
    certificate.verify_cert_signature()
    assert [name.decode() for name in certificate.valid_principals] == names
    assert (certificate.serial, certificate.key_id.decode()) == (serial, key_id)


@pytest.mark.parametrize("names", [[], [""], ["deploy", ""]])
def test_no_certificate_without_principals(names: list[str]) -> None:
    with pytest.raises(ValueError, match="every account"):
        certify(line(KEYS["ed25519"]), principals=names)


@pytest.mark.system
@pytest.mark.parametrize("kind", KEYS)
def test_ssh_keygen_reads_it(kind: str, tmp_path: Path) -> None:
    (program,) = require("ssh-keygen")
    path = tmp_path / "c-cert.pub"
    path.write_text(
        certify(
            line(KEYS[kind]),
            critical_options=ssh_wire.options([("force-command", "id -un")]),
            extensions=ssh_wire.options([("permit-pty", None)]),
        )
        + "\n"
    )
    told = subprocess.run(
        [program, "-L", "-f", str(path)], capture_output=True, text=True, check=True, env={"TZ": "UTC"}
    ).stdout
    assert "user certificate" in told
    assert 'Key ID: "lease=lse_1"' in told
    assert "Serial: 77" in told
    assert "1970-01-12T13:46:40 to 1970-01-12T13:51:40" in told
    assert "force-command id -un" in told
    words = [word.strip() for word in told.splitlines()]
    assert words[words.index("Principals:") + 1] == "deploy"
    assert words[words.index("Extensions:") + 1] == "permit-pty"


# --- Reading public keys -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("comment", ["", " ada@laptop", " two words", " \u00e9", "\n", " a comment\n"])
def test_good_keys_and_any_comment(kind: str, comment: str) -> None:
    key = ssh_wire.read_public_key(line(KEYS[kind]) + comment)
    assert key.algorithm == line(KEYS[kind]).split()[0]


def pack(*fields: bytes) -> str:
    blob = b"".join(struct.pack(">I", len(field)) + field for field in fields)
    return fields[0].decode(errors="replace") + " " + base64.b64encode(blob).decode()


def mpint(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1)


N = KEYS["rsa"].public_key().public_numbers().n  # type: ignore[union-attr]
POINT = KEYS["nistp256"].public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)  # type: ignore[union-attr]
SMALL = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(line(SMALL), id="RSA of 2048 bits"),
        pytest.param(pack(b"ssh-rsa", mpint(3), mpint(N)), id="RSA exponent 3"),
        pytest.param(pack(b"ssh-rsa", mpint(65536), mpint(N)), id="RSA exponent even"),
        pytest.param(pack(b"ssh-rsa", mpint(1), mpint(N)), id="RSA exponent 1"),
        pytest.param(pack(b"ssh-rsa", mpint(65537), mpint(N + 1)), id="RSA modulus even"),
        pytest.param(pack(b"ssh-rsa", mpint(65537), mpint(N)[1:]), id="RSA modulus negative"),
        pytest.param(pack(b"ssh-rsa", mpint(65537), b"\0" + mpint(N)), id="RSA modulus padded"),
        pytest.param(pack(b"ssh-rsa", mpint(65537), mpint((1 << 16383) + 1)), id="RSA of 16384 bits"),
        pytest.param(pack(b"ssh-rsa", mpint(65537), b""), id="RSA modulus empty"),
        pytest.param(pack(b"ssh-rsa", mpint(65537), mpint(N), b"x"), id="RSA and more"),
        pytest.param(pack(b"ssh-ed25519", b"x" * 31), id="Ed25519 of 31 bytes"),
        pytest.param(pack(b"ssh-ed25519", b"x" * 33), id="Ed25519 of 33 bytes"),
        pytest.param(pack(b"ssh-ed25519", b"x" * 32, b""), id="Ed25519 and more"),
        pytest.param(pack(b"ssh-ed25519"), id="Ed25519 without a key"),
        pytest.param(pack(b"ecdsa-sha2-nistp256", b"nistp384", POINT), id="another curve's name"),
        pytest.param(
            pack(b"ecdsa-sha2-nistp256", b"nistp256", POINT[:-1] + bytes([POINT[-1] ^ 1])), id="off the curve"
        ),
        pytest.param(pack(b"ecdsa-sha2-nistp256", b"nistp256", b"\x02" + POINT[1:33]), id="a compressed point"),
        pytest.param(pack(b"ecdsa-sha2-nistp256", b"nistp256", b"\x00"), id="the point at infinity"),
        pytest.param(pack(b"ssh-dss", b"x", b"y"), id="DSA"),
        pytest.param(line(KEYS["ed25519"]).replace(" ", "  "), id="two spaces"),
        pytest.param(line(KEYS["ed25519"]).replace(" ", "\t"), id="a tab"),
        pytest.param(" " + line(KEYS["ed25519"]), id="a space before"),
        pytest.param("\ufeff" + line(KEYS["ed25519"]), id="a byte order mark"),
        pytest.param(line(KEYS["ed25519"]) + "\n\n", id="two newlines"),
        pytest.param(line(KEYS["ed25519"]).upper(), id="in capitals"),
        pytest.param("no-pty " + line(KEYS["ed25519"]), id="an option before"),
        pytest.param("ssh-ed25519 " + "A" * 9000, id="very long"),
        pytest.param("ssh-ed25519 AAAA", id="hardly anything"),
        pytest.param("ssh-ed25519 A", id="not base64"),
        pytest.param("ssh-ed25519 " + base64.b64encode(b"\xff\xff\xff\xff").decode(), id="a length past the end"),
        pytest.param(certify(line(KEYS["ed25519"])), id="a certificate"),
    ],
)
def test_bad_keys(bad: str) -> None:
    with pytest.raises(ValueError):
        ssh_wire.read_public_key(bad)


@given(st.text(max_size=300) | st.binary(max_size=200).map(lambda raw: "ssh-ed25519 " + base64.b64encode(raw).decode()))
def test_any_text_is_a_key_or_a_value_error(text: str) -> None:
    try:
        key = ssh_wire.read_public_key(text)
    except ValueError:
        return
    assert key.algorithm in ssh_wire.ALGORITHMS


@given(st.sampled_from(sorted(KEYS)), st.data())
def test_one_flipped_bit_is_another_key_or_none(kind: str, data: st.DataObject) -> None:
    algorithm, encoded = line(KEYS[kind]).split()
    blob = bytearray(base64.b64decode(encoded))
    position = data.draw(st.integers(0, len(blob) * 8 - 1))
    blob[position // 8] ^= 1 << position % 8
    try:
        key = ssh_wire.read_public_key(f"{algorithm} {base64.b64encode(blob).decode()}")
    except ValueError:
        return
    assert key != ssh_wire.read_public_key(line(KEYS[kind]))
