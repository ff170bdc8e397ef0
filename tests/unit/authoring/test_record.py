"""Real claims as examples: the same decision, no person's name, nothing that belongs to one run."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.authoring.write.insert import with_examples
from broker.authoring.write.origins import TRIGGERS, claims_of, leaves, origins
from broker.authoring.write.record import as_token, outcome, recorded, title
from broker.authoring.write.yamltext import flow, scalar
from broker.documents import parse
from broker.errors import ConfigError
from broker.issuers import ISSUERS
from broker.policy.examples import example_token
from broker.policy.guardrails import Guardrails
from broker.policy.load import PolicyText, check_text
from broker.policy.misses import checks
from broker.policy.policyset import Policy
from broker.policy.world import World
from tests.unit.policy.world import load, policy_text

FIXTURES = {
    path.stem: json.loads(path.read_text())
    for path in sorted((Path(__file__).parents[2] / "contract/claims").glob("*.json"))
}
GITHUB = ISSUERS["github"]
WORLD = World(issuers=ISSUERS, issuer_urls={name: kind.url for name, kind in ISSUERS.items() if kind.url}, targets=None, guardrails=Guardrails())  # fmt: skip
PERSONAL = ("kim", "kim@acme.example", "8801202", "trudy", "7771112")


def policy(**parts: str) -> Policy:
    return load(policy_text(**parts)).policies["payments"]


def real(**changed: Any) -> dict[str, Any]:
    claims = {**FIXTURES["github"]["allowed"][0]["claims"], **changed}
    return {name: value for name, value in claims.items() if value is not ...}


def example(claims: dict[str, Any], against: Policy | None = None) -> dict[str, Any]:
    token = example_token("github", GITHUB, claims)
    return recorded(against, token, GITHUB, WORLD, name="x", expect=())


def test_only_what_differs_is_written_and_nothing_of_the_run_or_of_a_person() -> None:
    written = example(real(repository_id="77"), policy())["claims"]
    assert written["$like"] == "github-environment"
    assert written["repository_id"] == "77"
    assert not {"jti", "iat", "nbf", "exp", "aud", "iss", "sub", "run_id", "run_number", "check_run_id", "sha", "workflow_sha", "job_workflow_sha", "actor", "actor_id"} & written.keys()  # fmt: skip
    assert "repository" not in written  # the same as the kind's own example
    assert not any(name in json.dumps(written) for name in PERSONAL)


@pytest.mark.parametrize(
    ("job", "claim"),
    [("actor: kim", "actor"), ('run_id: "14400556677"', "run_id"), ("sha: c0ffee254729296a45a3885639ac7e10f9d54979", "sha"), ('actor_id: {not: "1"}', "actor_id")],
)  # fmt: skip
def test_what_a_condition_reads_is_kept(job: str, claim: str) -> None:
    claims = real()
    written = example(claims, policy(job=job))["claims"]
    assert written[claim] == claims[claim]


@pytest.mark.parametrize(
    "parts",
    [
        {"rest": "when: claims.actor.startsWith('k')"},
        {"rest": "when: has(claims.actor_id) && claims.actor == 'kim'"},
        {"rest": "claims: {actor: [kim, lee]}"},
        {"grant": 'with: {role: "{{ claims.actor }}"}'},
    ],
    ids=str,
)
def test_what_an_expression_a_raw_claim_or_a_template_reads_is_kept(parts: dict[str, str]) -> None:
    assert example(real(), policy(**parts))["claims"]["actor"] == "kim"


def test_what_the_token_lacks_is_taken_away() -> None:
    written = example(real(workflow_ref=..., environment=..., actor=...), policy(job="actor: {absent: true}"))["claims"]
    assert written["workflow_ref"] is None
    assert written["actor"] is None
    assert not any(name in json.dumps(written) for name in PERSONAL)


ALLOWED = [
    (stem, case["name"])
    for stem, fixture in FIXTURES.items()
    if fixture["kind"] != "generic"
    for case in fixture["allowed"]
]
REFUSED = [
    (stem, case["name"])
    for stem, fixture in FIXTURES.items()
    if fixture["kind"] != "generic"
    for case in fixture["refused"]
]


@pytest.mark.parametrize(("stem", "name"), ALLOWED + REFUSED)
def test_every_kept_payload_becomes_an_example_that_decides_alike(stem: str, name: str) -> None:
    fixture = FIXTURES[stem]
    kind = ISSUERS[fixture["kind"]]
    case = next(case for case in [*fixture["allowed"], *fixture["refused"]] if case["name"] == name)
    claims = case.get("claims") or next(one["claims"] for one in fixture["allowed"] if one["name"] == case["from"])
    claims = {
        key: value for key, value in {**claims, **case.get("changes", {})}.items() if key not in case.get("without", ())
    }
    token = example_token(kind.name, kind, claims)
    conditions = "\n".join(f"      {word}: {flow(value)}" for word, value in fixture["policy"].items())
    text = f"""\
