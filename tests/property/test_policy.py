"""Promise 7: adding a condition never widens a policy, adding a guardrail never widens anything. And decide is total.

The strategies aim near the policy: values that satisfy its conditions, and small changes of them.
"""

from datetime import timedelta
from typing import Any

import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from broker.errors import ConfigError
from broker.issuers import ISSUERS
from broker.model import GrantRequest
from broker.policy import Allowed, BadParams, Denied, Guardrails, PolicySet, decide
from broker.policy.examples import example_token
from broker.policy.guardrails import read_guardrails
from broker.policy.load import PolicyText, compile_all
from tests.unit.policy.world import NOON, world

GITHUB = ISSUERS["github"]
NEAR = {
    "ref": ["refs/heads/main", "refs/heads/main-evil", "refs/heads/a/b", "refs/tags/v1", "refs/heads/main\n"],
    "environment": ["production", "staging", "Production"],
    "repository": ["acme/payments", "acme/payments-evil", "evil/payments"],
    "repository_id": ["512345678", "1"],
    "event_name": ["push", "pull_request_target", "schedule", "issue_comment"],
    "ref_protected": ["true", "false", "TRUE", True],
    "run_attempt": ["1", "2", "x"],
    "teams": [["a", "b"], ["b"], "a", [["a"]], {"a": 1}],
}
ODD = [None, "", [], {}, 0, False, 1.5, "\ud800", "x" * 300]
FIELDS = {"ref": str, "environment": str, "project": str, "ref_protected": bool, "attempt": str, "fork": bool}
TEXTS = [value for values in NEAR.values() for value in values if isinstance(value, str) and value.isprintable()]

plain = st.sampled_from(["refs/heads/main", "production", "acme/payments", "1", "push"]) | st.sampled_from(TEXTS)
leaf = (
    plain
    | st.lists(plain, min_size=1, max_size=3)
    | st.sampled_from(["refs/heads/*", "refs/**", "acme/*", "v?", "**"]).map(lambda glob: {"glob": glob})
    | st.sampled_from(["refs/heads/.*", "[a-z]+", "main|production"]).map(lambda regex: {"regex": regex})
    | st.just({"absent": True})
)
text_condition = leaf | leaf.map(lambda inner: {"not": inner})
claim_condition = (
    text_condition
    | leaf.map(lambda inner: {"contains": inner})
    | st.booleans()
    | st.booleans().map(lambda value: {"not": value})
)
job_condition = st.one_of(
    st.tuples(st.sampled_from([name for name, kind in FIELDS.items() if kind is str]), text_condition),
    st.tuples(st.sampled_from([name for name, kind in FIELDS.items() if kind is bool]), st.booleans()),
)
# Mostly near: one or two claims changed, and more often to another good value than to an odd one.
claim = st.sampled_from(list(NEAR)).flatmap(
    lambda name: st.tuples(
        st.just(name), st.sampled_from(NEAR[name]) | st.sampled_from(NEAR[name][:1]) | st.sampled_from(ODD)
    )
)
claims = st.lists(claim, max_size=2).map(dict)
statement = st.fixed_dictionaries(
    {
        "job": st.lists(job_condition, max_size=3).map(dict),
        "claims": st.dictionaries(st.sampled_from(list(NEAR)), claim_condition, max_size=2),
        "allow_triggers": st.lists(st.sampled_from(["pull_request_target", "issue_comment"]), unique=True),
    },
    optional={
        "when": st.sampled_from(
            ["claims.run_attempt == '1'", "claims.ref != 'x' || true", "!has(claims.environment)", "job.ref_protected"]
        )
    },
)
GUARDRAILS: list[dict[str, Any]] = [
    {"longest_ttl": {"safe-kind": "10m"}},
    {"no_wildcards": ["ref"]},
    {"no_wildcards": ["claims.ref"]},
    {"triggers_never_allowed": ["pull_request_target"]},
    {"owners": ["*@elsewhere.example"]},
    {"folders": {".": {"issuers": ["gitlab"]}}},
    {"folders": {".": {"backends": ["needy"]}}},
    {"require_immutable_id": True},
]


def compiled(statements: list[dict[str, Any]], guardrails: Guardrails) -> PolicySet:
    document = {
        "policy": "p",
        "owners": ["team@acme.example"],
        "trust": [{"issuer": "github", **{name: part for name, part in one.items() if part}} for one in statements],
        "grants": {"g": {"backend": "safe", "ttl": "15m"}},
        # A token of which nothing is right: refused by whatever loads here but the emptiest conditions.
        "examples": [
            {
                "name": "nobody",
                "claims": {"iss": "https://nobody.example", "event_name": "unheard-of"},
                "expect": "refuse",
            }
        ],
    }
    text = yaml.safe_dump(document, allow_unicode=True).encode()
    return compile_all([PolicyText("p.yaml", "p.yaml", text)], world(guardrails), [])


