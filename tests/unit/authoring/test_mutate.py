"""`policy test --mutate`: every planted hole is found, nothing else is called one, and what it suggests closes it."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.authoring.mutation.mutate import Coverage, Fate, coverage, percent
from broker.authoring.mutation.weaken import DROPPED, operands, weaker
from broker.authoring.write.insert import with_examples
from broker.issuers import ISSUERS
from broker.policy.conditions import compile_condition
from broker.policy.examples import example_token
from broker.policy.expressions import compile_expression
from broker.policy.guardrails import Guardrails
from broker.policy.load import Checked, PolicyText, check_text
from broker.policy.world import World
from tests.unit.policy.world import world as with_backends

FOLDER = Path(__file__).parent / "mutate"
PLANTED: dict[str, dict[str, list[str]]] = json.loads((FOLDER / "holes.json").read_text())
COMPLETE = sorted(path.stem for path in FOLDER.glob("complete-*.yaml"))
WORLD = World(issuers=ISSUERS, issuer_urls={name: kind.url for name, kind in ISSUERS.items() if kind.url}, targets=None, guardrails=Guardrails())  # fmt: skip


def checked(data: bytes, world: World = WORLD) -> Checked:
    return check_text(PolicyText("p.yaml", "p.yaml", data), world)


def examined(stem: str) -> Coverage:
    return coverage(checked((FOLDER / f"{stem}.yaml").read_bytes()), WORLD)


def holes(found: Coverage) -> dict[str, list[str]]:
    places: dict[str, list[str]] = {}
    for mutant in found.holes:
        places.setdefault(mutant.where, []).append(mutant.said)
    return places


def test_there_are_ten_policies_with_holes_and_three_complete_sets() -> None:
    assert len(PLANTED) == 10
    assert all(PLANTED.values())
    assert len(COMPLETE) >= 3
    assert {path.stem for path in FOLDER.glob("*.yaml")} == {*PLANTED, *COMPLETE}


@pytest.mark.parametrize("stem", PLANTED)
def test_every_planted_hole_is_found_and_nothing_else_is_called_one(stem: str) -> None:
    found = examined(stem)
    assert holes(found) == PLANTED[stem]
    assert found.killed == found.total - sum(map(len, PLANTED[stem].values()))
    assert percent(found.killed, found.total) < 100


@pytest.mark.parametrize("stem", COMPLETE)
def test_a_complete_set_is_called_complete(stem: str) -> None:
    found = examined(stem)
    assert holes(found) == {}
    assert percent(found.killed, found.total) == 100
    assert not [mutant for mutant in found.mutants if mutant.fate is Fate.OPEN]


@pytest.mark.parametrize("stem", PLANTED)
def test_what_it_suggests_loads_and_closes_the_hole(stem: str) -> None:
    found = examined(stem)
    suggested = {mutant.example["name"]: mutant.example for mutant in found.holes if mutant.example is not None}
    assert all(mutant.example is not None for mutant in found.holes)
    data = with_examples(found.checked.text.data, "p.yaml", list(suggested.values()))
    assert holes(coverage(checked(data), WORLD)) == {}


@pytest.mark.parametrize("stem", COMPLETE)
def test_without_any_one_refusal_a_complete_set_is_less(stem: str) -> None:
    """Each example of these sets proves something that no other proves; taking it away is a hole."""
    whole = checked((FOLDER / f"{stem}.yaml").read_bytes())
    for number, example in enumerate(whole.written.examples):
        if example.expect.allow:
            continue
        rest = whole.written.model_copy(
            update={"examples": [one for place, one in enumerate(whole.written.examples) if place != number]}
        )
        found = coverage(Checked(whole.text, whole.document, rest, whole.policy), WORLD)
        proved = {mutant.where for mutant in examined(stem).mutants if mutant.by == example.name}
        missing = set(holes(found))
        # What it alone noticed is a hole now; a weaker loosening may still be noticed by a neighbour.
        assert missing <= {mutant.where for mutant in found.mutants}
        assert missing or proved <= {mutant.where for mutant in found.mutants if mutant.fate is Fate.NOTICED}
        assert missing or example.name == "another branch", example.name


# ---- what is not a hole


def one(job: str, examples: str = "", *, rest: str = "", grant: str = "") -> Coverage:
    text = f"""\
