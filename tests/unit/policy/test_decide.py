"""The decision, as tables over one policy; and what a refusal keeps."""

from datetime import timedelta
from typing import Any

import pytest

from broker.policy import Allowed, BadParams, Denied
from tests.unit.policy.world import ask, job_token, load, policy_text

RELEASE = load(
    policy_text(
        job="project: acme/payments\nref: refs/heads/main\nref_protected: true\nenvironment: production",
        rest='claims:\n  job_workflow_ref: {glob: "acme/payments/.github/workflows/*.yml@refs/heads/main"}',
    )
)
HOOK = "acme/payments/.github/workflows"


@pytest.mark.parametrize(
    ("changed", "outcome"),
    [
        pytest.param({}, Allowed, id="the happy path"),
        pytest.param({"ref": "refs/heads/main-evil"}, Denied, id="branch name as a prefix"),
        pytest.param({"ref": "refs/heads/evil/main"}, Denied, id="branch name as a suffix"),
        pytest.param({"ref": "refs/heads/main\n"}, Denied, id="trailing newline"),
        pytest.param({"ref": "refs/heads/Main"}, Denied, id="another case"),
        pytest.param({"ref": "refs/tags/main", "ref_type": "tag"}, Denied, id="a tag of that name"),
        pytest.param({"repository_id": "999"}, Denied, id="repository name registered again"),
        pytest.param({"repository_id": 512345678}, Denied, id="an id of another type"),
        pytest.param({"repository": "acme/payments-evil"}, Denied, id="project as a prefix"),
        pytest.param({"repository": "ACME/payments"}, Denied, id="project in another case"),
        pytest.param({"environment": ...}, Denied, id="claim absent"),
        pytest.param({"environment": None}, Denied, id="claim null"),
        pytest.param({"environment": ""}, Denied, id="claim empty"),
        pytest.param({"environment": ["production"]}, Denied, id="claim an array"),
        pytest.param({"ref_protected": "false"}, Denied, id="branch not protected"),
        pytest.param({"ref_protected": ...}, Denied, id="protection unknown"),
        pytest.param({"job_workflow_ref": f"{HOOK}/a/b.yml@refs/heads/main"}, Denied, id="a star stays in its segment"),
        pytest.param({"job_workflow_ref": f"{HOOK}/a.yml@refs/heads/main-x"}, Denied, id="a glob is whole"),
        pytest.param(
            {"job_workflow_ref": f"evil/x/{HOOK}/a.yml@refs/heads/main"}, Denied, id="a glob is whole, in front"
        ),
        pytest.param({"job_workflow_ref": {"a": 1}}, Denied, id="a claim of a shape nobody expects"),
        pytest.param({"event_name": "pull_request_target"}, Denied, id="unsafe trigger, everything else right"),
        pytest.param({"event_name": "issue_comment"}, Denied, id="another unsafe trigger"),
        pytest.param({"event_name": "schedule"}, Allowed, id="a safe trigger"),
    ],
)
def test_release_policy(changed: dict[str, Any], outcome: type) -> None:
    assert type(ask(RELEASE, job_token("github-environment", **changed))) is outcome


def test_the_same_claims_from_another_issuer_are_nobody() -> None:
    from dataclasses import replace

    denied = ask(RELEASE, replace(job_token(), issuer="github-internal"))
    assert isinstance(denied, Denied)
    assert [(miss.key, miss.got) for miss in denied.misses] == [("issuer", "github-internal")]


def test_what_an_allowed_grant_says() -> None:
    allowed = ask(RELEASE, job_token())
    assert isinstance(allowed, Allowed)
    (grant,) = allowed.grants
    assert (grant.name, grant.policy, grant.statement, grant.backend, grant.kind) == (
        "payments/deploy",
        "payments",
        0,
        "safe",
        "safe-kind",
    )
    assert grant.policy_version == RELEASE.policies["payments"].version
    assert grant.ttl == timedelta(minutes=15)
    assert grant.options.role == "reader"
    assert not grant.observed


def test_every_miss_is_kept_and_explained() -> None:
    denied = ask(RELEASE, job_token(ref="refs/heads/x", environment=None, event_name="pull_request_target"))
    assert isinstance(denied, Denied)
    assert denied.code == "no-statement"
    assert [miss.key for miss in denied.misses] == ["job.ref", "job.environment", "allow_triggers"]
    assert denied.explain() == (
        "payments/deploy: trust[0]\n"
        "  job.ref: expected refs/heads/main, got refs/heads/x\n"
        "  job.environment: expected production, got absent\n"
        "  allow_triggers: expected none, got pull_request_target"
    )
    assert denied.misses[0].as_json() == {
        "grant": "payments/deploy", "policy": "payments", "statement": 0, "key": "job.ref", "code": "no-statement",
        "expected": "refs/heads/main", "got": "refs/heads/x",
    }  # fmt: skip


