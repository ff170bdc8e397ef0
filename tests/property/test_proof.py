"""What the proofs promise, over random patterns, conditions, statements and claims near them.

* A pattern is read as RE2 reads it, text by text.
* Over at least 100,000 pairs of statements and claims nothing that was called impossible happens, and every witness comes
  out of `decide` as promised. JOBKEY_PROOF_PAIRS sets how many pairs of statement lists; each meets 50 claim sets.
* Adding a condition, a guardrail's trigger or an expression is proved to widen nothing.
"""

import os
from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from broker.model import GrantRequest, VerifiedToken
from broker.policy import Allowed, Denied, decide
from broker.policy.conditions import compile_pattern, glob_to_re2, matches
from broker.policy.examples import example_token
from broker.policy.policyset import Statement
from broker.proof import Answer, Verdict, beyond, region_of
from broker.proof.syntax import Opaque, glob_term, regex_term
from broker.proof.terms import Budget, Exhausted, Term, after, shortest
from tests.unit.policy.world import NOON
from tests.unit.proof.statements import KINDS, Near, compiled, policies, statement

PAIRS = int(os.environ.get("JOBKEY_PROOF_PAIRS", "2200"))
NEAR_EACH = 50
CHUNKS = 4

piece = st.sampled_from([
    "a", "b", "/", "main", "[a-c]", "[^/]", ".", "\\d", "(?i:k)", "\\pL", "[[:alpha:]]", "\\x41", "\\Qa.b\\E", "\\.", "[\\w-]", "é", "[^\\pL]", "$", "^",
    "\\A", "\\z", "[]a]", "[^]a-]", "\\101", "\\x{e9}", "[a\\]b]", "{", "{,2}", "\\b", "(?i)", "(?-i)", "\\pN", "[\\pL\\d]", "\\W", "\\S", "x{2}",
])  # fmt: skip
group = st.sampled_from(["(", "(?:", "(?i:", "(?-i:", "(?s:", "(?P<n>"])
repeat = st.sampled_from(["", "", "", "*", "+", "?", "{2}", "{0,2}", "{1,}", "*?", "{2,3}"])
regexes = st.recursive(
    st.lists(st.tuples(piece, repeat).map("".join), max_size=3).map("".join),
    lambda inner: st.lists(
        st.tuples(group, inner, st.sampled_from(["", "|"]), inner, repeat).map(
            lambda parts: f"{parts[0]}{parts[1]}{parts[2]}{parts[3]}){parts[4]}"
        ),
        min_size=1,
        max_size=2,
    ).map("".join),
    max_leaves=4,
)
globs = st.lists(
    st.sampled_from(["a", "main", "*", "**", "?", "/", ".", "[", "é", "\\", "{2}", "\n"]), min_size=1, max_size=7
).map("".join)
texts = st.text(alphabet="abmainABkKsS\u212a\u017f .{}-]5é\nA,2/\x07\u00a0日\\[x0_", max_size=8)


def agrees(pattern: str, term: Term, text: str, budget: Budget) -> None:
    assert after(term, text, budget).nullable == matches(compile_pattern(pattern), text), (pattern, text)


def near(text: str, other: str) -> set[str]:
    cut = len(other) % (len(text) + 1)
    return {
        text,
        text[:cut] + other,
        text[:cut] + other[:1] + text[cut:],
        text + text,
        text.swapcase(),
        text[1:],
        text[:-1],
    }


@settings(max_examples=600, deadline=None)
@given(regexes, texts)
def test_a_regex_is_read_as_re2_reads_it(pattern: str, text: str) -> None:
    try:
        compile_pattern(pattern)
    except ValueError:
        assume(False)
    try:
        term = regex_term(pattern)
    except Opaque:
        return
    budget = Budget(1_000_000)
    found = shortest(term, budget)
    for one in near(text, text) | (near(found, text) if found is not None else set()):
        agrees(pattern, term, one, budget)
        assert found is not None or not one or not matches(compile_pattern(pattern), one)


@settings(max_examples=300, deadline=None)
@given(globs, texts)
def test_a_glob_is_read_as_it_is_translated(glob: str, text: str) -> None:
    assume("***" not in glob)
    term, budget = glob_term(glob), Budget(1_000_000)
    instance = glob.replace("**", "x/y").replace("*", "x").replace("?", "z")
    for one in near(text, text) | near(instance, text):
        agrees(glob_to_re2(glob), term, one, budget)


