"""Whatever loads can be linted: no condition, kind or place makes a rule fail, and every finding has its place."""

import json
import os
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.authoring.lint import RULES
from broker.authoring.lint.jobs import likely, strangers
from broker.authoring.lint.stated import stated
from broker.errors import ConfigError
from broker.issuers import ISSUERS
from broker.model import JOB_FIELDS
from broker.proof import Budget
from tests.unit.lint.samples import REFUSED
from tests.unit.lint.world import check, lint, world

EXAMPLES = int(os.environ.get("JOBKEY_LINT_EXAMPLES", "200"))
words = st.sampled_from(
    ["acme/payments", "acme", "refs/heads/main", "production", "512345678", "true", "x", "a/b@refs/c"]
)
scalars = st.one_of(words, st.booleans(), st.integers(0, 9))
patterns = st.sampled_from(["*", "**", "acme*", "acme/*", "*/x", "refs/heads/*", "a?c"])
leaves = st.one_of(scalars, st.builds(lambda text: {"glob": text}, patterns), st.just({"absent": True}),
                   st.sampled_from(["a.*", "acme/.+", "[ab]+"]).map(lambda text: {"regex": text}))  # fmt: skip
specs = st.one_of(
    leaves,
    st.lists(leaves, min_size=1, max_size=3),
    leaves.map(lambda spec: {"not": spec}),
    leaves.map(lambda spec: {"contains": spec}),
)
FLAGS = {"ref_protected", "environment_protected", "fork"}
flags = st.sampled_from([True, False, [True, False], {"not": True}, {"absent": True}])
texts = st.one_of(words, st.builds(lambda text: {"glob": text}, patterns), st.just({"absent": True}),
                  st.sampled_from(["a.*", "acme/.+", "[ab]+"]).map(lambda text: {"regex": text}))  # fmt: skip
fitting = st.one_of(texts, st.lists(texts, min_size=1, max_size=3), words.map(lambda spec: {"not": spec}))
whens = st.sampled_from([
    "has(claims.x) || claims.sub == 5", 'int(claims["a/b"]) < 3', 'job.ref_protected != "x"', "size(claims.sub) > 1",
    '!has(claims.x) || "||" == claims.sub', "claims.a.b.c == 1 || true", 'claims.groups_direct.exists(g, g == "a")',
])  # fmt: skip


@st.composite
def policies(draw: st.DrawFn) -> str:
    issuer = draw(st.sampled_from(sorted(REFUSED)))
    kind = ISSUERS[issuer]
    claims = [name for name in kind.claims if not name.endswith("*")] + ["/a/b", "/kubernetes.io/namespace", "unknown"]
    statements = []
    for _ in range(draw(st.integers(1, 3))):
        one: dict[str, Any] = {"issuer": issuer}
        fields = draw(st.lists(st.sampled_from(JOB_FIELDS), max_size=4, unique=True))
        one["job"] = {name: draw(flags if name in FLAGS else fitting) for name in fields}
        one["claims"] = draw(st.dictionaries(st.sampled_from(claims), specs, max_size=3))
        if draw(st.integers(0, 3)) == 0:
            one["when"] = draw(whens)
        if draw(st.integers(0, 3)) == 0:
            one["allow_triggers"] = draw(st.lists(st.sampled_from(sorted(kind.trigger_names)), max_size=2))
        statements.append(one)
    options = draw(st.sampled_from([
        {"backend": "ssh", "ttl": "5m", "with": {"principals": ["a-{{ job.ref }}", "b-{{ claims.zz }}"]}},
        {"backend": "token", "ttl": "10m", "with": {"audience": ["a", "b"], "subject": "p:{{ job.run_id }}"}},
        {"backend": "vault", "ttl": "5m", "with": {"path": "a/{{ job.owner }}/c", "policies": ["p"]}},
    ]))  # fmt: skip
    example = {"name": "no", "claims": {"$like": REFUSED[issuer]}, "expect": "refuse"}
    owners = [draw(st.sampled_from(["a@b.example", "TODO", "@a/b", "x"]))]
    return json.dumps(
        {"policy": "p", "owners": owners, "trust": statements, "grants": {"g": options}, "examples": [example]},
        indent=1,
    )


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(policies())
def test_what_loads_can_be_linted(text: str) -> None:
    try:
        found = lint(text, guardrails="require_immutable_id: false\nadvised_ttl: {ssh-ca: 1m}")
    except ConfigError:
        return
    height = len(text.splitlines())
    for one in found:
        assert one.rule in RULES
        assert one.message
        assert one.remedy
        assert one.place.file != "0.yaml" or one.place.line <= height


NAMING = {
    "name-without-id", "open-prefix", "wildcard-across-owners", "wildcard-across-projects", "project-name-under-owner-id",
    "look-alike",
}  # fmt: skip


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(policies())
def test_no_stranger_passes_unseen(text: str) -> None:
    """Wherever a job passes, and so does the same job of somebody else, some rule says so of that statement."""
    try:
        checked = check(text)
    except ConfigError:
        return
    seen = {one.path[1] for one in lint(text) if one.rule in NAMING and one.path[:1] == ("trust",)}
    for one in stated(checked, world()):
        for job in likely(one, world(), Budget()):
            passing = [name for name, other in strangers(job, world()) if other.trusted_by(one.statement)]
            assert not (job.trusted_by(one.statement) and passing) or one.number in seen
