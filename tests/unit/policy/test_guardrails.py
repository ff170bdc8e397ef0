"""The platform's limits: what they keep out, where, and that a mistake in them is not silent."""

from collections.abc import Callable
from pathlib import Path

import pytest

from broker.errors import ConfigError
from broker.issuers import ISSUERS
from broker.policy import Denied, Guardrails, PolicySet, load_guardrails, load_policies
from broker.policy.guardrails import read_guardrails
from tests.unit.policy.world import TARGETS, URLS, ask, job_token, load, policy_text

Write = Callable[..., Path]


@pytest.mark.parametrize(
    ("guardrails", "policy", "says"),
    [
        ("longest_ttl: {safe-kind: 14m}", {}, "1.yaml:10:5: grants.deploy.ttl: the guardrails let safe-kind credentials live 14m at most"),
        ("longest_ttl: {safe-kind: 15m, other: 1m}", {}, None),
        ("no_wildcards: [project]", {"job": 'project: {glob: "acme/*"}'}, "trust[0].job.project: the guardrails want this written out"),
        ("no_wildcards: [project]", {"job": "project: {not: acme/x}"}, "trust[0].job.project: the guardrails want"),
        ("no_wildcards: [project]", {"job": "project: [a, {regex: b}]"}, "trust[0].job.project: the guardrails want"),
        ("no_wildcards: [project]", {"job": "project: [acme/a, acme/b]"}, None),
        ("no_wildcards: [environment]", {"job": "environment: {absent: true}"}, None),
        ("no_wildcards: [claims.sub]", {"rest": 'claims: {sub: {glob: "a*"}}'}, "trust[0].claims.sub: the guardrails want"),
        ("triggers_never_allowed: [pull_request]", {"rest": "allow_triggers: [pull_request]"}, "allow_triggers[0]: the guardrails never allow 'pull_request'"),
        ('owners: ["*@acme.example"]', {}, None),
        ('owners: ["*@acme.test", "x@*"]', {}, "owners[0]: team@acme.example may not own a policy"),
        ("folders: {.: {issuers: [gitlab]}}", {}, "trust[0].issuer: the guardrails do not let policies in '.' trust the issuer 'github'"),
        ("folders: {.: {backends: []}}", {}, "grants.deploy.backend: the guardrails do not let policies in '.' use the backend 'safe'"),
        ("folders: {.: {backends: [safe]}}", {}, None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_policy_over_a_limit_does_not_load(guardrails: str, policy: dict[str, str], says: str | None) -> None:
    policy = {"examples": '- {name: a, claims: {$like: github-branch, repository_id: "2"}, expect: refuse}', **policy}
    limits = read_guardrails(guardrails, "guardrails.yaml")
    if says is None:
        load(policy_text(**policy), guardrails=limits)
        return
    load(policy_text(**policy))
    with pytest.raises(ConfigError) as error:
        load(policy_text(**policy), guardrails=limits)
    assert says.removeprefix("1.yaml:10:5: ") in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "g.yaml:1:1: a mapping"),
        ("longest_tll: {a: 1m}", "g.yaml:1:1: longest_tll: unknown key; did you mean 'longest_ttl'?"),
        ("longest_ttl: {a: 60}", "g.yaml:1:15: longest_ttl.a: write a length of time"),
        ("require_immutable_id: no", "g.yaml:1:1: require_immutable_id: Input should be a valid boolean"),
        ("no_wildcards: [projct]", "g.yaml:1:16: no_wildcards[0]: a job has no 'projct'; did you mean 'project'?"),
        ("owners: []", "g.yaml:1:1: owners: List should have at least 1 item"),
        ('owners: ["***"]', "g.yaml:1:10: owners[0]: *** means nothing"),
        ("folders: {../x: {}}", "g.yaml:1:11: folders.../x: a folder is written relative"),
        ("folders: {/x: {}}", "g.yaml:1:11: folders./x: a folder is written relative"),
        ("folders: {a: {}, a/: {}}", "g.yaml:1:11: folders.a: the same folder stands here twice"),
        ("folders: {a: {issuer: []}}", "g.yaml:1:15: folders.a.issuer: unknown key; did you mean 'issuers'?"),
    ],
)
def test_a_mistake_has_its_place(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_guardrails(text, "g.yaml")
    assert [problem for problem in error.value.problems if problem.startswith(says)], str(error.value)


def test_no_file_gives_the_defaults(tmp_path: Path) -> None:
    assert load_guardrails(None) == Guardrails()
    assert Guardrails().require_immutable_id
    with pytest.raises(ConfigError, match="cannot be read"):
        load_guardrails(tmp_path / "none.yaml")


def read(root: Path, guardrails: str) -> PolicySet:
    limits = read_guardrails(guardrails, "g.yaml")
    return load_policies(root, issuers=ISSUERS, issuer_urls=URLS, targets=TARGETS, guardrails=limits)


def test_every_folder_above_a_policy_limits_it(folder: Write) -> None:
    root = folder({"team/app/p.yaml": policy_text(), "teams/q.yaml": policy_text().replace("payments", "other")})
    read(root, "folders: {team/app: {backends: [safe]}, team: {issuers: [github]}}")
    for limits in (
        "team: {backends: [needy]}",
        "team/app: {backends: [needy]}",
        ".: {backends: [needy]}",
        "team: {}, team/app: {issuers: []}",
    ):
        with pytest.raises(ConfigError) as error:
            read(root, f"folders: {{{limits}}}")
        assert "teams/q.yaml" not in str(error.value) or limits.startswith(".")


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (
            "longest_ttl: {saf-kind: 1h}",
            "g.yaml:1:15: longest_ttl.saf-kind: 'saf-kind' is not configured here; did you mean 'safe-kind'?",
        ),
        (
            "triggers_never_allowed: [pull_request_taget]",
            "g.yaml:1:26: triggers_never_allowed[0]: 'pull_request_taget' is not configured here",
        ),
        ("folders: {tema: {}}", "g.yaml:1:11: folders.tema: there is no such folder of policies"),
        (
            "folders: {.: {issuers: [github, gitlb]}}",
            "g.yaml:1:15: folders...issuers: 'gitlb' is not configured here; did you mean 'gitlab'?",
        ),
    ],
)
def test_a_misspelt_limit_would_limit_nothing_so_it_does_not_load(folder: Write, limits: str, says: str) -> None:
    root = folder({"team/p.yaml": policy_text()})
    with pytest.raises(ConfigError) as error:
        read(root, limits)
    assert [problem for problem in error.value.problems if problem.startswith(says)], str(error.value)


def test_a_limit_on_what_is_not_configured_here_is_fine(folder: Write) -> None:
    read(folder({"p.yaml": policy_text()}), "longest_ttl: {aws-sts: 1h}\ntriggers_never_allowed: [something_else]")


def test_never_allowed_triggers_are_asked_again_at_decision_time() -> None:
    limits = read_guardrails("triggers_never_allowed: [pull_request_target]", "g.yaml")
    denied = ask(load(policy_text(), guardrails=limits), job_token(event_name="pull_request_target"))
    assert isinstance(denied, Denied)
    assert denied.code == "guardrail"


def test_guardrails_are_part_of_a_sets_version() -> None:
    limits = read_guardrails("longest_ttl: {safe-kind: 1h}", "g.yaml")
    assert load(policy_text()).version != load(policy_text(), guardrails=limits).version


def test_names_alone_are_enough_where_the_platform_says_so() -> None:
    text = policy_text(job="project: acme/payments").replace('      project_id: "512345678"\n', "")
    with pytest.raises(ConfigError, match="immutable id"):
        load(text)
    limits = read_guardrails("require_immutable_id: false", "g.yaml")
    with pytest.raises(ConfigError, match="expected a refusal"):
        load(text, guardrails=limits)
