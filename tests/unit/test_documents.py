"""YAML with places: types, strictness, and that no bytes do anything but raise ConfigError."""

import time
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from broker.documents import DEEPEST, LARGEST, Document, dotted, parse, validated
from broker.errors import ConfigError


def failure(text: str | bytes) -> str:
    with pytest.raises(ConfigError) as error:
        parse(text, "f.yaml")
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("-1", -1), ("+1", 1), ("0", 0), ("'1'", "1"), ('"1"', "1"), ("0777", "0777"), ("00.5", "00.5"), ("007e1", "007e1"), ("0x1F", "0x1F"), ("1_000", "1_000"),
        ("9223372036854775807", 9223372036854775807), ("-1000000000000000000", -(10**18)), ("12345678901234567890", "12345678901234567890"),
        ("1.5", 1.5), (".5", 0.5), ("1e3", 1000.0), ("1e999", "1e999"), (".inf", ".inf"), (".nan", ".nan"),
        ("true", True), ("False", False), ("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"), ("y", "y"),
        ("null", None), ("~", None), ("", None), ("'null'", "null"), ("'true'", "true"), ("|\n  true\n", "true\n"),
        ("2001-01-01", "2001-01-01"), ("12:30:45", "12:30:45"), ("=", "="), ("1.2.3", "1.2.3"), ("é", "é"),
    ],
)  # fmt: skip
def test_a_scalar_is_what_it_looks_like(text: str, value: Any) -> None:
    found = parse(f"k: {text}", "f.yaml").value["k"]
    assert (found, type(found)) == (value, type(value))


def test_marks_are_one_based_and_of_keys_and_items() -> None:
    document = parse("a: 1\nb:\n  - x\n  - c: true\n    d: [1, {e: 2}]\n", "f.yaml")
    assert document.value == {"a": 1, "b": ["x", {"c": True, "d": [1, {"e": 2}]}]}
    assert document.marks[("a",)] == (1, 1)
    assert document.marks[("b", 0)] == (3, 5)
    assert document.marks[("b", 1, "c")] == (4, 5)
    assert document.marks[("b", 1, "d", 1)] == (5, 12)
    assert document.marks[("b", 1, "d", 1, "e")] == (5, 13)
    assert document.where(("b", 1, "d", 7, "nope")) == "f.yaml:5:5"
    assert document.problem(("b", 1, "c"), "bad") == "f.yaml:4:5: b[1].c: bad"
    assert document.problem((), "bad") == "f.yaml:1:1: bad"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\na: 2", "f.yaml:2:1: a: the key stands twice in this mapping; keep one"),
        ("a: {b: 1, b: 2}", "f.yaml:1:11: a.b: the key stands twice"),
        ("1: a\n'1': b", "f.yaml:2:1: 1: the key stands twice"),
        ("a: &x [1]\nb: *x", "f.yaml:1:4: anchors (&name) are not read here; remove it\nf.yaml:2:4: aliases (*name)"),
        ("a: &x 1", "f.yaml:1:4: anchors"),
        ("*x : 1", "f.yaml:1:1: aliases"),
        ("a: !!python/object:os.system x", "f.yaml:1:4: tags (!name) are not read here"),
        ("a: !!str 1", "f.yaml:1:4: tags"),
        ("a: !!map {b: 1}", "f.yaml:1:4: tags"),
        ("a: ! 1", "f.yaml:1:4: tags"),
        ("b: {<<: {a: 1}}", "f.yaml:1:5: merge keys (<<) are not read here"),
        ("? [1]\n: 2", "f.yaml:1:3: a key has to be a plain word"),
        ("? {a: b}\n: {c: [d]}\ne: !x f", "f.yaml:1:3: a key has to be a plain word\nf.yaml:3:4: tags"),
        ("a: 1\n---\nb: 2", "f.yaml:2:1: a second document begins here"),
        ("a: [", "f.yaml:2:1: not valid YAML: "),
        ("a: b: c", "f.yaml:1:5: not valid YAML: mapping values are not allowed"),
        ("a: 1\n\tb: 2", "f.yaml:2:1: not valid YAML"),
        ("a: 1\nb: \x07", "f.yaml:2:4: not valid YAML: a control character"),
        (b"a: \xff", "f.yaml:1:1: not UTF-8 (byte 3)"),
        ("a: \ud800", "f.yaml:1:1: not UTF-8"),
        ('a: "\\ud800"', "f.yaml:1:7: not valid YAML"),
        ("a: " + "x" * LARGEST, "f.yaml:1:1: the file is larger than 1 MiB"),
        ("[" * DEEPEST + "1" + "]" * DEEPEST, None),
        ("[" * (DEEPEST + 1) + "1" + "]" * (DEEPEST + 1), f"f.yaml:1:{DEEPEST + 1}: nested deeper than {DEEPEST}"),
        ("\ufeffa: 1", None),
        (b"\xef\xbb\xbfa: 1", None),
    ],
)  # fmt: skip
def test_what_has_hidden_a_policy_before_is_an_error_in_its_place(text: str | bytes, expected: str | None) -> None:
    if expected is None:
        parse(text, "f.yaml")
    else:
        assert failure(text).startswith(expected)


