"""Questions about statements with known answers, and the claims that come with them."""

import time
from typing import Any

import pytest

from broker.issuers import ISSUERS
from broker.policy.examples import example_token
from broker.proof import Answer, Budget, Verdict, beyond
from tests.unit.proof.statements import KINDS, compiled, statement

ID = {"project_id": "512345678"}
NONE, SOME, UNKNOWN = Verdict.NONE, Verdict.SOME, Verdict.UNKNOWN


def job(**fields: Any) -> dict[str, Any]:
    return {"job": {**ID, **fields}}


def claims(**fields: Any) -> dict[str, Any]:
    return {"job": ID, "claims": fields}


def ask(new: list[dict[str, Any]], old: list[dict[str, Any]], issuer: str = "github", **more: Any) -> Answer:
    """The answer; a witness is put to the statements once more."""
    ours, others = ([statement(part, issuer, n) for n, part in enumerate(parts)] for parts in (new, old))
    answer = beyond(ours, others, kinds=KINDS, **more)
    assert (beyond(ours, others, kinds=KINDS, prove_only=True, **more).verdict is NONE) is (answer.verdict is NONE)
    if answer.verdict is SOME:
        assert answer.witness is not None
        assert answer.witness.claims is not None
        token = example_token(answer.witness.issuer, KINDS[issuer], answer.witness.claims)
        assert any(one.trusts(token) for one in ours)
        assert more or not any(one.trusts(token) for one in others)
        assert tuple(answer.witness.triggers) == token.unsafe_triggers
        assert not answer.why
    if answer.verdict is UNKNOWN:
        assert answer.why
    return answer


