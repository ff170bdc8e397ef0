"""Signed notes against the vectors of golang.org/x/mod/sumdb/note and of C2SP, and every way to spoil one."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.ledger.checkpoint import (
    BadNote,
    Checkpoint,
    VerifierKey,
    note_origin,
    open_checkpoint,
    open_note,
    parse_checkpoint,
    sign_checkpoint,
    sign_note,
)

PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_PRIVATE = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
SIGNED = (
    TEXT
    + "\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
ENOCH = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
ENOCH_LINE = (
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
)
FOO = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
FOO_NOTE = (
    "This is an example message.\n\n"
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEY = VerifierKey("broker.example/log", PRIVATE.public_key().public_bytes_raw())
CHECKPOINT = Checkpoint("broker.example/log", 20_852_163, bytes(range(32)))


@pytest.mark.parametrize("vkey", [PETER, ENOCH, FOO])
def test_verifier_keys_round_trip(vkey: str) -> None:
    assert str(VerifierKey.parse(vkey)) == vkey


@pytest.mark.parametrize(
    ("note", "vkey"), [(SIGNED, PETER), (FOO_NOTE, FOO), (SIGNED + ENOCH_LINE, PETER), (SIGNED + ENOCH_LINE, ENOCH)]
)
def test_notes_of_other_implementations_open(note: str, vkey: str) -> None:
    assert open_note(note.encode(), VerifierKey.parse(vkey)) == note.partition("\n\n")[0] + "\n"


def test_our_signature_is_theirs() -> None:
    private = Ed25519PrivateKey.from_private_bytes(base64.b64decode(PETER_PRIVATE)[1:])
    assert sign_note(TEXT, VerifierKey.parse(PETER), private.sign) == SIGNED.encode()


def test_a_checkpoint_round_trips() -> None:
    note = sign_checkpoint(CHECKPOINT, KEY, PRIVATE.sign)
    assert open_checkpoint(note, KEY) == CHECKPOINT
    assert note_origin(note) == "broker.example/log"


def test_every_byte_of_a_checkpoint_counts() -> None:
    note = sign_checkpoint(CHECKPOINT, KEY, PRIVATE.sign)
    for at in range(len(note)):
        for bit in range(8):
            bent = note[:at] + bytes([note[at] ^ 1 << bit]) + note[at + 1 :]
            with pytest.raises(BadNote):
                open_checkpoint(bent, KEY)
        with pytest.raises(BadNote):
            open_checkpoint(note[:at] + note[at + 1 :], KEY)


@pytest.mark.parametrize(
    "vkey",
    [
        "", "PeterNeumann", "PeterNeumann+c74f20a3", PETER.replace("c74f20a3", "c74f20a4"), PETER[:-4], PETER.replace("ARpc", "BRpc"),
        "Peter Neumann" + PETER[12:], "+c74f20a3" + PETER[21:], PETER[:-1] + "X",
    ],
)  # fmt: skip
def test_malformed_verifier_keys(vkey: str) -> None:
    with pytest.raises(BadNote):
        VerifierKey.parse(vkey)


@pytest.mark.parametrize(
    "note",
    [
        pytest.param(b"", id="empty"),
        pytest.param(TEXT.encode(), id="unsigned"),
        pytest.param(SIGNED.rstrip("\n").encode(), id="no newline at the end"),
        pytest.param(SIGNED.replace("\n\n", "\n").encode(), id="no blank line"),
        pytest.param(SIGNED.replace("—", "-").encode(), id="a hyphen for the dash"),
        pytest.param(SIGNED.replace("PeterNeumann", "EnochRoot").encode(), id="another name"),
        pytest.param(SIGNED.replace("know", "known").encode(), id="another text"),
        pytest.param(SIGNED.replace("AM=", "AN=").encode(), id="stray bits in the base64"),
        pytest.param(SIGNED.replace("know", "kn\tow").encode(), id="a control character"),
        pytest.param(SIGNED.encode().replace(b"know", b"kn\xffow"), id="not UTF-8"),
        pytest.param((SIGNED + ENOCH_LINE * 64).encode(), id="too many signatures"),
        pytest.param(SIGNED.encode() + b"x" * (1 << 20), id="too large"),
        pytest.param((TEXT + "\n" + ENOCH_LINE).encode(), id="signed by somebody else only"),
    ],
)
def test_spoilt_notes(note: bytes) -> None:
    with pytest.raises(BadNote):
        open_note(note, VerifierKey.parse(PETER))


@pytest.mark.parametrize(
    "text",
    [
        "o\n1\n", "o\n01\n" + "A" * 43 + "=\n", "o\n-1\n" + "A" * 43 + "=\n", "\n1\n" + "A" * 43 + "=\n", "o\n1\nAAAA\n",
        "o\n1\n" + "A" * 43 + "=", "o\n1\n" + "A" * 43 + "=\n\nx\n", "o\n" + "9" * 30 + "\n" + "A" * 43 + "=\n", "o\n1\n" + "A" * 42 + "B=\n",
    ],
)  # fmt: skip
def test_malformed_checkpoints(text: str) -> None:
    with pytest.raises(BadNote):
        parse_checkpoint(text)


def test_extension_lines_are_kept() -> None:
    text = "o\n1\n" + "A" * 43 + "=\nextra\n"
    assert parse_checkpoint(text).extensions == ("extra",)
    assert parse_checkpoint(text).text() == text


def test_a_checkpoint_of_another_log_is_refused() -> None:
    other = Checkpoint("elsewhere.example", 1, bytes(32))
    with pytest.raises(BadNote, match=r"is of elsewhere\.example"):
        open_checkpoint(sign_checkpoint(other, KEY, PRIVATE.sign), KEY)
