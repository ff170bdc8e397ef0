"""What one condition means, as tables; every trap that has let somebody in elsewhere is a row."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.policy.conditions import compile_condition, compile_pattern, glob_to_re2

ABSENT = [None, "", [], {}]


def holds(spec: Any, value: Any, only: type | None = None) -> bool:
    problems: list[str] = []
    condition = compile_condition(spec, lambda path, message: problems.append(f"{path}: {message}"), only=only)
    assert condition is not None, problems
    return condition.holds(value)


def problems_of(spec: Any, only: type | None = None) -> list[tuple[Any, str]]:
    problems: list[tuple[Any, str]] = []
    assert compile_condition(spec, lambda path, message: problems.append((path, message)), only=only) is None
    return problems


@pytest.mark.parametrize(
    ("spec", "value", "expected"),
    [
        pytest.param("refs/heads/main", "refs/heads/main", True, id="equal"),
        pytest.param("refs/heads/main", "refs/heads/main-evil", False, id="prefix of it"),
        pytest.param("main", "refs/heads/main", False, id="suffix of it"),
        pytest.param("main", "main\n", False, id="trailing newline"),
        pytest.param("main", " main", False, id="leading space"),
        pytest.param("main", "Main", False, id="other case"),
        pytest.param("main", "m\u0430in", False, id="a look-alike letter"),
        pytest.param("e\u0301", "\u00e9", False, id="another Unicode form of the same letter"),
        pytest.param("1", 1, False, id="text is no number"),
        pytest.param(1, "1", False, id="a number is no text"),
        pytest.param(1, 1, True, id="numbers"),
        pytest.param(1, 1.0, True, id="JSON knows one kind of number"),
        pytest.param(1, True, False, id="a number is no boolean"),
        pytest.param(True, 1, False, id="a boolean is no number"),
        pytest.param(True, "true", False, id="a boolean is no text"),
        pytest.param("true", True, False, id="text is no boolean"),
        pytest.param(False, False, True, id="false is a value, not an absence"),
        pytest.param(0, 0, True, id="zero is a value, not an absence"),
        pytest.param("a", ["a"], False, id="a list is not its item"),
        pytest.param("a", {"a": "a"}, False, id="an object is nothing"),
        pytest.param(["a", "b"], "b", True, id="any of"),
        pytest.param(["a", "b"], "c", False, id="none of them"),
        pytest.param(["a", {"absent": True}], None, True, id="any of, or absent"),
        pytest.param(["a", {"absent": True}], "b", False, id="there, and not it"),
        pytest.param({"not": "a"}, "b", True, id="not"),
        pytest.param({"not": "a"}, "a", False, id="not, and it is"),
        pytest.param({"not": ["a", "b"]}, "c", True, id="not any of"),
        pytest.param({"not": ["a", "b"]}, "a", False, id="not any of, and it is one"),
        pytest.param({"not": True}, "true", False, id="not says nothing about another type"),
        pytest.param({"not": "true"}, True, False, id="not says nothing about another type, the other way"),
        pytest.param({"not": 1}, "1", False, id="not a number, and it is text"),
        pytest.param({"not": "a"}, ["b"], False, id="not says nothing about a list"),
        pytest.param({"not": {"not": "a"}}, "a", True, id="not not"),
        pytest.param({"not": {"absent": True}}, "a", True, id="there, whatever it is"),
        pytest.param({"not": {"glob": "a*"}}, "b", True, id="not a glob"),
        pytest.param({"not": {"glob": "a*"}}, "b\n", True, id="not a glob, of text that no glob matches"),
        pytest.param({"not": {"glob": "a*"}}, 5, False, id="not a glob, of a number"),
        pytest.param({"contains": "a"}, ["b", "a"], True, id="contains"),
        pytest.param({"contains": "a"}, ["ab"], False, id="contains whole items only"),
        pytest.param({"contains": "a"}, "a", False, id="text contains no items"),
        pytest.param({"contains": {"glob": "acme/*"}}, ["x", "acme/ops"], True, id="contains a glob"),
        pytest.param({"not": {"contains": "a"}}, ["b"], True, id="no item is"),
        pytest.param({"not": {"contains": "a"}}, ["b", 5], False, id="no item is, but one cannot be judged"),
        pytest.param({"not": {"contains": "a"}}, "b", False, id="not contains says nothing about text"),
        pytest.param({"absent": True}, "a", False, id="absent, and it is there"),
        pytest.param({"absent": True}, False, False, id="false is there"),
        pytest.param({"absent": True}, 0, False, id="zero is there"),
    ],
)  # fmt: skip
def test_a_condition(spec: Any, value: Any, expected: bool) -> None:
    assert holds(spec, value) is expected


@pytest.mark.parametrize("value", ABSENT, ids=["null", "empty text", "empty list", "empty object"])
@pytest.mark.parametrize(
    "spec",
    ["a", True, 0, ["a", "b"], {"glob": "**"}, {"glob": "*"}, {"regex": ".*"}, {"not": "a"}, {"not": ["a"]}, {"not": {"absent": True}},
     {"not": {"contains": "a"}}, {"contains": {"not": "a"}}, {"not": {"glob": "x"}}, {"not": {"not": "a"}}],
    ids=str,
)  # fmt: skip
def test_what_is_not_there_satisfies_nothing_but_absent(spec: Any, value: Any) -> None:
    assert holds(spec, value) is False
    assert holds({"absent": True}, value) is True


@pytest.mark.parametrize(
    ("glob", "value", "expected"),
    [
        ("refs/heads/*", "refs/heads/main", True),
        ("refs/heads/*", "refs/heads/a/b", False),
        ("refs/heads/**", "refs/heads/a/b", True),
        ("refs/heads/**", "refs/heads/", True),
        ("refs/heads/*", "xrefs/heads/main", False),
        ("refs/heads/*", "refs/heads/main\n", False),
        ("refs/heads/*", "refs/heads/a\nb", False),
        ("refs/heads/**", "refs/heads/a\x00", False),
        ("acme/*/deploy", "acme/x/y/deploy", False),
        ("acme*", "acme-evil", True),
        ("acme/*", "acme-evil/x", False),
        ("v?", "v1", True),
        ("v?", "v", False),
        ("v?", "v/", False),
        ("v1.0", "v1x0", False),
        ("a+b(c)[d]{2}|^$\\", "a+b(c)[d]{2}|^$\\", True),
        ("a|b", "a", False),
        ("[ab]", "a", False),
        ("{a,b}", "a", False),
        ("Main", "main", False),
        ("*", "é", True),
        ("**/x", "a/b/x", True),
        ("**/x", "x", False),
    ],
)
def test_a_glob(glob: str, value: str, expected: bool) -> None:
    assert holds({"glob": glob}, value) is expected


@pytest.mark.parametrize(
    ("regex", "value", "expected"),
    [
        ("main|release", "main", True),
        ("main|release", "main-evil", False),
        ("main|release", "pre-release", False),
        ("^main$", "main", True),
        ("main$", "main\n", False),
        ("[^/]+", "a\nb", False),
        ("(?s).*", "a\nb", False),
        ("main.*", "main\n", False),
        ("(?m)^a$", "a\nb", False),
        ("a{2,3}", "aaaa", False),
        ("(?i)main", "MAIN", True),
        (".+", "\ud800", False),
    ],
)
def test_a_regex_matches_whole_values(regex: str, value: str, expected: bool) -> None:
    assert holds({"regex": regex}, value) is expected


@pytest.mark.parametrize(
    ("spec", "only", "path", "says"),
    [
        (None, None, (), "{absent: true}"),
        ("", None, (), "{absent: true}"),
        ([], None, (), "any of these"),
        ({}, None, (), "a condition is one of"),
        ([["a"]], None, (0,), "list inside a list"),
        (["a", ""], None, (1,), "{absent: true}"),
        ({"glob": "a", "regex": "b"}, None, (), "one of: absent, contains, glob, not, regex"),
        ({"globb": "a"}, None, ("globb",), "did you mean 'glob'"),
        ({"absent": False}, None, ("absent",), "write {absent: true}"),
        ({"absent": "true"}, None, ("absent",), "write {absent: true}"),
        ({"glob": 5}, None, ("glob",), "a glob is text"),
        ({"glob": "a***"}, None, ("glob",), "*** means nothing"),
        ({"regex": "("}, None, ("regex",), "not an RE2 pattern: missing )"),
        ({"regex": "a(?=b)"}, None, ("regex",), "not an RE2 pattern"),
        ({"regex": "(a)\\1"}, None, ("regex",), "not an RE2 pattern"),
        ({"regex": "(a{1000}){1000}"}, None, ("regex",), "not an RE2 pattern"),
        ({"regex": "[a-z]{900}[0-9]{900}[a-z]{900}"}, None, ("regex",), "too large"),
        ({"regex": "a" * 5000}, None, ("regex",), "at most"),
        ({"not": {"regex": "("}}, None, ("not", "regex"), "RE2"),
        ({"contains": {"absent": True}}, None, ("contains",), "never absent"),
        (512345678, str, (), 'write it in quotes, "512345678"'),
        ([1, "a"], str, (0,), "write it in quotes"),
        ("true", bool, (), "true or false without quotes"),
        ({"not": "true"}, bool, ("not",), "true or false without quotes"),
        ({"glob": "t*"}, bool, ("glob",), "true or false"),
        ({"contains": "a"}, str, ("contains",), "never a list"),
        ({"not": {"not": {"not": {"not": {"not": "a"}}}}}, None, ("not",) * 5, "at most 4 deep"),
        ("a" * 1025, None, (), "at most 1024"),
    ],
    ids=str,
)  # fmt: skip
def test_a_condition_that_is_none(spec: Any, only: type | None, path: tuple[Any, ...], says: str) -> None:
    ((where, message), *_) = problems_of(spec, only)
    assert where == path
    assert says in message


def python_glob(glob: str, value: str) -> bool:
    """Another reading of the same rules: character by character, without patterns."""
    if not glob:
        return not value
    if glob.startswith("**"):
        return any(python_glob(glob[2:], value[i:]) for i in range(len(value) + 1))
    if glob[0] == "*":
        end = value.find("/") if "/" in value else len(value)
        return any(python_glob(glob[1:], value[i:]) for i in range(end + 1))
    return (
        bool(value)
        and (value[0] == glob[0] or (glob[0] == "?" and value[0] != "/"))
        and python_glob(glob[1:], value[1:])
    )


@settings(deadline=None)
@given(
    st.text("ab/*?.", min_size=1, max_size=8).filter(lambda glob: "***" not in glob),
    st.text("ab/.", min_size=1, max_size=8),
)
@example("**", "a/b")
def test_globs_agree_with_a_plain_reading_of_their_rules(glob: str, value: str) -> None:
    assert holds({"glob": glob}, value) is python_glob(glob, value)


@settings(deadline=None)
@given(st.text(min_size=1, max_size=40).filter(lambda text: text.isprintable() and not set(text) & set("*?")))
def test_a_glob_without_wildcards_matches_itself_alone(text: str) -> None:
    pattern = compile_pattern(glob_to_re2(text))
    assert pattern.fullmatch(text) is not None
    assert pattern.fullmatch(text + "x") is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(JSON, JSON)
def test_any_data_is_a_condition_or_a_problem_and_judging_never_raises(spec: Any, value: Any) -> None:
    problems: list[Any] = []
    condition = compile_condition(spec, lambda *problem: problems.append(problem))
    assert (condition is None) == bool(problems)
    if condition is not None:
        assert condition.holds(value) in {True, False}


def test_patterns_write_nothing_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="RE2"):
        compile_pattern("(secret")
    assert capfd.readouterr().err == ""