@pytest.mark.parametrize(
    ("new", "old", "verdict"),
    [
        pytest.param([job(ref="refs/heads/main")], [job(ref="refs/heads/main")], NONE, id="the same"),
        pytest.param([job()], [job(ref="refs/heads/main")], SOME, id="a condition dropped"),
        pytest.param([job(ref="refs/heads/main")], [job()], NONE, id="a condition added"),
        pytest.param([job(ref=["refs/heads/main", "refs/heads/dev"])], [job(ref="refs/heads/main")], SOME, id="a value added"),
        pytest.param([job(ref="refs/heads/dev")], [job(ref=["refs/heads/main", "refs/heads/dev"])], NONE, id="a value dropped"),
        pytest.param([job(ref=["refs/heads/a", "refs/heads/b"])], [job(ref="refs/heads/a"), job(ref="refs/heads/b")], NONE, id="split in two"),
        pytest.param([job(ref="refs/heads/a"), job(ref="refs/heads/b")], [job(ref=["refs/heads/b", "refs/heads/a"])], NONE, id="joined in one"),
        pytest.param([job(workflow={"glob": "acme/**"})], [job(workflow={"glob": "acme/*"})], SOME, id="a glob that crosses"),
        pytest.param([job(workflow={"glob": "acme/*"})], [job(workflow={"glob": "acme/**"})], NONE, id="a glob that no longer crosses"),
        pytest.param([job(ref={"glob": "refs/heads/main*"})], [job(ref="refs/heads/main")], SOME, id="a prefix that a stranger can take"),
        pytest.param([job(ref={"regex": "refs/heads/(main|dev)"})], [job(ref=["refs/heads/main", "refs/heads/dev"])], NONE, id="a regex for a list"),
        pytest.param([job(ref={"regex": "refs/heads/.*main"})], [job(ref={"glob": "refs/heads/*main"})], SOME, id="a dot matches a slash"),
        pytest.param([job(environment={"not": "staging"})], [job(environment="production")], SOME, id="not"),
        pytest.param([job(environment="production")], [job(environment={"not": "staging"})], NONE, id="one that is not"),
        pytest.param([job(environment={"absent": True})], [job(environment={"not": "staging"})], SOME, id="absent is not `not`"),
        pytest.param([job(environment=["a", {"absent": True}])], [job(environment="a"), job(environment={"absent": True})], NONE, id="absent, split"),
        pytest.param([job()], [job(environment={"absent": True}), job(environment={"not": {"absent": True}})], NONE, id="there or not there"),
        pytest.param([job()], [job(environment={"glob": "**"}), job(environment={"absent": True})], SOME, id="no glob matches a control character"),
        pytest.param([job()], [job(ref_protected=True), job(ref_protected=False)], SOME, id="a flag may be absent"),
        pytest.param([job(ref_protected={"not": True})], [job(ref_protected=False)], NONE, id="not true is false"),
        pytest.param([claims(ref_protected=True)], [claims(ref_protected="true")], SOME, id="a boolean is not text"),
        pytest.param([claims(ref_protected="true")], [job(ref_protected=True)], NONE, id="the text true is the field's true"),
        pytest.param([job(ref_protected=True)], [claims(ref_protected=["true", True])], NONE, id="and the other way round"),
        pytest.param([claims(run_number=1)], [claims(run_number=1.0)], NONE, id="1 is 1.0"),
        pytest.param([claims(run_number=1)], [claims(run_number=True)], SOME, id="1 is not true"),
        pytest.param([claims(teams={"contains": "a"})], [claims(teams={"contains": {"glob": "*"}})], NONE, id="contains, wider"),
        pytest.param([claims(teams={"contains": {"glob": "a*"}})], [claims(teams={"contains": "a"})], SOME, id="contains, narrower"),
        pytest.param([claims(teams={"contains": "a"})], [claims(teams="a")], SOME, id="a list is no text"),
        pytest.param([{"job": {"project": "acme/payments"}}], [{"claims": {"repository": "acme/payments"}}], NONE, id="a condition moved to claims"),
        pytest.param([{"claims": {"repository": "acme/payments"}}], [{"job": {"project": "acme/payments"}}], NONE, id="a condition moved to job"),
        pytest.param([job(ref={"glob": "refs/heads/**"})], [job(ref_type="branch")], NONE, id="a branch's ref has its type"),
        pytest.param([job(ref="refs/heads/main", ref_type="tag")], [], NONE, id="no tag is a branch"),
        pytest.param([job(ref="main")], [], NONE, id="a ref is always fully qualified"),
        pytest.param([job(ref="refs/heads/main")], [], SOME, id="can be satisfied"),
        pytest.param([{**job(), "allow_triggers": ["pull_request"]}], [job()], SOME, id="a trigger allowed"),
        pytest.param([job()], [{**job(), "allow_triggers": ["pull_request"]}], NONE, id="a trigger no longer allowed"),
        pytest.param([{**job(trigger="push"), "allow_triggers": ["pull_request"]}], [job(trigger="push")], NONE, id="a trigger that cannot come"),
        pytest.param([{**job(), "allow_triggers": ["gollum"]}], [job()], SOME, id="a trigger no example has"),
        pytest.param([{**job(), "allow_triggers": ["gollum"], "never": ["gollum"]}], [job()], NONE, id="a trigger that guardrails never allow"),
        pytest.param([job(trigger="pull_request")], [], NONE, id="a trigger asked for and not allowed"),
        pytest.param([{**job(), "when": "job.ref_protected"}], [job()], NONE, id="an expression added"),
        pytest.param([{**job(), "when": "job.ref_protected"}], [{**job(), "when": "job.ref_protected"}], NONE, id="an expression kept"),
        pytest.param([job()], [{**job(), "when": "job.ref_protected"}], SOME, id="an expression dropped"),
        pytest.param([{**job(), "when": "int(claims.run_attempt) < 5"}], [{**job(), "when": "int(claims.run_attempt) < 4"}], SOME, id="one changed"),
        pytest.param([{**job(), "when": "1 > 2"}], [job(ref="refs/heads/main")], UNKNOWN, id="an expression is not looked into"),
        pytest.param([job(ref={"regex": "refs/heads/\\bmain"})], [job(ref={"regex": "refs/heads/\\bmain"})], NONE, id="an unread pattern kept"),
        pytest.param([job(ref={"regex": "refs/heads/\\bmain"})], [job(ref={"regex": "refs/heads/\\Bmain"})], SOME, id="an unread pattern changed"),
    ],
)  # fmt: skip
def test_is_there_a_job_that_only_the_first_trust(
    new: list[dict[str, Any]], old: list[dict[str, Any]], verdict: Verdict
) -> None:
    assert ask(new, old).verdict is verdict


def test_a_witness_shows_the_keys_in_question_and_is_a_job_like_the_others() -> None:
    answer = ask(
        [job(ref={"glob": "refs/heads/release-*"})],
        [job(ref="refs/heads/release-1")],
        urls={"github": "https://ci.example"},
    )
    assert answer.witness is not None
    assert answer.witness.values == {"job.project_id": "512345678", "job.ref": "refs/heads/release-1-x"}
    assert answer.witness.claims is not None
    assert answer.witness.claims["sub"] == "repo:acme/payments:ref:refs/heads/release-1-x"
    assert answer.witness.claims["iss"] == "https://ci.example"


def test_what_was_assumed_of_an_expression_is_told() -> None:
    answer = ask([{**job(), "when": "1 > 2"}], [])
    assert answer.witness is not None
    assert answer.witness.whens == {"1 > 2": True}
    assert answer.witness.claims is None
    assert "when: 1 > 2" in answer.why
    assert "no claims of GitHub Actions were found" in answer.why


def test_what_a_pattern_hid_is_told() -> None:
    answer = ask([job(environment={"regex": "a\\bb"})], [job(environment="x")])
    assert answer.verdict is UNKNOWN
    assert "\\b" in answer.why


def test_an_issuer_that_is_not_configured_is_no_proof() -> None:
    answer = beyond([statement(job(), "elsewhere")], [], kinds=KINDS)
    assert answer.verdict is UNKNOWN
    assert "not configured" in answer.why
    assert beyond([statement(job(), "elsewhere")], [statement(job(), "elsewhere")], kinds={}).verdict is NONE