@settings(max_examples=150, deadline=None)
@given(regexes, regexes, texts)
def test_what_is_called_within_is(one: str, two: str, text: str) -> None:
    for pattern in (one, two):
        try:
            compile_pattern(pattern)
        except ValueError:
            assume(False)
    first, second = region_of({"regex": one}), region_of({"regex": two})
    try:
        apart, inside = (first & second).is_empty(), (first & ~second).is_empty()
    except Exhausted:
        return
    for value in near(text, text) | {str(found) for found in first.examples() if found is not None}:
        if compiled({"regex": one}).holds(value):
            assert not inside or compiled({"regex": two}).holds(value)
            assert not apart or not compiled({"regex": two}).holds(value)


def pair(seed: int) -> tuple[Near, list[dict[str, Any]], list[dict[str, Any]]]:
    """Two lists of statements near each other, of one kind."""
    rng = Random(seed)
    around = Near(rng, rng.choice(sorted(KINDS)))
    new = [around.part() for _ in range(rng.choice([1, 1, 2]))]
    old = [around.sibling(part) for part in new]
    if rng.random() < 0.2:
        old.append(around.part())
    return around, new, [] if rng.random() < 0.05 else old


def trusted(statements: list[Statement], token: VerifiedToken) -> bool:
    return any(one.trusts(token) for one in statements)


def checked(seed: int, counts: Counter[str]) -> None:
    around, parts, others = pair(seed)
    new, old = ([statement(part, around.issuer, n) for n, part in enumerate(side)] for side in (parts, others))
    answer = beyond(new, old, kinds=KINDS)
    counts[answer.verdict] += 1
    base = None
    if answer.verdict is Verdict.SOME:
        assert answer.witness is not None
        base = answer.witness.claims
        assert base is not None
        comes_out(answer, around, new, old)
    for _ in range(NEAR_EACH):
        claims = around.claims(parts + others, base if around.rng.random() < 0.3 else None)
        try:
            token = example_token(around.issuer, around.kind, claims)
        except (TypeError, ValueError):
            continue
        counts["compared"] += 1
        if trusted(new, token) and not trusted(old, token):
            counts["beyond"] += 1
            assert answer.verdict is not Verdict.NONE, f"seed {seed}: {parts} beyond {others} by {claims}"


def comes_out(answer: Answer, around: Near, new: list[Statement], old: list[Statement]) -> None:
    """The witness is put to `decide`: allowed by the one set of policies, refused by the other."""
    assert answer.witness is not None
    assert answer.witness.claims is not None
    token = example_token(around.issuer, around.kind, answer.witness.claims)
    requests = [GrantRequest(grant="payments/deploy")]
    assert isinstance(decide(policies(new), token, requests, now=NOON), Allowed)
    assert isinstance(decide(policies(old), token, requests, now=NOON), Denied)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_nothing_that_is_called_impossible_happens(chunk: int) -> None:
    counts: Counter[str] = Counter()
    for seed in range(chunk, PAIRS, CHUNKS):
        checked(seed, counts)
    pairs = len(range(chunk, PAIRS, CHUNKS))
    # The comparison has force: all sides come up, and few questions stay open.
    assert counts["compared"] >= 0.95 * pairs * NEAR_EACH
    assert counts[Verdict.NONE] >= 0.25 * pairs
    assert counts[Verdict.SOME] >= 0.25 * pairs
    assert counts["beyond"] >= 2 * pairs
    assert counts[Verdict.UNKNOWN] <= 0.15 * pairs


@pytest.mark.parametrize("seed", range(0, 300, 3))
def test_one_more_condition_trigger_limit_or_expression_never_widens(seed: int) -> None:
    around, parts, _ = pair(seed)
    more = around.sibling(parts[0])
    for part in parts:
        whole = statement(part, around.issuer)
        narrowed = [
            whole.changed(conditions=(*whole.conditions, bound)) for bound in statement(more, around.issuer).conditions
        ]
        narrowed.append(whole.changed(never_triggers=whole.never_triggers | set(around.kind.trigger_names)))
        narrowed.append(whole.changed(allow_triggers=frozenset()))
        if whole.when is None:
            narrowed.append(whole.changed(when=statement({"when": "job.ref_protected"}).when))
        for one in narrowed:
            assert beyond([one], [whole], kinds=KINDS).verdict is Verdict.NONE, (seed, part, more)
        assert beyond([whole], [whole], kinds={}).verdict is Verdict.NONE
        assert beyond(narrowed, [whole], kinds={}).verdict is Verdict.NONE
