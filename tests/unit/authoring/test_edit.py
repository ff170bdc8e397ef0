"""The smallest edit that would let a refused job in: which it is, whom else it lets in, and when there is none."""

from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from broker.authoring.explain.consequence import BEFORE, consequence
from broker.authoring.explain.edit import Edit, Stays, suggest
from broker.authoring.explain.nearest import nearest_statements
from broker.issuers import ISSUERS
from broker.model import GrantRequest, VerifiedToken
from broker.policy.answers import AllowedGrant
from broker.policy.decide import judge
from broker.policy.examples import example_token
from broker.policy.guardrails import Guardrails, read_guardrails
from broker.policy.load import PolicyText, compile_text
from tests.unit.policy.world import job_token, load, policy_text, world

GRANT = "payments/deploy"


def suggested(text: str, token: VerifiedToken, guardrails: Guardrails | None = None) -> Edit | Stays:
    policies = load(text, guardrails=guardrails)
    return suggest(nearest_statements(policies, token, [GRANT]), token, world(guardrails))


def changed_lines(edit: Edit | Stays) -> list[str]:
    assert isinstance(edit, Edit), edit
    return [
        line for line in edit.patch if line.startswith(("-", "+")) and not line.startswith(("--- ", "+++ ", "---a"))
    ]


@pytest.mark.parametrize(
    ("job", "rest", "changed", "lines"),
    [
        pytest.param(
            "ref: refs/heads/main  # the trunk", "", {"ref": "refs/heads/release"},
            ["-      ref: refs/heads/main  # the trunk", "+      ref: [refs/heads/main, refs/heads/release]  # the trunk"],
            id="equality becomes a list",
        ),
        pytest.param(
            'environment: ["staging", review]', "", {},
            ['-      environment: ["staging", review]', '+      environment: ["staging", review, production]'],
            id="one more in a list, quotes as they were",
        ),
        pytest.param(
            "environment:\n  - staging\n  - review  # both", "", {}, ["+        - production"], id="one more in a block list"
        ),
        pytest.param(
            'ref: {glob: "refs/tags/v*"}', "", {},
            ['-      ref: {glob: "refs/tags/v*"}', '+      ref: [{glob: "refs/tags/v*"}, refs/heads/main]'],
            id="a value beside a glob",
        ),
        pytest.param(
            "actor: {not: [dana, erin]}", "", {"actor": "dana"},
            ["-      actor: {not: [dana, erin]}", "+      actor: {not: [erin]}"],
            id="one less that is kept out",
        ),
        pytest.param(
            "actor: {not: dana}", "", {"actor": "dana"},
            ["-      actor: {not: dana}", "+      actor: [{not: dana}, dana]"],
            id="the one that was kept out",
        ),
        pytest.param(
            "environment: production", "", {"environment": ...},
            ["-      environment: production", "+      environment: [production, {absent: true}]"],
            id="a claim that is missing",
        ),
        pytest.param(
            "ref: refs/heads/main\nref_protected: true\nenvironment: {absent: true}", "", {},
            ["-      environment: {absent: true}", "+      environment: [{absent: true}, production]"],
            id="a claim that is there",
        ),
        pytest.param(
            "", "claims: {run_attempt: '2'}", {}, ["-    claims: {run_attempt: '2'}", "+    claims: {run_attempt: ['2', \"1\"]}"],
            id="text that looks like a number stays text",
        ),
        pytest.param(
            "ref: refs/heads/main\nref_protected: true", "", {"event_name": "issue_comment"}, ["+    allow_triggers: [issue_comment]"],
            id="a trigger, as a new key",
        ),
        pytest.param(
            "", "allow_triggers: [issues]", {"event_name": "issue_comment"},
            ["-    allow_triggers: [issues]", "+    allow_triggers: [issues, issue_comment]"],
            id="a trigger more",
        ),
        pytest.param(
            "owner_id: '9123456'\nproject: acme/web", "", {},
            ["-      project: acme/web", "+      project: [acme/web, acme/payments]"],
            id="another project of an owner who is pinned",
        ),
    ],
)  # fmt: skip
def test_the_edit(job: str, rest: str, changed: dict[str, Any], lines: list[str]) -> None:
    token = job_token(**changed)
    edit = suggested(policy_text(job=job, rest=rest), token)
    assert changed_lines(edit) == lines
    assert isinstance(edit, Edit)
    assert sum(region.holds(token) for region in edit.regions) >= 1


