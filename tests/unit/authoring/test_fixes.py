"""Fixes: what is applied leaves every other byte as it was, and what breaks a file is not applied."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.authoring.finding import Fix
from broker.authoring.fixes import apply, difference, widens
from broker.policy.load import Checked, PolicyText, check_text
from tests.unit.policy.world import policy_text, world

TEXT = b"one\ntwo # a comment\nthree\nfour\n"


def fix(first: int, last: int, *lines: str, title: str = "mend it") -> Fix:
    return Fix(title=title, file="p.yaml", first=first, last=last, lines=lines)


def good(_: bytes) -> None:
    return None


@pytest.mark.parametrize(
    ("data", "fixes", "after"),
    [
        pytest.param(TEXT, [fix(3, 3, "3")], b"one\ntwo # a comment\n3\nfour\n", id="one line"),
        pytest.param(TEXT, [fix(1, 2)], b"three\nfour\n", id="lines go"),
        pytest.param(TEXT, [fix(2, 2, "two", "and a half")], b"one\ntwo\nand a half\nthree\nfour\n", id="one becomes two"),
        pytest.param(TEXT, [fix(1, 1, "1", "1b"), fix(4, 4, "4")], b"1\n1b\ntwo # a comment\nthree\n4\n", id="none moves another"),
        pytest.param(TEXT.replace(b"\n", b"\r\n"), [fix(2, 2, "2", "2b")], b"one\r\n2\r\n2b\r\nthree\r\nfour\r\n", id="CRLF stays"),
        pytest.param(b"a\r\nb\nc\n", [fix(2, 2, "B")], b"a\r\nB\nc\n", id="each line keeps its own ending"),
        pytest.param(b"a\nb", [fix(2, 2, "B", "C")], b"a\nB\nC", id="no newline at the end stays none"),
        pytest.param(b"a", [fix(1, 1, "A", "B")], b"A\nB", id="a single line"),
        pytest.param(b"\xef\xbb\xbfa\nb\n", [fix(1, 1, "A")], b"\xef\xbb\xbfA\nb\n", id="the byte-order mark stays"),
        pytest.param(b"\xef\xbb\xbfa\nb\n", [fix(1, 1)], b"\xef\xbb\xbfb\n", id="even where its line goes"),
        pytest.param("a\x85b\u2028c\n".encode(), [fix(2, 2, "B")], "a\x85B\u2028c\n".encode(), id="YAML's own line breaks"),
        pytest.param("é\nü\n".encode(), [fix(1, 1, "è")], "è\nü\n".encode(), id="other than ASCII"),
    ],
)  # fmt: skip
def test_what_is_applied(data: bytes, fixes: list[Fix], after: bytes) -> None:
    applied = apply(data, fixes, good)
    assert applied.data == after
    assert applied.done == tuple(fixes)
    assert applied.left == ()


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (fix(0, 1, "x"), "its lines are not in the file"),
        (fix(3, 2, "x"), "its lines are not in the file"),
        (fix(4, 5, "x"), "its lines are not in the file"),
        (fix(1, 1, "x\ny"), "its lines are not in the file"),
        (fix(1, 1, "one"), "it changes nothing"),
        (fix(1, 1, "bad"), "it says bad"),
    ],
)
def test_what_is_not_applied_says_why(one: Fix, why: str) -> None:
    applied = apply(TEXT, [one], lambda data: "it says bad" if b"bad" in data else None)
    assert applied.data == TEXT
    assert applied.left == ((one, why),)


def test_never_two_on_one_line_and_the_same_one_once() -> None:
    lower, upper = fix(2, 3, "lower"), fix(1, 2, "upper")
    applied = apply(TEXT, [upper, lower, lower], good)
    assert applied.data == b"one\nlower\nfour\n"
    assert applied.left == ((upper, "another fix changes the same lines; run --fix again"),)


def test_one_that_breaks_the_file_keeps_no_other_from_being_applied() -> None:
    applied = apply(
        TEXT, [fix(1, 1, "1"), fix(2, 2, "bad"), fix(4, 4, "4")], lambda data: "no" if b"bad" in data else None
    )
    assert applied.data == b"1\ntwo # a comment\nthree\n4\n"
    assert [one.first for one, _ in applied.left] == [2]


@given(
    lines=st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=5), min_size=1, max_size=8),
    ending=st.sampled_from(["\n", "\r\n"]),
    data=st.data(),
)
def test_every_line_that_no_fix_names_stays(lines: list[str], ending: str, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, len(lines)))
    last = data.draw(st.integers(first, len(lines)))
    new = data.draw(st.lists(st.sampled_from(["new", "newer"]), max_size=3))
    applied = apply("".join(line + ending for line in lines).encode(), [fix(first, last, *new)], good)
    assert applied.data.decode().split(ending)[:-1] == [*lines[: first - 1], *new, *lines[last:]]


def test_the_difference_is_fit_to_be_shown() -> None:
    shown = list(difference(b"a\nb\n", b"a\n\x1b[31mc\n", "p\n.yaml"))
    assert shown == ["--- p\ufffd.yaml", "+++ p\ufffd.yaml", "@@ -1,2 +1,2 @@", " a", "-b", "+\ufffd[31mc"]


# ---- what a fix may change of who gets what

WORLD = world()
BASE = policy_text(
    job='ref: {glob: "refs/heads/*"}', rest="allow_triggers: [pull_request]\nwhen: int(claims.run_attempt) < 4",
    grant="params: {size: 1}",
)  # fmt: skip


def checked(text: str) -> Checked:
    return check_text(PolicyText("payments.yaml", "payments.yaml", text.encode()), WORLD)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# nothing", "# something"),
        ('ref: {glob: "refs/heads/*"}', 'ref: {glob: "refs/heads/r*"}'),
        ('ref: {glob: "refs/heads/*"}', 'ref: {glob: "refs/heads/*"}\n      ref_protected: true'),
        ('ref: {glob: "refs/heads/*"}', "ref: [refs/heads/a, refs/heads/b]"),
        ("allow_triggers: [pull_request]", ""),
        ("ttl: 15m", "ttl: 10m"),
    ],
)
def test_narrower_is_no_wider(old: str, new: str) -> None:
    assert widens(checked(BASE), checked(BASE.replace(old, new)), WORLD) is None


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('ref: {glob: "refs/heads/*"}', 'ref: {glob: "refs/**"}', "would let in jobs"),
        ('ref: {glob: "refs/heads/*"}', "", "let"),
        ('project_id: "512345678"', 'project_id: ["512345678", "2"]', "would let in jobs"),
        ("allow_triggers: [pull_request]", "allow_triggers: [pull_request, workflow_run]", "let"),
        ("when: int(claims.run_attempt) < 4", "", "let"),
        ("when: int(claims.run_attempt) < 4", "when: int(claims.run_attempt) < 5", "let"),
        ("ttl: 15m", "ttl: 16m", "live longer"),
        ("params: {size: 1}", "params: {size: [1, 2]}", "something else"),
        ("params: {size: 1}", "params: {size: 2}", "something else"),
        ("params: {size: 1}", "with: {role: admin}", "something else"),
        ("params: {size: 1}", "", "something else"),
        ("policy: payments", "policy: refunds", "which policy"),
        ("  deploy:", "  other: {backend: safe, ttl: 5m}\n  deploy:", "would be new"),
    ],
)
def test_whatever_gives_somebody_more_is_found(old: str, new: str, why: str) -> None:
    assert old in BASE
    assert why in (widens(checked(BASE), checked(BASE.replace(old, new)), WORLD) or "")
