"""A policy's next version: judged beside the one that decides, never decides, and is told only where it differs."""

import pytest

from broker.errors import ConfigError
from broker.model import GrantRequest
from broker.policy import Allowed, Denied, PolicySet
from broker.policy.load import PolicyText, check_text
from broker.policy.trial import Change, trial
from tests.unit.policy.world import ask, job_token, load, policy_text, world

ONLY_MAIN = "ref: refs/heads/main"
ALLOWED = '- {name: a push, claims: {$like: github-environment, repository_id: "512345678"}, expect: {allow: [deploy]}}'
NEXT = """\
next:
  trust:
    - issuer: github
      job: {project_id: "512345678", ref: refs/heads/main, environment: staging}
    - issuer: github
      job: {project_id: "512345678", ref: {glob: "refs/tags/v*"}}
  examples:
    - name: staging
      claims: {$like: github-environment, repository_id: "512345678", environment: staging}
      expect: {allow: [deploy]}
    - {name: production, claims: {$like: github-environment, repository_id: "512345678"}, expect: refuse}
"""


def policies(following: str = NEXT) -> PolicySet:
    return load(policy_text(job=ONLY_MAIN, examples=ALLOWED) + following)


def differs(token: dict[str, str], grant: str = "payments/deploy", *, following: str = NEXT) -> tuple[Change, ...]:
    return trial(policies(following), job_token("github-environment", **token), [GrantRequest(grant=grant)])


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        pytest.param({"environment": "staging"}, None, id="both allow"),
        pytest.param({"ref": "refs/heads/evil"}, None, id="both refuse"),
        pytest.param({"environment": "production"}, "refuse", id="allowed today only"),
        pytest.param({"ref": "refs/tags/v1", "ref_type": "tag"}, "allow", id="allowed by the next version only"),
    ],
)  # fmt: skip
def test_only_a_difference_is_told(changed: dict[str, str], told: str | None) -> None:
    assert [change.would for change in differs(changed)] == ([told] if told else [])


def test_a_refusal_to_come_says_what_the_nearest_statement_missed() -> None:
    (change,) = differs({"environment": "production"})
    assert change.as_json() == {
        "grant": "payments/deploy",
        "would": "refuse",
        "why": "next trust[0] job.environment: expected staging, got production",
    }


def test_what_decides_is_the_same_with_a_next_version_and_without() -> None:
    token = job_token("github-environment", ref="refs/tags/v1", ref_type="tag")
    assert isinstance(ask(policies(), token), Denied)
    assert isinstance(ask(policies(), job_token("github-environment")), Allowed)


def test_a_grant_that_the_next_version_drops_would_be_refused() -> None:
    renamed = NEXT.replace("allow: [deploy]", "allow: [release]") + "  grants: {release: {backend: safe, ttl: 5m}}\n"
    (change,) = differs({}, following=renamed)
    assert (change.would, change.why) == ("refuse", "the next version has no such grant")
    assert not differs({}, grant="payments/release", following=renamed), "nobody can ask for it yet"


def test_a_job_that_only_the_next_version_names_is_no_stranger() -> None:
    following = NEXT.replace('project_id: "512345678", ref: {glob', 'project_id: "777", ref: {glob')
    assert policies(following).names(job_token("github-environment", repository_id="777"))
    assert not policies("").names(job_token("github-environment", repository_id="777"))


def test_nothing_on_trial_costs_nothing() -> None:
    assert not policies("").on_trial
    assert policies().on_trial == {"payments"}


@pytest.mark.parametrize(
    ("following", "line", "says"),
    [
        (
            NEXT.replace("expect: refuse", "expect: {allow: [deploy]}"),
            ":26:3: next.examples: ",
            "no example is refused",
        ),
        (
            NEXT.replace("environment: staging}\n", "envronment: staging}\n", 1),
            ":23:60: next.trust[0].job.envronment: ",
            "did you mean 'environment'?",
        ),
        (NEXT.replace('project_id: "512345678", ', "", 1), ":22:7: next.trust[0]: ", "a name can be registered again"),
        ("next: {}\n", "", "the key 'trust' is required"),
        (NEXT.replace("name: staging", "name: production"), "", "an example of this name stands above"),
    ],
)
def test_a_mistake_in_the_next_version_has_its_place(following: str, line: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        policies(following)
    assert any(line in problem and says in problem for problem in caught.value.problems), caught.value.problems


def test_authors_tools_see_the_next_version_as_a_policy_of_its_own() -> None:
    text = policy_text(job=ONLY_MAIN, examples=ALLOWED) + NEXT
    checked = check_text(PolicyText("p.yaml", "p.yaml", text.encode()), world())
    assert checked.next is not None
    assert checked.policy.next is checked.next.policy
    assert [len(one.policy.statements) for one in (checked, checked.next)] == [1, 2]
    where = checked.next.document.where(("trust", 1, "job", "ref"))
    assert text.splitlines()[int(where.split(":")[1]) - 1].strip().startswith("job: {project_id")