def test_statements_of_another_issuer_cover_nothing() -> None:
    ours, theirs = statement({"claims": {"sub": "x"}}, "github"), statement({"claims": {"sub": "x"}}, "gitlab")
    assert beyond([ours], [theirs], kinds=KINDS).verdict is SOME


def test_what_a_job_sends_is_part_of_the_question() -> None:
    restricted, wider = (("session", compiled({"glob": "deploy-*"})),), (("session", compiled({"glob": "deploy*"})),)
    assert ask([job()], [job()], params=restricted, other_params=wider).verdict is NONE
    answer = ask([job()], [job()], params=wider, other_params=restricted)
    assert answer.verdict is SOME
    assert answer.witness is not None
    assert answer.witness.values["params.session"] == "deployx"
    assert ask([job()], [job()], other_params=restricted).verdict is SOME
    assert (
        ask(
            [job()], [job()], params=(("x", compiled({"absent": True})),), other_params=(("x", compiled({"not": "a"})),)
        ).verdict
        is SOME
    )


@pytest.mark.parametrize("kind", sorted(ISSUERS))
def test_another_project_of_the_same_owner_is_found_for_every_kind(kind: str) -> None:
    found = ISSUERS[kind]
    project = next((job.project for job in map(found.identity, found.examples.values()) if job.project), None)
    if project is None:
        assert kind in {"bitbucket", "generic", "circleci"}  # by id alone
        return
    allowed = list(found.trigger_names)
    wide = project.rpartition("/")[0] + "/*" if "/" in project else "*"
    answer = ask(
        [{"job": {"project": {"glob": wide}}, "allow_triggers": allowed}],
        [{"job": {"project": project}, "allow_triggers": allowed}],
        kind,
    )
    assert answer.verdict is SOME


def test_statements_that_explode_end_as_an_open_question() -> None:
    """Forty statements over nine claims, each cutting the pieces that the others leave."""
    hard = [
        {"claims": {f"c{n % 9}": {"not": f"v{n}"}, f"c{(n * 7 + 3) % 9}": {"regex": f"(a|b)*a(a|b){{{9 + n % 5}}}"}}}
        for n in range(40)
    ]
    began = time.process_time()
    answer = ask([{"claims": {f"c{n}": {"regex": "(a|b|c)*"} for n in range(9)}}], hard)
    assert answer.verdict in {UNKNOWN, SOME}
    assert answer.verdict is SOME or "too large" in answer.why
    assert time.process_time() - began < 20


def test_a_thousand_statements_beside_one_another_take_no_time() -> None:
    others = [statement({"job": {"project_id": str(n), "ref": "refs/heads/main"}}, number=n) for n in range(1_000)]
    began = time.process_time()
    assert beyond([others[0]], others[1:], kinds=KINDS).verdict is SOME
    assert beyond([others[0]], others, kinds=KINDS).verdict is NONE
    assert time.process_time() - began < 5


def test_many_exceptions_of_one_claim_are_taken_away_one_after_the_other() -> None:
    """A glob without 300 values, and two digits against all their hundred and ten spellings."""
    assert ask([claims(x={"glob": "v**"})], [claims(x=f"v{n}") for n in range(300)]).verdict is SOME
    spelled = [f"v{n}" for n in range(100)] + [f"v0{n}" for n in range(10)]
    assert ask([claims(x={"regex": "v[0-9]{1,2}"})], [claims(x=text) for text in spelled]).verdict is NONE
    assert ask([claims(x={"regex": "v[0-9]{1,2}"})], [claims(x=text) for text in spelled[:-1]]).verdict is SOME


def test_questions_that_share_a_purse_end_when_it_is_empty() -> None:
    """So that a file of many large patterns takes as long as one."""
    wide, narrow = statement(claims(ref={"regex": ".*[ab].{24}"})), statement(claims(ref={"regex": ".*a.{24}"}))
    purse = Budget(1_000)
    answers = [beyond([narrow], [wide], kinds=KINDS, purse=purse) for _ in range(3)]
    assert [(one.verdict, one.unsettled) for one in answers] == [(Verdict.UNKNOWN, True)] * 3
    assert -1_000 < purse.left < 0
    assert beyond([narrow], [wide], kinds=KINDS, purse=Budget(0)).unsettled


def test_a_purse_with_enough_in_it_changes_no_answer() -> None:
    purse = Budget(100_000)
    wide, narrow = statement(claims(ref={"regex": "x[ab].{4}"})), statement(claims(ref={"regex": "xa.{4}"}))
    assert beyond([narrow], [wide], kinds=KINDS, purse=purse).verdict is Verdict.NONE
    assert beyond([wide], [narrow], kinds=KINDS, purse=purse).verdict is Verdict.SOME
    assert 0 < purse.left < 100_000