def test_two_misses_are_edited_together_and_the_regions_say_who_comes_in() -> None:
    token = job_token(ref="refs/heads/release", environment="staging")
    edit = suggested(policy_text(job="ref: refs/heads/main\nenvironment: production"), token)
    assert isinstance(edit, Edit)
    assert [change.key for change in edit.changes] == ["job.ref", "job.environment"]
    for ref, environment, expected in [
        ("refs/heads/release", "staging", True), ("refs/heads/main", "staging", True),
        ("refs/heads/release", "production", True), ("refs/heads/main", "production", False),
        ("refs/heads/x", "staging", False),
    ]:  # fmt: skip
        other = job_token(ref=ref, environment=environment)
        assert any(region.holds(other) for region in edit.regions) is expected


@pytest.mark.parametrize(
    ("job", "rest", "changed", "jobs"),
    [
        (
            "ref: refs/heads/main\nenvironment: production", "", {"ref": "refs/heads/release"},
            ["jobs of the project with id 512345678 on GitHub Actions, if they run from the branch release in the environment production"],
        ),
        (
            "ref: refs/heads/main\nref_protected: true", "", {"event_name": "issue_comment"},
            [
                "jobs of the project with id 512345678 on GitHub Actions, if they run from the protected branch main and the unsafe trigger issue_comment started them"
            ],
        ),
        (
            "", "claims: {groups: {contains: a}}", {"groups": ["q", "longer"]},
            [
                "jobs of the project with id 512345678 on GitHub Actions, if their claim groups is a list holding longer" + BEFORE
            ],
        ),
    ],
)  # fmt: skip
def test_who_else_comes_in_is_said_and_proved(job: str, rest: str, changed: dict[str, Any], jobs: list[str]) -> None:
    edit = suggested(policy_text(job=job, rest=rest), job_token(**changed))
    assert isinstance(edit, Edit)
    told = consequence(edit, world())
    assert list(told.jobs) == jobs
    assert told.proved, told.why
    assert told.grants == (GRANT,)


def test_the_attack_of_a_trigger_is_spelled_out() -> None:
    edit = suggested(policy_text(), job_token(event_name="issue_comment"))
    assert isinstance(edit, Edit)
    assert ISSUERS["github"].trigger_names["issue_comment"] in edit.changes[0].says


def test_other_grants_that_come_with_it_are_named() -> None:
    text = policy_text(job="ref: refs/heads/x").replace("grants:", "grants:\n  shell: {backend: safe, ttl: 5m}")
    edit = suggested(text, job_token())
    assert isinstance(edit, Edit)
    assert edit.also == ("payments/shell",)


NEVER = read_guardrails("triggers_never_allowed: [issue_comment]\nno_wildcards: [environment]\n", "guardrails.yaml")
MAIN_REFUSED = """\
- name: staging must not
  claims: {$like: github-environment, environment: staging}
  expect: refuse
"""


@pytest.mark.parametrize(
    ("text", "token", "guardrails", "says"),
    [
        pytest.param(
            policy_text(), job_token(event_name="issue_comment"), NEVER, "the guardrails never allow this trigger",
            id="a trigger that the guardrails never allow",
        ),
        pytest.param(
            policy_text(job="environment: production"), job_token(environment=...), NEVER, "the guardrails want this written out",
            id="a form that the guardrails do not take",
        ),
        pytest.param(
            policy_text(job="project: acme/payments"), job_token(repository_id="9"), None, "registered again",
            id="the same name with another id",
        ),
        pytest.param(
            policy_text(job="project: acme/payments"), job_token(repository="x/y", repository_id="9"), None, "policy new",
            id="another project",
        ),
        pytest.param(
            policy_text(job="owner_id: '9123456'"), job_token(repository_owner_id="666"), None, "another owner",
            id="a project that was given to somebody else",
        ),
        pytest.param(
            policy_text(rest="claims: {repository_owner: acme}"), job_token(repository_owner="evil"), None, "another owner",
            id="the owner, by a raw claim",
        ),
        pytest.param(
            policy_text(job="ref_protected: true"), job_token(ref_protected="false"), None, "protect the ref",
            id="a ref without protection",
        ),
        pytest.param(
            policy_text(job="ref: refs/heads/main", rest="allow_triggers: [pull_request]"),
            job_token("github-pull-request"), None, "a pull request's ref", id="a pull request's ref",
        ),
        pytest.param(
            policy_text(job="ref: refs/heads/main"), job_token("github-pull-request"), None, "a pull request's author",
            id="a pull request",
        ),
        pytest.param(
            policy_text(rest="when: claims.run_attempt == '2'"), job_token(), None, "no small edit", id="an expression"
        ),
        pytest.param(
            policy_text(job="run_id: '1'"), job_token(), None, "another one in every run", id="what changes each time"
        ),
        pytest.param(
            policy_text(job="environment: production", examples=MAIN_REFUSED), job_token(environment="staging"), None,
            "'staging must not'", id="what the policy's own example keeps out",
        ),
        pytest.param(
            policy_text(job="environment: {absent: true}"), job_token(), None, "(unprotected-environment)",
            id="what the linter would not let pass",
        ),
        pytest.param(
            policy_text(), example_token("gitlab", ISSUERS["gitlab"], ISSUERS["gitlab"].examples["gitlab-tag"]), None,
            "trusting another issuer", id="another issuer",
        ),
        pytest.param(
            policy_text(job="environment: production"), job_token(environment="pro\u202educt"), None, "invisible",
            id="a value that no author could read",
        ),
        pytest.param(
            policy_text(rest="claims: {groups: acme}"), job_token(groups=["acme"]), None, "`contains`", id="a list"
        ),
    ],
)  # fmt: skip
def test_what_should_stay_refused(text: str, token: VerifiedToken, guardrails: Guardrails | None, says: str) -> None:
    found = suggested(text, token, guardrails)
    assert isinstance(found, Stays)
    assert any(says in reason for reason in found.reasons), found.reasons