@pytest.mark.parametrize(
    "text", ["[a, " * 100_000, "{a: " * 100_000, "? [" * 100_000, "- " * 300_000, "[" * 500_000, "&a " * 100_000]
)
def test_a_hostile_file_is_given_up_early(text: str) -> None:
    started = time.process_time()
    failure(text)
    assert time.process_time() - started < 10, "libyaml alone takes minutes over some of these"


def test_problems_are_bounded() -> None:
    assert len(failure("[" + "!x a, " * 5000 + "]").splitlines()) == 100


def test_keys_cannot_write_to_a_terminal() -> None:
    assert dotted(("a", 0, "\x1b[2J", "b\nc")) == "a[0].'\\x1b[2J'.'b\\nc'"


class Colour(StrEnum):
    RED = "red"


class Inner(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    size: int = Field(default=1, ge=1)
    names: tuple[str, ...] = ()
    colour: Colour = Colour.RED


class Outer(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    inner: Inner
    many: list[Inner] = Field(default_factory=list)
    by_name: dict[str, Inner] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict, alias="with")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("inner: {sise: 1}", ["f.yaml:1:9: inner.sise: unknown key; did you mean 'size'?"]),
        ("inner: {}\nwiht: {}", ["f.yaml:2:1: wiht: unknown key; did you mean 'with'?"]),
        ("inner: {}\nmany: [{}, {colr: red}]", ["f.yaml:2:13: many[1].colr: unknown key; did you mean 'colour'?"]),
        ("many: []", ["f.yaml:1:1: the key 'inner' is required"]),
        ("inner: {size: '1'}", ["f.yaml:1:9: inner.size: Input should be a valid integer"]),
        ("inner: {size: 0, colour: blue}", ["f.yaml:1:9: inner.size: Input should be greater", "f.yaml:1:18: inner.colour: Input should be 'red'"]),
        ("inner: {size: true}", ["f.yaml:1:9: inner.size: Input should be a valid integer"]),
        ("- 1", ["f.yaml:1:1: a mapping with the keys of Outer is expected here"]),
        ("", ["f.yaml:1:1: a mapping with the keys of Outer is expected here"]),
    ],
)  # fmt: skip
def test_a_model_that_does_not_fit_is_told_in_place(text: str, expected: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        validated(Outer, parse(text, "f.yaml"))
    assert len(error.value.problems) == len(expected)
    for problem, start in zip(error.value.problems, expected, strict=True):
        assert problem.startswith(start)


def test_lists_fill_tuples_and_text_fills_enums_and_nothing_else_is_bent() -> None:
    outer = validated(Outer, parse("inner: {names: [a, b], colour: red}\nwith: {x: 1}", "f.yaml"))
    assert (outer.inner.names, outer.inner.colour, outer.options) == (("a", "b"), Colour.RED, {"x": 1})
    inner = validated(Inner, parse("a: {b: [{size: 5}]}", "f.yaml"), at=("a", "b", 0))
    assert inner.size == 5


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200) | st.text(alphabet="{}[]:,-?&*!|>'\"#%@` \n\tab1", max_size=120))
def test_any_bytes_are_a_document_or_config_errors_with_a_place(data: bytes | str) -> None:
    try:
        document = parse(data, "f.yaml")
    except ConfigError as error:
        problems = error.problems
    else:
        problems = ()
        assert isinstance(document, Document)
        assert () in document.marks or document.value is None
    assert all(problem.startswith("f.yaml:") for problem in problems)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet="abc", max_size=3), inner, max_size=3),
    max_leaves=10,
)


@settings(deadline=None)
@given(JSON)
def test_json_is_read_back_as_it_was(value: Any) -> None:
    import json

    assert parse(json.dumps(value, ensure_ascii=False), "f.yaml").value == value
