"""Which statement an author is shown first."""

import pytest

from broker.authoring.explain.nearest import nearest_statements, rank
from broker.policy.answers import Denied
from tests.unit.policy.world import ask, job_token, load, policy_text

OTHER = (
    policy_text().replace("policy: payments", "policy: other").replace('project_id: "512345678"', 'project_id: "777"')
)
TWO = """\
policy: payments
owners: [team@acme.example]
trust:
  - issuer: github
    job: {project_id: "512345678", ref: refs/heads/main, environment: production}
  - issuer: github
    job: {project_id: "777"}
  - issuer: gitlab
    job: {project_id: "1"}
grants:
  deploy: {backend: safe, ttl: 15m}
examples:
  - {name: a stranger, issuer: github, claims: {$like: github-branch, repository_id: "1"}, expect: refuse}
"""


def test_own_statements_come_before_those_of_others_with_fewer_misses() -> None:
    policies = load(TWO, OTHER)
    token = job_token(ref="refs/heads/x", environment=...)
    near = nearest_statements(policies, token, [])
    assert [(one.policy.name, one.statement.number) for one in near] == [
        ("payments", 0), ("other", 0), ("payments", 1), ("payments", 2),
    ]  # fmt: skip
    first = near[0]
    assert first.first_miss is not None
    assert first.first_miss.key == "job.ref"
    assert [check.key for check in first.misses] == ["job.ref", "job.environment"]
    assert first.about_this_job
    assert not near[1].about_this_job
    assert not near[3].about_this_job
    assert first.grants == ("payments/deploy",)


def test_only_policies_of_the_grants_asked_for_and_unknown_ones_add_nothing() -> None:
    policies = load(TWO, OTHER)
    near = nearest_statements(policies, job_token(), ["other/deploy", "no/such", "other/deploy"])
    assert [(one.policy.name, one.grants) for one in near] == [("other", ("other/deploy",))]
    assert nearest_statements(policies, job_token(), ["no/such"]) == []


def test_what_holds_is_first_and_the_number_is_bounded() -> None:
    policies = load(TWO, OTHER)
    token = job_token(ref="refs/heads/main", environment="production")
    near = nearest_statements(policies, token, [], most=2)
    assert len(near) == 2
    assert near[0].holds
    assert near[0].first_miss is None


@pytest.mark.parametrize(
    ("changed", "keys"),
    [
        ({"event_name": "pull_request"}, ["allow_triggers"]),
        ({"ref": "refs/heads/x", "event_name": "issue_comment"}, ["job.ref", "allow_triggers"]),
        ({"repository_id": "9"}, ["job.project_id"]),
        ({"repository_id": "9", "environment": ""}, ["job.project_id", "job.environment"]),
    ],
)
def test_the_misses_are_those_of_the_decision(changed: dict[str, str], keys: list[str]) -> None:
    text = policy_text(job="ref: refs/heads/main\nenvironment: production")
    policies = load(text)
    token = job_token(**{"ref": "refs/heads/main", **changed})
    (near,) = nearest_statements(policies, token, ["payments/deploy"])
    denied = ask(policies, token)
    assert isinstance(denied, Denied)
    assert [check.key for check in near.misses] == keys == [miss.key for miss in denied.misses]
    assert rank(near.statement, token)[2] == len(keys)