policy: payments
owners: [team@acme.example]
trust:
  - issuer: github
    job: {job}
{rest}
grants:
  deploy: {{backend: safe, ttl: 5m{grant}}}
examples:
  - {{name: good, claims: {{$like: github-environment}}, expect: {{allow: [deploy]}}}}
  - {{name: a stranger, claims: {{$like: github-branch, repository_id: "1"}}, expect: refuse}}
{examples}
"""
    return coverage(checked(text.encode(), with_backends()), with_backends())


def fates(found: Coverage, where: str) -> dict[str, Fate]:
    return {mutant.said: mutant.fate for mutant in found.mutants if mutant.where == where}


def test_a_loosening_that_lets_nobody_in_is_proved_and_not_counted() -> None:
    found = one('{project_id: "512345678"}', rest='    claims: {repository_id: {glob: "512345678"}}')
    assert set(fates(found, "trust[0].claims.repository_id").values()) == {Fate.SAME}
    assert set(fates(found, "trust[0].job.project_id").values()) == {Fate.SAME}


def test_a_second_statement_that_says_the_same_leaves_no_hole() -> None:
    found = one(
        '{project_id: "512345678", ref: refs/heads/main}', rest='  - {issuer: github, job: {project_id: "512345678"}}'
    )
    assert set(fates(found, "trust[0].job.ref").values()) == {Fate.SAME}


def test_what_no_claims_can_show_is_told_and_not_counted() -> None:
    found = one('{project_id: "512345678", ref: refs/heads/main, ref_type: branch}')
    assert set(fates(found, "trust[0].job.ref_type").values()) <= {Fate.OPEN, Fate.SAME}
    assert all(mutant.why for mutant in found.mutants if mutant.fate is Fate.OPEN)


def test_triggers_that_guardrails_never_allow_need_no_example() -> None:
    text = (FOLDER / "hole-06-triggers.yaml").read_bytes()
    strict = World(issuers=ISSUERS, issuer_urls=WORLD.issuer_urls, targets=None, guardrails=Guardrails(triggers_never_allowed=frozenset({"pull_request_target"})))  # fmt: skip
    (left,) = coverage(checked(text, strict), strict).holes
    assert left.said.startswith("any of pull_request_review")


def test_a_trigger_that_is_allowed_is_no_loosening() -> None:
    found = one('{project_id: "512345678"}', rest="    allow_triggers: [pull_request]")
    assert not any(said.startswith("pull_request let") for said in fates(found, "trust[0].allow_triggers"))


def test_a_restriction_on_what_a_job_sends_is_proved_by_examples_that_send_it() -> None:
    grant = ", params: {session: [build, test], size: 3}"
    found = one('{project_id: "512345678"}', grant=grant)
    assert fates(found, "grants.deploy.params.session") == dict.fromkeys(
        fates(found, "grants.deploy.params.session"), Fate.HOLE
    )
    sent = "\n".join(
        f"  - {{name: {session} {size}, claims: {{$like: github-environment}}, grant: deploy, params: {{session: {session}, size: {size}}}, expect: refuse}}"
        for session, size in (("buildx", 3), ("testx", 3), ("build", 4))
    )
    closed = one('{project_id: "512345678"}', sent, grant=grant)
    assert set(fates(closed, "grants.deploy.params.session").values()) == {Fate.NOTICED}
    assert set(fates(closed, "grants.deploy.params.size").values()) == {Fate.NOTICED}


def test_a_suggestion_for_a_restriction_is_one_that_the_backend_would_take() -> None:
    found = one('{project_id: "512345678"}', grant=", params: {session: build}")
    (mutant, *_) = [one for one in found.holes if one.path[0] == "grants"]
    assert mutant.example is not None
    assert mutant.example["params"]["session"].startswith("build")
    data = with_examples(found.checked.text.data, "p.yaml", [mutant.example])
    assert "grants.deploy.params.session" not in holes(coverage(checked(data, with_backends()), with_backends()))


def test_a_percentage_is_never_rounded_up_to_all() -> None:
    assert percent(999_999, 1_000_000) == 99.9
    assert percent(0, 0) == 100
    assert percent(2, 3) == 66.6


# ---- what loosening means


scalars = st.one_of(st.text("ab/*?", min_size=1, max_size=6), st.integers(-2, 2).filter(bool), st.booleans())
globs = st.text("ab/*?", min_size=1, max_size=6).filter(lambda text: "***" not in text)
conditions = st.recursive(
    st.one_of(
        scalars, st.builds(lambda text: {"glob": text}, globs), st.just({"absent": True}), st.just({"regex": "a+"})
    ),
    lambda inner: st.one_of(
        st.lists(inner.filter(lambda item: not isinstance(item, list)), min_size=1, max_size=3),
        st.builds(lambda item: {"not": item}, inner),
        st.builds(lambda item: {"contains": item}, inner),
    ),
    max_leaves=5,
)
values = st.one_of(st.none(), scalars, st.text("abx/\n", max_size=8), st.lists(scalars, max_size=3), st.just(""))


@settings(max_examples=400, deadline=None)
@given(conditions, st.lists(values, min_size=1, max_size=12), st.booleans())
def test_what_is_loosened_admits_all_that_it_did(spec: Any, tried: list[Any], extends: bool) -> None:
    original = compile_condition(spec, lambda *_: None)
    if original is None:
        return
    for said, loosened in weaker(spec, extends=extends):
        if loosened is DROPPED:
            continue
        condition = compile_condition(loosened, lambda *_: None)
        assert condition is not None, loosened
        for value in tried:
            assert condition.holds(value) or not original.holds(value), (said, loosened, value)


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("claims.a == 'x' && claims.b", ["claims.a == 'x'", "claims.b"]),
        ("claims.a == 'x && y' && (claims.b || claims.c)", ["claims.a == 'x && y'", "(claims.b || claims.c)"]),
        ('claims.a == "\\" && " && claims.b', ['claims.a == "\\" && "', "claims.b"]),
        ("claims.a && claims.b || claims.c", ["claims.a && claims.b || claims.c"]),
        ("claims.a ? claims.b && claims.c : claims.d", ["claims.a ? claims.b && claims.c : claims.d"]),
        ("claims.list.exists(x, x == 1 && x < 2)", ["claims.list.exists(x, x == 1 && x < 2)"]),
        ("claims.a", ["claims.a"]),
    ],
)
def test_an_expression_is_split_only_where_it_is_a_conjunction(source: str, parts: list[str]) -> None:
    assert operands(source) == parts


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["claims.a == 1", "claims.b == 'x'", "(claims.a == 1 || claims.b == 'y')", "has(claims.c)", "!(claims.a == 2)"]), min_size=2, max_size=4), st.integers(0, 3), st.fixed_dictionaries({}, optional={"a": st.integers(1, 2), "b": st.sampled_from("xy"), "c": st.just(1)}))  # fmt: skip
def test_an_expression_without_one_of_its_parts_admits_all_that_it_did(
    parts: list[str], place: int, claims: dict[str, Any]
) -> None:
    whole = compile_expression(" && ".join(parts))
    assert operands(whole.source) == parts
    rest = compile_expression(" && ".join(part for number, part in enumerate(parts) if number != place % len(parts)))
    job = example_token("github", ISSUERS["github"], ISSUERS["github"].examples["github-branch"]).job
    assert rest.holds(job, claims) or not whole.holds(job, claims)
