"""Secrets by reference: read at use, refused as literals, repeated nowhere."""

import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from broker.backends.seam import Strict
from broker.references import LARGEST, BrokenReference, SecretReference


class Model(Strict):
    token: SecretReference


LITERAL = "hvs.CAESIJ-this-is-the-token-itself"


@pytest.mark.parametrize(
    "text",
    [LITERAL, "", "env:", "env:A B", "env:1A", "env:A\n", "ENV:A", "file:", "file:a\nb", "file:a\0", "env:A=B", " env:A",
     "https://u:p@vault", 7, None, True, ["env:A"], {"env": "A"}, b"env:A"],
)  # fmt: skip
def test_what_is_no_reference_is_refused_and_not_repeated(text: object) -> None:
    with pytest.raises(ValidationError) as refused:
        Model.model_validate({"token": text})
    said = str(refused.value) + "".join(traceback.format_exception(refused.value))
    assert "never the secret itself" in said
    assert LITERAL not in said


def test_from_the_environment_at_each_use(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = Model.model_validate({"token": "env:TOKEN_OF_TEST"}).token
    with pytest.raises(BrokenReference, match="env:TOKEN_OF_TEST is not set"):
        reference.resolve()
    for value in ("one", "two\n", "two\r\n"):
        monkeypatch.setenv("TOKEN_OF_TEST", value)
        assert reference.resolve().reveal() == value.strip()


def test_from_a_file_beside_the_one_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    reference = Model.model_validate({"token": "file:token"}, context={"folder": tmp_path}).token
    assert reference.resolve().reveal() == "s3cret"
    (tmp_path / "token").write_text("rotated")
    assert reference.resolve().reveal() == "rotated"
    assert Model.model_validate(
        {"token": f"file:{tmp_path}/token"}, context={"folder": Path("/nowhere")}
    ).token.resolve()


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nb", b"a\0b", b"\xff\xfe", b"x" * (LARGEST + 1)])
def test_files_that_hold_no_single_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(BrokenReference, match="token"):
        SecretReference("file:token", folder=tmp_path).resolve()


@pytest.mark.parametrize("name", ["missing", "."])
def test_files_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(BrokenReference, match="cannot be read"):
        SecretReference(f"file:{name}", folder=tmp_path).resolve()


def test_nothing_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN_OF_TEST", LITERAL)
    model = Model.model_validate({"token": "env:TOKEN_OF_TEST"})
    assert LITERAL not in f"{model!r} {model.token} {model.token.resolve()} {model.token.resolve()!r}"
    assert model.token == SecretReference("env:TOKEN_OF_TEST")
    assert hash(model.token) == hash(SecretReference("env:TOKEN_OF_TEST"))
    assert model.token != SecretReference("env:OTHER")


@given(st.text())
def test_any_text_is_a_reference_or_a_value_error(text: str) -> None:
    try:
        SecretReference(text)
    except ValueError as error:
        assert len(text) < 3 or text not in str(error)  # noqa: PT017  most texts are references to nothing, some are good
    else:
        assert text.startswith(("env:", "file:"))