def build(statements: list[dict[str, Any]], guardrails: dict[str, Any]) -> PolicySet | None:
    """None where it does not load, which allows nobody anything."""
    limits = read_guardrails(yaml.safe_dump({"require_immutable_id": False, **guardrails}), "g.yaml")
    try:
        return compiled(statements, limits)
    except ConfigError:
        return None


def ttl(policies: PolicySet | None, changed: dict[str, Any]) -> timedelta:
    """How much a job with these claims gets: the life of its credential, zero where it is refused."""
    if policies is None:
        return timedelta(0)
    token = example_token("github", GITHUB, {**GITHUB.examples["github-environment"], **changed})
    decision = decide(policies, token, [GrantRequest(grant="p/g")], now=NOON)
    return decision.grants[0].ttl if isinstance(decision, Allowed) else timedelta(0)


@settings(max_examples=300, deadline=None)
@given(st.lists(statement, min_size=1, max_size=2), job_condition, claims)
def test_one_more_job_condition_never_widens(
    statements: list[dict[str, Any]], extra: tuple[str, Any], changed: dict[str, Any]
) -> None:
    name, condition = extra
    assume(all(name not in one["job"] for one in statements))
    before = build(statements, {})
    assume(before is not None)
    narrower = [{**one, "job": {**one["job"], name: condition}} for one in statements]
    assert ttl(build(narrower, {}), changed) <= ttl(before, changed)


@settings(max_examples=300, deadline=None)
@given(st.lists(statement, min_size=1, max_size=2), st.sampled_from(list(NEAR)), claim_condition, claims)
def test_one_more_claim_condition_never_widens(
    statements: list[dict[str, Any]], name: str, condition: Any, changed: dict[str, Any]
) -> None:
    assume(all(name not in one["claims"] for one in statements))
    before = build(statements, {})
    assume(before is not None)
    narrower = [{**one, "claims": {**one["claims"], name: condition}} for one in statements]
    assert ttl(build(narrower, {}), changed) <= ttl(before, changed)


@settings(max_examples=300, deadline=None)
@given(
    statement,
    st.sampled_from(["claims.n == 1", "true", "false", "claims.ref == 'refs/heads/main'", "has(claims.environment)"]),
    claims,
)
def test_a_when_never_widens(one: dict[str, Any], when: str, changed: dict[str, Any]) -> None:
    without = {name: part for name, part in one.items() if name != "when"}
    before = build([without], {})
    assume(before is not None)
    assert ttl(build([{**without, "when": when}], {}), changed) <= ttl(before, changed)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(statement, min_size=1, max_size=2),
    st.lists(st.sampled_from(GUARDRAILS), max_size=2),
    st.sampled_from(GUARDRAILS),
    claims,
)
def test_one_more_guardrail_never_widens(
    statements: list[dict[str, Any]], first: list[dict[str, Any]], extra: dict[str, Any], changed: dict[str, Any]
) -> None:
    limits: dict[str, Any] = {}
    for one in first:
        limits.update(one)
    assume(not set(extra) & set(limits))
    assert ttl(build(statements, {**limits, **extra}), changed) <= ttl(build(statements, limits), changed)


@settings(max_examples=300, deadline=None)
@given(st.lists(statement, min_size=1, max_size=2), claims)
def test_what_is_missing_null_or_empty_is_all_one(statements: list[dict[str, Any]], changed: dict[str, Any]) -> None:
    policies = build(statements, {})
    assume(policies is not None and changed)
    answers = {
        ttl(policies, {**changed, name: nothing}) for name in list(changed)[:1] for nothing in (None, "", [], {})
    }
    assert len(answers) == 1


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["\ud800", "refs/heads/main"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
requests = st.builds(
    GrantRequest,
    grant=st.sampled_from(["p/g", "p/x", "", "\ud800"]) | st.text(max_size=20),
    ttl=st.none() | st.timedeltas(),
    params=st.none() | st.dictionaries(st.sampled_from(["session", "size"]) | st.text(max_size=5), JSON, max_size=3),
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(statement, min_size=1, max_size=2),
    claims,
    st.dictionaries(st.sampled_from(list(NEAR)), JSON, max_size=4),
    st.lists(requests, max_size=3),
)
def test_decide_never_raises_and_explains_itself(
    statements: list[dict[str, Any]], changed: dict[str, Any], odd: dict[str, Any], asked: list[GrantRequest]
) -> None:
    policies = build(statements, {})
    assume(policies is not None)
    assert policies is not None
    token = example_token("github", GITHUB, {**GITHUB.examples["github-environment"], **changed, **odd})
    decision = decide(policies, token, asked, now=NOON)
    again = decide(policies, token, asked, now=NOON + timedelta(days=400))
    assert type(again) is type(decision)
    match decision:
        case Allowed(grants=grants):
            assert [grant.name for grant in grants] == [request.grant for request in asked]
        case BadParams(problems=problems):
            assert problems
        case Denied() as denied:
            assert denied.explain().isascii() or denied.explain()
            assert len(denied.explain()) < 100_000
            assert set(denied.near()) <= set(denied.misses)
    assert policies.names(token) in {True, False}