policy: payments
owners: [a@b]
trust: [{{issuer: {kind.name}, claims: {{sub: x}}}}, {{issuer: {kind.name}, job: {flow(fixture["policy"])}}}]
grants: {{deploy: {{backend: token, ttl: 5m}}}}
examples: [{{name: nobody, claims: {{x: y}}, expect: refuse}}]
"""
    assert conditions
    loose = World(
        issuers=ISSUERS, issuer_urls=WORLD.issuer_urls, targets=None, guardrails=Guardrails(require_immutable_id=False)
    )
    made = check_text(PolicyText("p.yaml", "p.yaml", text.encode()), loose).policy
    written = recorded(made, token, kind, loose, name="x", expect=())
    again = as_token(kind.name, kind, loose, written["claims"])
    for statement in made.statements:
        assert list(checks(statement, again)) == list(checks(statement, token))
    assert outcome(made, again) == outcome(made, token)


def test_without_a_policy_the_accidents_are_left_out_and_the_issuer_is_named() -> None:
    found = example(real(ref="refs/heads/try-it"))
    assert found["issuer"] == "github"
    assert found["claims"]["ref"] == "refs/heads/try-it"
    assert not any(name in json.dumps(found) for name in PERSONAL)


def test_an_address_is_left_out_even_where_a_job_goes_by_it() -> None:
    google = ISSUERS["google"]
    person = {**google.examples["google-person"], "email": "kim@acme.example", "sub": "119", "iss": google.url}
    token = example_token("google", google, person)
    text = """\
