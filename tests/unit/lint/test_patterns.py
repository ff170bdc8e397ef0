"""Reading patterns, against what RE2 itself says of them."""

import itertools
import os

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.authoring.lint.patterns import Open, opens, overlap, regex_prefix
from broker.policy.conditions import glob_to_re2

globs = (
    st.lists(st.sampled_from(["a", "b", "/", "*", "?", "**"]), max_size=6)
    .map("".join)
    .filter(lambda glob: glob and "***" not in glob)
)
texts = st.text(alphabet="ab/", max_size=6)
EXAMPLES = int(os.environ.get("JOBKEY_LINT_EXAMPLES", "300"))


@settings(max_examples=EXAMPLES, deadline=None)
@given(globs, globs, texts)
def test_a_text_that_both_globs_take_is_an_overlap(one: str, other: str, text: str) -> None:
    both = re2.fullmatch(glob_to_re2(one), text) and re2.fullmatch(glob_to_re2(other), text)
    assert not both or overlap(one, other)
    assert overlap(one, other) == overlap(other, one)
    assert overlap(one, one)


ALL = ["".join(letters) for size in range(5) for letters in itertools.product("ab/", repeat=size)]


@settings(max_examples=60, deadline=None)
@given(
    *[
        st.lists(st.sampled_from(["a", "/", "*", "?", "**"]), min_size=1, max_size=3)
        .map("".join)
        .filter(lambda glob: "***" not in glob)
    ]
    * 2
)
def test_no_overlap_is_said_where_there_is_none(one: str, other: str) -> None:
    """Over every short text: an overlap of two short globs has a short text in it."""
    taken = [text for text in ALL if re2.fullmatch(glob_to_re2(one), text) and re2.fullmatch(glob_to_re2(other), text)]
    assert overlap(one, other) == bool(taken)


def test_long_globs_end() -> None:
    assert overlap("**a" * 150, "**b**a" * 80)
    assert not overlap("a" * 500 + "*", "b" + "*a" * 200)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.lists(
        st.sampled_from(["a", "b", r"\.", ".", "*", "?", "+", "{2}", "|", "(a)", "[ab]", "^", r"\d"]), max_size=6
    ).map("".join),
    texts,
)
def test_every_match_begins_with_the_prefix(pattern: str, text: str) -> None:
    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(pattern, options)
    except re2.error:
        return
    assert not compiled.fullmatch(text) or text.startswith(regex_prefix(pattern))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("acme", []),
        (["a", "b"], []),
        ({"absent": True}, []),
        ({"glob": "acme"}, []),
        ({"regex": r"acme\.corp"}, []),
        ({"glob": "acme*"}, [Open("glob", "acme*", "acme")]),
        ({"regex": r"acme\.corp/.*"}, [Open("regex", r"acme\.corp/.*", "acme.corp/")]),
        ({"regex": "a|b"}, [Open("regex", "a|b", "")]),
        ({"not": "x"}, [Open("not", "x", "")]),
        ({"contains": {"glob": "a/*"}}, [Open("glob", "a/*", "a/")]),
        (["a", {"glob": "b?"}], [Open("glob", "b?", "b")]),
    ],
)  # fmt: skip
def test_what_a_condition_leaves_open(spec: object, expected: list[Open]) -> None:
    assert list(opens(spec)) == expected