def test_what_alone_stood_in_the_way_is_the_class() -> None:
    denied = ask(RELEASE, job_token(event_name="workflow_run"))
    assert isinstance(denied, Denied)
    assert denied.code == "trigger"


def test_no_repr_shows_policy_or_claims() -> None:
    denied = ask(RELEASE, job_token(ref="refs/heads/secret-codename"))
    for shown in (
        repr(denied),
        repr(denied.misses[0]),
        repr(RELEASE),
        repr(RELEASE.policies["payments"]),
        repr(RELEASE.sources),
    ):
        assert "codename" not in shown
        assert "refs/heads/main" not in shown


def test_long_and_strange_values_are_bounded_and_printable_in_an_explanation() -> None:
    denied = ask(RELEASE, job_token(ref="refs/heads/\x1b[2J" + "x" * 5000))
    assert isinstance(denied, Denied)
    assert "\x1b" not in denied.explain()
    assert len(denied.explain()) < 600


def test_near_is_the_statement_that_came_nearest() -> None:
    policies = load(
        policy_text(job="ref: refs/heads/main\nenvironment: production").replace(
            "grants:\n",
            '  - issuer: gitlab\n    job: {project_id: "1"}\n  - issuer: github\n    job: {project_id: "512345678", ref: refs/heads/next}\ngrants:\n',
            1,
        ).replace("- name: a stranger", "- name: a stranger\n    issuer: github"),
    )  # fmt: skip
    denied = ask(policies, job_token(ref="refs/heads/x", environment="other"))
    assert isinstance(denied, Denied)
    assert {miss.statement for miss in denied.misses} == {0, 1, 2}
    assert [(miss.statement, miss.key) for miss in denied.near()] == [(2, "job.ref")]
    assert denied.near("other/grant") == ()


TRIGGERED = load(policy_text(rest="allow_triggers: [pull_request_target]"))


@pytest.mark.parametrize(
    ("event", "outcome"), [("pull_request_target", Allowed), ("issue_comment", Denied), ("push", Allowed)]
)
def test_an_unsafe_trigger_has_to_be_named(event: str, outcome: type) -> None:
    assert type(ask(TRIGGERED, job_token(event_name=event))) is outcome


TWO = load(policy_text(), policy_text().replace("policy: payments", "policy: other").replace('"512345678"', '"7"'))


def test_all_or_nothing_over_several_grants() -> None:
    from broker.model import GrantRequest
    from broker.policy import decide
    from tests.unit.policy.world import NOON

    def outcome(*grants: str) -> Any:
        return decide(TWO, job_token(), [GrantRequest(grant=grant) for grant in grants], now=NOON)

    assert isinstance(outcome("payments/deploy"), Allowed)
    assert isinstance(outcome("payments/deploy", "payments/deploy"), Allowed)
    both = outcome("payments/deploy", "other/deploy")
    assert isinstance(both, Denied)
    assert {miss.grant for miss in both.misses} == {"other/deploy"}
    assert outcome("payments/deploy", "no/such").code == "unknown-grant"
    assert outcome("other/deploy", "no/such").code == "no-statement"
    assert isinstance(outcome(), Denied)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "payments",
        "payments/",
        "payments/deploy ",
        "Payments/deploy",
        "payments/deploy\n",
        "\x00",
        "x" * 9000,
        "\ud800",
    ],
)
def test_an_unknown_grant_is_a_denial(name: str) -> None:
    denied = ask(RELEASE, job_token(), name)
    assert isinstance(denied, Denied)
    assert denied.code == "unknown-grant"
    assert len(denied.explain()) < 1000


def test_observe_is_judged_and_marked() -> None:
    allowed = ask(load(policy_text(top="mode: observe")), job_token())
    assert isinstance(allowed, Allowed)
    assert allowed.grants[0].observed


@pytest.mark.parametrize(
    ("asked", "given"),
    [(None, 900), (timedelta(minutes=5), 300), (timedelta(hours=5), 900), (timedelta(seconds=30), 30)],
    ids=["the grant's own", "shorter", "longer is shortened", "the shortest"],
)
def test_ttl(asked: timedelta | None, given: int) -> None:
    allowed = ask(RELEASE, job_token(), ttl=asked)
    assert isinstance(allowed, Allowed)
    assert allowed.grants[0].ttl == timedelta(seconds=given)


@pytest.mark.parametrize(
    "asked", [timedelta(seconds=29), timedelta(0), timedelta(seconds=-1), timedelta(microseconds=1), timedelta.min]
)
def test_a_ttl_that_is_too_short_is_told_to_a_trusted_job_only(asked: timedelta) -> None:
    bad = ask(RELEASE, job_token(), ttl=asked)
    assert isinstance(bad, BadParams)
    assert (bad.problems[0].param, bad.missing) == ("ttl", ())
    assert isinstance(ask(RELEASE, job_token(ref="x"), ttl=asked), Denied)