policy: payments
owners: [a@b]
trust: [{issuer: google, job: {project_id: "100000000000000000001"}}]
grants: {deploy: {backend: token, ttl: 5m}}
examples: [{name: nobody, claims: {$like: google-person}, expect: refuse}]
"""
    against = check_text(PolicyText("p.yaml", "p.yaml", text.encode()), WORLD).policy
    found = recorded(against, token, google, WORLD, name=title(token, lambda _: False), expect=())
    assert "kim" not in json.dumps(found)
    assert found["claims"]["$like"] == "google-person"
    assert found["claims"]["sub"] == "119"
    named = text.replace('project_id: "100000000000000000001"', 'project: kim@acme.example, project_id: "1"')
    against = check_text(PolicyText("p.yaml", "p.yaml", named.encode()), WORLD).policy
    assert recorded(against, token, google, WORLD, name="x", expect=())["claims"]["email"] == "kim@acme.example"


def test_a_name_says_what_it_was_and_is_one_of_its_own() -> None:
    token = example_token("github", GITHUB, real())
    assert title(token, lambda _: False) == "push on refs/heads/main in production"
    assert title(token, {"push on refs/heads/main in production"}.__contains__).endswith("production (2)")
    hostile = example_token("github", GITHUB, real(ref="refs/heads/\x1b[2J" + "x" * 300))
    assert title(hostile, lambda _: False).isprintable()
    assert len(title(hostile, lambda _: False)) < 200


# ---- where words come from


@pytest.mark.parametrize("name", [name for name in ISSUERS if name != "generic"])
def test_every_word_of_every_example_comes_from_somewhere(name: str) -> None:
    kind = ISSUERS[name]
    for claims in kind.examples.values():
        made = origins(kind, claims)
        there = set(leaves(claims))
        for word in kind.identity(claims).present():
            if word != "run_url" and (word, name) != ("owner", "bitbucket"):
                assert made[word] <= there, word
                assert made[word], word
        if kind.unsafe_triggers(claims) not in {(), kind.unsafe_triggers({})}:  # but for what a missing claim tells
            assert made[TRIGGERS]


@pytest.mark.parametrize("name", [name for name in ISSUERS if name != "generic"])
def test_words_lead_back_to_claims_that_make_them(name: str) -> None:
    kind = ISSUERS[name]
    for claims in kind.examples.values():
        words = kind.identity(claims).present()
        if kind.unsafe_triggers(claims) or not words:
            continue
        found = claims_of(kind, words)
        assert found is not None
        again = kind.identity(found).present()
        assert {word: value for word, value in again.items() if word != "run_url"} == {word: value for word, value in words.items() if word != "run_url"}  # fmt: skip


def test_words_that_no_claims_make_lead_nowhere() -> None:
    assert claims_of(GITHUB, {"project": "acme/payments", "ref": "main"}) is None


# ---- text


json_like = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**18), 10**18), st.text(max_size=20), st.sampled_from(["yes", "Null", "0x1f", "1e3", "2026-11-22", "- a", "a: b", "#x", "{{ job.ref }}", "\x85", "\u2028", "\U0001f600", "a, b", "a]", "'", "<<", "=", "!t", "&a", "*a", "%d", "@x", "`"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(json_like)
def test_what_is_written_is_what_is_read(value: Any) -> None:
    text = flow({"x": value})
    assert all(character.isprintable() for character in text)
    assert parse(f"a: {text}\n", "t").value == {"a": {"x": value}}


def test_what_needs_no_quotes_has_none() -> None:
    for plain in ("refs/heads/main", "acme/payments", "$like", "a push to main", "/kubernetes.io/x"):
        assert scalar(plain) == plain


# ---- into a file


LAYOUTS = {
    "last": "policy: p\nexamples:\n  - name: a\n    expect: refuse\n",
    "no end": "policy: p\nexamples:\n- name: a\n  expect: refuse",
    "comments": "# top\npolicy: p\nexamples: # here\n  # first\n  - name: a # one\n    expect: refuse\n\n# about grants\ngrants: {}\n",
    "blank between": "examples:\n  - name: a\n    expect: refuse\n\n  - name: b\n    expect: refuse\n\n\n# end\n",
    "text block": "examples:\n  - name: a\n    note: |\n      text\n      # no comment\n\ngrants: {}\n",
    "kept block": "examples:\n  - name: a\n    note: |+\n      text\n\n\ngrants: {}\n",
    "windows": "policy: p\r\nexamples:\r\n  - name: a\r\n    expect: refuse\r\n",
    "flow items": "examples:\n  - {name: a, expect: refuse}\n  - {name: b,\n     expect: refuse}\nmode: x\n",
    "deep dash": "examples:\n    -   name: a\n        expect: refuse\n",
    "byte-order mark": "\ufeffexamples:\n  - name: a\n",
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_example_joins_a_file_and_every_line_of_it_stays(layout: str) -> None:
    data = LAYOUTS[layout].encode()
    before = parse(data, "p.yaml").value
    added = {"name": "new", "claims": {"$like": "github-branch", "x": "1"}, "expect": {"allow": ["a"]}}
    after = with_examples(data, "p.yaml", [added, {**added, "name": "newer"}])
    value = parse(after, "p.yaml").value
    assert value["examples"] == [*before["examples"], added, {**added, "name": "newer"}]
    assert {key: item for key, item in value.items() if key != "examples"} == {
        key: item for key, item in before.items() if key != "examples"
    }
    kept = iter(after.decode().split("\n"))
    assert all(line in kept for line in data.decode().split("\n") if line), "a line went missing or moved"
    if b"\r\n" in data:
        assert after.count(b"\n") == after.count(b"\r\n")


@pytest.mark.parametrize("tail", ["", "examples:\n  - name: today's\n", "\n# about the rest\nmode: x\n"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_example_joins_a_next_version_and_not_todays(layout: str, tail: str) -> None:
    end = "\r\n" if "\r\n" in LAYOUTS[layout] else "\n"
    inner = "".join(
        f"  {line}{end}" if line else end for line in LAYOUTS[layout].removeprefix("\ufeff").rstrip("\n\r").split(end)
    )
    data = (f"policy: x{end}next:{end}{inner}" + tail.replace("\n", end)).encode()
    before = parse(data, "p.yaml").value
    added = {"name": "new", "claims": {"$like": "github-branch"}, "expect": "refuse"}
    after = with_examples(data, "p.yaml", [added, {**added, "name": "newer"}], under=("next",))
    value = parse(after, "p.yaml").value
    more = [*before["next"]["examples"], added, {**added, "name": "newer"}]
    assert value == {**before, "next": {**before["next"], "examples": more}}
    kept = iter(after.decode().split("\n"))
    assert all(line in kept for line in data.decode().split("\n") if line), "a line went missing or moved"


@pytest.mark.parametrize("text", ["examples:\n  - name: a\n", "next: x\n", "next:\n  examples: [{name: a}]\n", "- a\n"])
def test_a_next_version_without_a_list_of_its_own_is_left_alone(text: str) -> None:
    with pytest.raises(ConfigError, match=r"p\.yaml:[12]:.*next\.examples"):
        with_examples(text.encode(), "p.yaml", [{"name": "new"}], under=("next",))


@pytest.mark.parametrize(
    "text",
    [
        "examples: [{name: a}]\n",
        "examples: []\n",
        "policy: p\n",
        "examples: x\n",
        "- a\n",
        "examples:\n  -\n    name: a\n",
    ],
)
def test_a_layout_that_cannot_be_kept_is_left_alone(text: str) -> None:
    with pytest.raises(ConfigError, match=r"p\.yaml:[12]:"):
        with_examples(text.encode(), "p.yaml", [{"name": "new"}])
