"""Who is named: never fewer than the conditions themselves say, and in a time that does not grow with the policies."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.policy import naming
from broker.policy.conditions import Condition, compile_condition
from broker.policy.naming import Naming
from tests.unit.policy.world import job_token, load, policy_text


def condition(spec: Any) -> Condition:
    problems: list[str] = []
    found = compile_condition(spec, lambda _, message: problems.append(message))
    assert found is not None, problems
    return found


def named(specs: list[Any], value: Any) -> bool:
    """Whether a claim of this value is named by any of these conditions."""
    found = Naming.of(
        ("github", [("claims.x", lambda token: token.claims.get("x"), condition(spec))]) for spec in specs
    )
    return found.holds(job_token(x=... if value is None else value))


pieces = st.sampled_from(["acme", "evil", "/", "a", "b", "*", "**", "?", "-", ".", "1"])
texts = st.lists(pieces, min_size=1, max_size=5).map("".join).filter(lambda text: "***" not in text)
regexes = st.lists(
    st.sampled_from(["acme", "a", "b?", "/", "[a-z]+", ".*", "(x|y)", "c*", "d{0,2}", "|", "(?i)q", "\\.", "e+"]),
    min_size=1,
    max_size=4,
).map("".join)
plain = st.sampled_from(["acme", "acme/a", "evil/b", "7", True, 7])


def valid(spec: Any) -> bool:
    return compile_condition(spec, lambda *_: None) is not None


one = st.one_of(
    plain,
    texts.map(lambda text: {"glob": text}),
    regexes.map(lambda text: {"regex": text}),
    texts.map(lambda text: {"not": {"glob": text}}),
    st.just({"absent": True}),
)
specs = st.one_of(one, st.lists(one, min_size=1, max_size=3)).filter(valid)
values = st.one_of(
    st.none(),
    plain,
    st.lists(st.sampled_from(["acme", "evil", "/", "a", "b", "x", ".", "1", "Q", "q"]), min_size=1, max_size=4).map(
        "".join
    ),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(specs, min_size=1, max_size=6), values)
def test_it_is_what_the_conditions_say(many: list[Any], value: Any) -> None:
    said = any(condition(spec).holds(value) for spec in many)
    written = any(
        str(value) in map(str, condition(spec).exact or ()) for spec in many
    )  # 7 and "7" are one project's id
    assert named(many, value) == (said or written)


@pytest.mark.parametrize(
    ("spec", "value", "expected"),
    [
        ({"glob": "acme/*"}, "acme/x", True),
        ({"glob": "acme/*"}, "acme-evil/x", False),
        ({"regex": "acme/[a-z]+"}, "acme/x", True),
        ({"regex": "ab?c"}, "ac", True),
        ({"regex": "ab{0,1}c"}, "ac", True),
        ({"regex": "acme/a|evil/b"}, "evil/b", True),
        ({"regex": "(?i)acme"}, "ACME", True),
        (["acme/x", {"glob": "evil/*"}], "acme/x", True),
        (["acme/x", {"glob": "evil/*"}], "evil/y", True),
        ({"not": "acme"}, "evil", True),
        ({"not": "acme"}, None, False),
        ({"absent": True}, None, True),
        ({"absent": True}, "x", False),
    ],
)
def test_samples(spec: Any, value: Any, *, expected: bool) -> None:
    assert named([spec], value) is expected


def test_of_too_many_patterns_that_begin_alike_the_beginning_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Any] = []
    true = Condition

    def watched(spec: Any) -> Condition:
        found = condition(spec)
        return true(
            lambda value: tried.append(value) or found.holds(value),
            found.test,
            found.admits_absent,
            found.shown,
            None,
            spec,
        )  # type: ignore[func-returns-value]

    def of(count: int) -> Naming:
        return Naming.of(
            ("github", [("claims.x", lambda token: token.claims["x"], watched({"glob": f"acme/*-{n}"}))])
            for n in range(count)
        )

    assert not of(naming.MOST_TRIED).holds(job_token(x="acme/none"))
    assert len(tried) == naming.MOST_TRIED
    tried.clear()
    many = of(10_000)
    assert many.holds(job_token(x="acme/none"))
    assert not many.holds(job_token(x="evil/none"))
    assert tried == []


def test_the_same_pattern_of_many_policies_is_tried_once() -> None:
    naming = Naming.of(
        ("github", [("claims.x", lambda token: token.claims["x"], condition({"regex": ".*/a"}))]) for _ in range(10_000)
    )
    assert not naming.holds(job_token(x="b"))
    assert naming.holds(job_token(x="acme/a"))


def test_a_set_of_policies_names_whom_its_statements_name() -> None:
    found = load(policy_text())
    assert found.names(job_token(repository_id="512345678"))
    assert not found.names(job_token(repository_id="7"))