@pytest.mark.parametrize(
    ("params", "param"),
    [({"sesion": "a"}, "sesion"), ({"session": "A"}, "session"), ({"session": 5}, "session"), ({"size": "5"}, "size"),
     ({"size": float("nan")}, ""), ({"session": b"x"}, ""), ({"session": "\ud800"}, ""), ({"x" * 5000: 1}, "x" * 200 + "...")],
    ids=["unknown", "shape", "type", "text is no number", "not JSON", "bytes", "a lone surrogate", "a long name"],
)  # fmt: skip
def test_params_that_are_wrong(params: dict[str, Any], param: str) -> None:
    bad = ask(RELEASE, job_token(), params=params)
    assert isinstance(bad, BadParams)
    assert bad.problems[0].param == param
    assert isinstance(ask(RELEASE, job_token(ref="x"), params=params), Denied)


def test_a_param_that_is_needed_is_named() -> None:
    policies = load(policy_text(backend="needy"))
    bad = ask(policies, job_token())
    assert isinstance(bad, BadParams)
    assert bad.missing == (("payments/deploy", "public_key"),)
    good = ask(policies, job_token(), params={"public_key": "k"})
    assert isinstance(good, Allowed)
    assert good.grants[0].params.public_key == "k"


RESTRICTED = load(policy_text(grant="params: {session: [a, b], size: [1, {absent: true}]}"))


@pytest.mark.parametrize(
    ("params", "outcome"),
    [({"session": "a"}, Allowed), ({"session": "c"}, Denied), ({}, Denied), (None, Denied), ({"session": "a", "size": 1}, Allowed),
     ({"session": "a", "size": 2}, Denied)],
    ids=str,
)  # fmt: skip
def test_a_policy_restricts_params(params: dict[str, Any] | None, outcome: type) -> None:
    decision = ask(RESTRICTED, job_token(), params=params)
    assert type(decision) is outcome
    if isinstance(decision, Denied):
        assert decision.code == "params"


TEMPLATED = load(
    policy_text(
        grant='with: {role: "run-{{ job.run_id }}", hosts: ["{{claims.run_attempt}}"], tags: {who: "{{ job.project }}", on: true}, level: 3}'
    )
)


def test_templates_are_filled_and_validated() -> None:
    allowed = ask(TEMPLATED, job_token(run_id="42"))
    assert isinstance(allowed, Allowed)
    options = allowed.grants[0].options
    assert (options.role, options.hosts, options.tags, options.level) == (
        "run-42",
        ["1"],
        {"who": "acme/payments", "on": True},
        3,
    )


@pytest.mark.parametrize(
    "changed",
    [{"run_id": "4 2"}, {"run_id": "../x"}, {"run_id": "{{ job.actor }}"}, {"run_id": ...}, {"run_id": ""}, {"run_id": "x" * 33},
     {"run_id": "a\n"}, {"run_attempt": ["1"]}, {"run_attempt": {"a": 1}}, {"run_attempt": 1.5}, {"repository": "acme/p4yments"}],
    ids=str,
)  # fmt: skip
def test_a_value_that_would_need_escaping_is_refused(changed: dict[str, Any]) -> None:
    denied = ask(TEMPLATED, job_token(**changed))
    assert isinstance(denied, Denied)
    assert denied.code == "template"


def test_names_tells_near_misses_from_strangers() -> None:
    assert RELEASE.names(job_token(ref="refs/heads/x"))
    assert RELEASE.names(job_token(repository_id="9")), "our name in other hands is no stranger"
    assert not RELEASE.names(
        job_token(repository_id="9", repository="evil/x", repository_owner="evil", repository_owner_id="9")
    )
    assert not RELEASE.names(job_token("gitlab-environment", "gitlab"))
    assert not RELEASE.names(job_token(repository_id=..., repository=...))


def test_versions_are_of_content() -> None:
    assert load(policy_text()).version == load(policy_text()).version
    assert load(policy_text()).version != load(policy_text() + "\n# said\n").version
    assert [source.name for source in TWO.sources] == ["other", "payments"]
    source = TWO.sources[1]
    assert TWO.policies["payments"].version == f"sha256:{source.sha256}"
    assert source.text == policy_text()


@pytest.mark.parametrize("wrap", [lambda inner: {"a": inner}, lambda inner: [inner]], ids=["objects", "lists"])
def test_a_claim_nested_beyond_all_reason_is_a_denial(wrap: Any) -> None:
    deep: Any = "x"
    for _ in range(100_000):
        deep = wrap(deep)
    policies = load(policy_text(rest="claims: {deep: x}\nwhen: claims.deep != 'x'"))
    denied = ask(policies, job_token(deep=deep))
    assert isinstance(denied, Denied)
    assert [miss.key for miss in denied.misses] == ["claims.deep", "when"]
    only_when = load(policy_text(rest="when: claims.deep != 'x'"))
    assert isinstance(ask(only_when, job_token(deep=deep)), Denied)
    while not isinstance(deep, str):  # taken apart by hand: the interpreter would recurse to free it
        deep = deep.pop("a" if isinstance(deep, dict) else 0)
