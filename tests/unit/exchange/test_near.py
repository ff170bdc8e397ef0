"""What a case keeps of the near miss: the nearest first, the first miss first, for each policy at least one, in few bytes."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.exchange.near import LONGEST, MOST_BYTES, bounded, near_grants, near_misses, near_params
from broker.model import GrantRequest
from broker.policy import BadParams, Denied, PolicySet, decide
from tests.unit.policy.world import NOON, job_token, load, policy_text

SHIPPING = policy_text(job="ref: refs/heads/main").replace("policy: payments", "policy: shipping")
SECOND = """\
  - issuer: github
    job: {project_id: "512345678", ref: refs/heads/x, environment: e, actor: a, sha: s}
  - issuer: gitlab
    job: {project_id: "1"}"""


def near(policies: PolicySet, *grants: str, **changed: Any) -> list[dict[str, Any]]:
    token = job_token(**changed)
    denied = decide(policies, token, [GrantRequest(grant=grant) for grant in grants], now=NOON)
    assert isinstance(denied, Denied)
    return near_misses(denied.misses, policies, token)


def keys(entries: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(entry["policy"], entry.get("statement"), entry["key"]) for entry in entries]


def test_the_first_miss_of_the_nearest_statement_comes_first() -> None:
    text = policy_text(job="ref: refs/heads/main\nenvironment: production").replace("grants:", SECOND + "\ngrants:", 1)
    policies = load(text.replace("  - name: a stranger\n", "  - name: a stranger\n    issuer: github\n"))
    found = near(policies, "payments/deploy", ref="refs/heads/fix")
    assert keys(found)[0] == ("payments", 0, "job.ref")
    assert found[0] == {
        "policy": "payments", "statement": 0, "key": "job.ref", "code": "no-statement", "expected": "refs/heads/main",
        "got": "refs/heads/fix", "held": ["issuer", "job.project_id", "job.environment"],
    }  # fmt: skip
    assert [entry.get("statement") for entry in found] == sorted(
        (entry.get("statement") for entry in found), key=lambda number: (number == 2, number)
    )
    assert keys(found)[-1] == ("payments", 2, "issuer")  # another issuer's is never nearer
    assert "held" not in found[-1]


def test_two_grants_of_one_policy_miss_once_and_two_policies_twice() -> None:
    text = policy_text(job="ref: refs/heads/main").replace("grants:", "grants:\n  other: {backend: safe, ttl: 5m}", 1)
    policies = load(text, SHIPPING)
    found = near(policies, "payments/deploy", "payments/other", "shipping/deploy", ref="refs/heads/fix")
    assert keys(found) == [("payments", 0, "job.ref"), ("shipping", 0, "job.ref")]


def test_a_grant_that_a_policy_has_not_is_near_it_and_one_of_no_policy_is_near_none() -> None:
    policies = load(policy_text())
    assert near(policies, "payments/deplyo") == [
        {"policy": "payments", "key": "grant", "code": "unknown-grant", "expected": "deploy", "got": "deplyo"}
    ]
    assert near(policies, "paymnts/deploy") == []
    assert keys(near(policies, "paymnts/deploy", "payments/x")) == [("payments", None, "grant")]


def test_what_is_no_condition_is_told_once_a_policy() -> None:
    policies = load(policy_text(), SHIPPING)
    told = near_grants(
        ["payments/a", "payments/b", "shipping/deploy", "nobody/x"], policies, key="mode", code="observe", expected="e" * 999, got="g"
    )  # fmt: skip
    assert keys(told) == [("payments", None, "mode"), ("shipping", None, "mode")]
    assert len(told[0]["expected"]) == LONGEST


def test_what_a_trusted_job_sent_wrongly_is_for_its_owners() -> None:
    policies = load(policy_text(backend="needy"))
    request = GrantRequest(grant="payments/deploy", params={"public_key": 7, "more": 1})
    bad = decide(policies, job_token(), [request], now=NOON)
    assert isinstance(bad, BadParams)
    assert {entry["key"] for entry in near_params(bad, policies)} == {"params.public_key", "params.more"}


shown = st.sampled_from(["", "x", "x" * LONGEST, "\U0001f511" * LONGEST])
entry = st.builds(
    lambda policy, key, expected, got: {
        "policy": policy, "key": key, "code": "no-statement", "expected": expected, "got": got
    },
    st.sampled_from("abcdefgh"), st.sampled_from(["job.ref", "when", "claims." + "\U0001f511" * 190]), shown, shown,
)  # fmt: skip


@settings(max_examples=100)
@given(st.lists(st.lists(entry, min_size=1, max_size=8), max_size=8))
def test_it_fits_and_no_policy_is_left_out(groups: list[list[dict[str, Any]]]) -> None:
    """Or its owner would never find the case; and the order stays."""
    kept = bounded(groups)
    assert {one["policy"] for one in kept} == {one["policy"] for group in groups for one in group}
    assert sum(len(orjson.dumps(one)) for one in kept) <= MOST_BYTES
    rest = iter([one for group in groups for one in group])
    for one in kept:  # a subsequence
        assert any(all(str(had[name]).startswith(str(one[name])) for name in one) for had in rest)


@pytest.mark.parametrize("size", [1, 500])
def test_a_flood_of_statements_stays_small(size: int) -> None:
    groups = [
        [{"policy": "p", "statement": n, "key": "job.ref", "code": "no-statement", "expected": "x" * 100, "got": "y"}]
        for n in range(size)
    ]
    kept = bounded(groups)
    assert kept[0]["statement"] == 0
    assert len(orjson.dumps(kept)) <= MOST_BYTES + len(kept) + 2