def test_nothing_near_says_so() -> None:
    assert suggest([], job_token(), world()) == Stays(
        reasons=("no policy is about this job; its owners would write one: jobkey-broker policy new",)
    )


# ---- properties: whatever is suggested lets the job in, and lets in exactly those that it says

VALUES = st.sampled_from(["main", "a", "b", "1", "true", "x: y", "é", "a, b", "#c", "{x}", "'", '"'])
LEAVES = st.one_of(
    VALUES,
    st.booleans(),
    st.integers(0, 3),
    st.builds(lambda text: {"glob": text}, st.sampled_from(["*", "a*", "?"])),
    st.builds(lambda text: {"regex": text}, st.sampled_from(["[ab]", "main|1"])),
    st.just({"absent": True}),
)
ANY_OF = st.lists(LEAVES, min_size=1, max_size=3)
INNER = st.one_of(LEAVES, ANY_OF).filter(lambda spec: spec != {"absent": True} and {"absent": True} not in (spec if isinstance(spec, list) else []))  # fmt: skip
SPECS = st.one_of(
    LEAVES, ANY_OF,
    st.builds(lambda inner: {"not": inner}, st.one_of(LEAVES, ANY_OF)),
    st.builds(lambda inner: {"contains": inner}, INNER),
)  # fmt: skip
CAME = st.one_of(st.none(), VALUES, st.booleans(), st.integers(0, 3), st.lists(st.one_of(VALUES, st.integers(0, 3)), max_size=3))  # fmt: skip


def yaml_of(spec: Any) -> str:
    from broker.authoring.write.yamltext import flow

    return flow(spec)


def token_of(claims: dict[str, Any]) -> VerifiedToken:
    return job_token(**{name: value for name, value in claims.items() if value is not None})


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(
    specs=st.dictionaries(st.sampled_from(["one", "two"]), SPECS, min_size=1),
    came=st.fixed_dictionaries({"one": CAME, "two": CAME}),
    others=st.lists(st.fixed_dictionaries({"one": CAME, "two": CAME}), min_size=8, max_size=8),
    trigger=st.sampled_from(["push", "push", "issues"]),
)
def test_the_edit_lets_the_job_in_and_exactly_those_it_names(
    specs: dict[str, Any], came: dict[str, Any], others: list[dict[str, Any]], trigger: str
) -> None:
    written = "\n".join(f"{name}: {yaml_of(spec)}" for name, spec in specs.items())
    text = policy_text(rest="claims:\n" + "\n".join(f"  {line}" for line in written.splitlines()))
    token = token_of({**came, "event_name": trigger})
    policies = load(text)
    near = nearest_statements(policies, token, [GRANT])
    assume(not near[0].holds)
    edit = suggest(near, token, world())
    if isinstance(edit, Stays):
        assert edit.reasons
        return
    policy = compile_text(PolicyText("payments.yaml", "payments.yaml", edit.text.encode()), world())
    assert isinstance(judge(policy, policy.grants["deploy"], token, GrantRequest(grant=GRANT)), AllowedGrant)
    before = near[0].statement
    values = [*others, came, *({**came, name: None} for name in came)]
    for claims in [*values, *({**one, "event_name": "issues"} for one in values), {"repository_id": "9", **came}]:
        other = token_of(claims)
        newly = policy.statements[0].trusts(other) and not before.trusts(other)
        assert any(region.holds(other) for region in edit.regions) is newly
    told = consequence(edit, world())
    assert len(told.jobs) == len(edit.regions)
    assert told.proved or told.why
    if told.example is not None:
        other = example_token("github", ISSUERS["github"], told.example)
        assert policy.statements[0].trusts(other)
        assert any(region.holds(other) for region in edit.regions)
