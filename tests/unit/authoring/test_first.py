"""`policy new`, over every issuer kind: what it writes takes the job it was written for and refuses every attack kept for it."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import jwt
import pytest

from broker.authoring.lint import lint_policy
from broker.authoring.write.first import NoModel, first_policy
from broker.authoring.write.sibling import with_trigger
from broker.authoring.write.subject import Subject, read_subject
from broker.errors import ConfigError, SubjectTokenRejected
from broker.issuers import ISSUERS
from broker.issuers.settings import IssuerSettings, trusted_issuer
from broker.issuers.trusted import TrustedIssuer
from broker.model import GrantRequest, VerifiedToken
from broker.policy import Allowed, Denied, Guardrails, PolicySet, decide
from broker.policy.examples import example_token
from broker.policy.load import PolicyText, check_text, compile_all
from broker.policy.world import World
from broker.tokens import TokenVerifier
from broker.tokens.fetching import Fetched
from broker.tokens.keyset import parse
from tests.fakes.issuer import SigningKey, make_private_key
from tests.unit.policy.world import TARGETS

BROKER = "https://broker.acme.example"
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
KEY = SigningKey("RS256", "key-1", make_private_key("RS256"))
CLAIMS = Path(__file__).parents[2] / "contract" / "claims"
FIXTURES = {path.stem: json.loads(path.read_text()) for path in sorted(CLAIMS.glob("*.json"))}
ATTACKS = [(stem, case["name"]) for stem, fixture in FIXTURES.items() for case in fixture["refused"]]
UNSAFE = [
    (kind.name, name)
    for kind in ISSUERS.values()
    for name, claims in kind.examples.items()
    if kind.unsafe_triggers(claims)
]


def configured(fixture: Mapping[str, Any]) -> TrustedIssuer:
    return trusted_issuer("ci", IssuerSettings(kind=fixture["kind"], **fixture["settings"]), audience=BROKER)


def world_of(issuer: TrustedIssuer) -> World:
    return World(
        issuers={issuer.name: issuer.kind}, issuer_urls={issuer.name: issuer.url}, targets=None, guardrails=Guardrails()
    )


def write(subject: Subject, world: World, **changed: Any) -> str:
    asked: dict[str, Any] = {"name": "payments", "owners": ["team@acme.example"], "grant": "deploy", "backend": "token"}
    return first_policy(subject, world, **(asked | changed)).text


def loaded(text: str, world: World) -> PolicySet:
    return compile_all([PolicyText("payments.yaml", "payments.yaml", text.encode())], world, [])


def ask(policies: PolicySet, token: VerifiedToken) -> Allowed | Denied:
    decision = decide(policies, token, [GrantRequest(grant="payments/deploy")], now=NOW)
    assert isinstance(decision, Allowed | Denied)
    return decision


@cache
def policies_for(stem: str, name: str) -> PolicySet:
    """The policy that is written for a fixture's good token."""
    fixture = FIXTURES[stem]
    world = world_of(configured(fixture))
    good = next(case["claims"] for case in fixture["allowed"] if case["name"] == name)
    return loaded(write(read_subject(json.dumps(good), name, world), world), world)


async def verified(fixture: Mapping[str, Any], claims: Mapping[str, Any]) -> VerifiedToken | None:
    """What the broker's own verifier makes of these claims, signed by their issuer; None where it rejects them."""
    verifier = TokenVerifier([configured(fixture)], clock=lambda: 0.0)
    keys = verifier.keys["ci"]
    keys._fetched, keys._refresh_at, keys._fresh_until = (
        Fetched(parse({"keys": [KEY.jwk()]}, ["RS256"]), None),
        1e9,
        1e9,
    )
    shifted = {
        name: value + int(NOW.timestamp()) if name in ("iat", "nbf", "exp") else value for name, value in claims.items()
    }
    try:
        return await verifier.verify(
            jwt.encode(shifted, KEY.private, algorithm="RS256", headers={"kid": KEY.kid}), now=NOW
        )
    except SubjectTokenRejected:
        return None


async def outcome(stem: str, attack: str, policies: PolicySet | None = None) -> str:
    """`rejected` by the verifier, or what the policy for the attack's safe sibling says: `allowed` or `denied`."""
    fixture = FIXTURES[stem]
    case = next(case for case in fixture["refused"] if case["name"] == attack)
    good = next(allowed["claims"] for allowed in fixture["allowed"] if allowed["name"] == case["from"])
    claims = {**good, **case["changes"]}
    for name in case.get("without", ()):
        del claims[name]
    token = await verified(fixture, claims)
    if token is None:
        return "rejected"
    return "denied" if isinstance(ask(policies or policies_for(stem, case["from"]), token), Denied) else "allowed"


@pytest.mark.parametrize(
    ("stem", "name"), [(stem, case["name"]) for stem, fixture in FIXTURES.items() for case in fixture["allowed"]]
)
async def test_the_job_itself_is_allowed(stem: str, name: str) -> None:
    good = next(case["claims"] for case in FIXTURES[stem]["allowed"] if case["name"] == name)
    token = await verified(FIXTURES[stem], good)
    assert token is not None
    assert isinstance(ask(policies_for(stem, name), token), Allowed)


@pytest.mark.parametrize(("stem", "attack"), ATTACKS, ids=[f"{stem}: {name}" for stem, name in ATTACKS])
async def test_every_attack_kept_for_a_kind_is_refused_by_its_safe_siblings_policy(stem: str, attack: str) -> None:
    case = next(case for case in FIXTURES[stem]["refused"] if case["name"] == attack)
    by_the_verifier = all(denied.startswith("token.") for denied in case["denied_by"])
    assert await outcome(stem, attack) == ("rejected" if by_the_verifier else "denied")


@pytest.mark.parametrize(("kind_name", "unsafe"), UNSAFE)
def test_every_unsafe_example_of_a_kind_is_refused_by_the_policy_of_every_safe_one(kind_name: str, unsafe: str) -> None:
    world, safe = kind_world(kind_name)
    kind = world.issuers["ci"]
    for name, policies in safe.items():
        token = example_token("ci", kind, {**kind.examples[unsafe], "iss": world.issuer_urls["ci"]})
        assert isinstance(ask(policies, token), Denied), name
        for trigger in token.unsafe_triggers:  # and where nothing but the trigger differs
            turned = with_trigger(kind, kind.examples[name], trigger)
            if turned is not None:
                assert isinstance(ask(policies, example_token("ci", kind, turned)), Denied), (name, trigger)


GENERIC = {"project": "claims.repo", "project_id": "claims.repo_id", "ref": "claims.ref", "ref_protected": "claims.protected", "trigger": "claims.event"}  # fmt: skip


@cache
def kind_world(kind_name: str) -> tuple[World, dict[str, PolicySet]]:
    """A kind as an operator would configure it, and the policies of its safe examples."""
    stem, fixture = next((stem, fixture) for stem, fixture in FIXTURES.items() if fixture["kind"] == kind_name)
    settings = {**fixture["settings"], **({"map": GENERIC} if kind_name == "generic" else {})}
    world = world_of(configured({"kind": kind_name, "settings": settings}))
    kind = world.issuers["ci"]
    safe = {}
    for name, claims in kind.examples.items():
        if not kind.unsafe_triggers(claims):
            subject = read_subject(json.dumps({**claims, "iss": world.issuer_urls["ci"]}), name, world)
            safe[name] = loaded(write(subject, world), world)
    assert safe, stem
    return world, safe


def test_no_kind_is_left_out() -> None:
    attacked = {FIXTURES[stem]["kind"] for stem, _ in ATTACKS}
    # A generic issuer's examples are unsafe only under a map; GENERIC is one, and the attack on it is in ATTACKS.
    assert attacked == set(ISSUERS)
    assert {kind for kind, _ in UNSAFE} | {"generic"} == set(ISSUERS)
    assert len(ATTACKS) == sum(len(fixture["refused"]) for fixture in FIXTURES.values())


@pytest.mark.parametrize("name", ["generic-pull-request"])
def test_a_generic_issuers_unsafe_example_under_a_map(name: str) -> None:
    world, safe = kind_world("generic")
    kind = world.issuers["ci"]
    assert kind.unsafe_triggers(kind.examples[name])
    for policies in safe.values():
        assert isinstance(ask(policies, example_token("ci", kind, kind.examples[name])), Denied)


async def test_the_attacks_would_be_noticed() -> None:
    """A policy that allows every trigger and pins nothing lets some attack of each kind through."""
    through: set[str] = set()
    for stem, attack in ATTACKS:
        fixture = FIXTURES[stem]
        issuer = configured(fixture)
        text = f"""\
policy: payments
owners: [team@acme.example]
trust: [{{issuer: ci, claims: {{sub: {{regex: ".+"}}}}, allow_triggers: {json.dumps(sorted(issuer.kind.trigger_names))}}}]
grants: {{deploy: {{backend: token, ttl: 5m}}}}
examples: [{{name: somebody else, claims: {{sub: null, x: y}}, expect: refuse}}]
"""
        weak = World(
            issuers={"ci": issuer.kind}, issuer_urls={}, targets=None, guardrails=Guardrails(require_immutable_id=False)
        )
        if await outcome(stem, attack, loaded(text, weak)) == "allowed":
            through.add(fixture["kind"])
    assert through == set(ISSUERS)


# Examples that are safe by their triggers and still somebody else's: a policy for one is a policy for a stranger, which the linter says.
STRANGERS = {"circleci-fork", "kubernetes-other-account"}


@pytest.mark.parametrize("kind_name", ISSUERS)
def test_the_linter_has_nothing_to_say(kind_name: str) -> None:
    world, safe = kind_world(kind_name)
    texts = {name: policies.policies["payments"].text for name, policies in safe.items() if name not in STRANGERS}
    for stem, fixture in FIXTURES.items():
        if fixture["kind"] == kind_name and kind_name != "generic":
            texts |= {
                case["name"]: policies_for(stem, case["name"]).policies["payments"].text for case in fixture["allowed"]
            }
    for name, text in texts.items():
        checked = check_text(PolicyText("payments.yaml", "payments.yaml", text.encode()), world)
        assert list(lint_policy(checked, world)) == [], name


# ---- what is no model


@pytest.mark.parametrize(("kind_name", "unsafe"), UNSAFE)
def test_a_job_of_an_unsafe_trigger_is_no_model(kind_name: str, unsafe: str) -> None:
    world, _ = kind_world(kind_name)
    kind = world.issuers["ci"]
    subject = read_subject(json.dumps({**kind.examples[unsafe], "iss": world.issuer_urls["ci"]}), unsafe, world)
    with pytest.raises(NoModel, match="would be refused") as said:
        write(subject, world)
    assert subject.token.unsafe_triggers[0] in str(said.value)


def github(**changed: Any) -> tuple[Subject, World]:
    world = world_of(configured({"kind": "github", "settings": {}}))
    claims = {**ISSUERS["github"].examples["github-environment"], **changed, "iss": ISSUERS["github"].url}
    return read_subject(
        json.dumps({name: value for name, value in claims.items() if value is not ...}), "job", world
    ), world


def test_a_token_without_ids_is_no_model() -> None:
    world = world_of(configured(FIXTURES["buildkite"]))
    claims = {
        name: value
        for name, value in ISSUERS["buildkite"].examples["buildkite-branch"].items()
        if name not in ("pipeline_id", "organization_id")
    }
    subject = read_subject(json.dumps(claims | {"iss": ISSUERS["buildkite"].url}), "job", world)
    with pytest.raises(NoModel, match="no immutable id"):
        write(subject, world)


def test_a_token_without_a_ref_is_no_model_where_others_have_one() -> None:
    subject, world = github(ref="")
    with pytest.raises(NoModel, match="which branch or tag"):
        write(subject, world)


def test_an_unprotected_branch_gets_the_policy_it_should_have_and_is_told() -> None:
    subject, world = github(ref="refs/heads/faster-refunds", ref_protected="false")
    written = first_policy(
        subject, world, name="payments", owners=["team@acme.example"], grant="deploy", backend="token"
    )
    assert "ref_protected: true" in written.text
    assert any("not protected" in note for note in written.notes)
    policies = loaded(written.text, world)
    assert isinstance(ask(policies, subject.token), Denied)
    protected, _ = github(ref="refs/heads/faster-refunds")
    assert isinstance(ask(policies, protected.token), Allowed)


def test_a_release_tag_stands_for_every_release_and_no_branch() -> None:
    world = world_of(configured(FIXTURES["github-tag"]))
    kind = world.issuers["ci"]
    tag = kind.examples["github-tag"]
    policies = loaded(write(read_subject(json.dumps(tag | {"iss": kind.url}), "job", world), world), world)
    text = json.dumps(tag)
    for ref, expected in (
        ("refs/tags/v1.3.0", Allowed),
        ("refs/tags/v1/x", Denied),
        ("refs/heads/v1.3.0", Denied),
        ("refs/tags/x1", Denied),
    ):
        changed = json.loads(text.replace("refs/tags/v1.2.0", ref))
        assert isinstance(ask(policies, example_token("ci", kind, changed)), expected), ref


def test_an_environment_without_protection_is_no_condition() -> None:
    world = world_of(configured(FIXTURES["gitlab"]))
    claims = ISSUERS["gitlab"].examples["gitlab-environment"] | {
        "iss": ISSUERS["gitlab"].url,
        "environment_protected": "false",
    }
    written = first_policy(
        read_subject(json.dumps(claims), "job", world), world, name="p", owners=["a@b"], grant="g", backend="token"
    )
    assert "environment" not in written.text.partition("trust:")[2].partition("grants:")[0]
    assert any("environment production is not protected" in note for note in written.notes)


def test_run_specific_and_user_chosen_claims_are_left_out() -> None:
    subject, world = github()
    text = write(subject, world).partition("grants:")[0]
    for name in ("run_id", "sha", "actor", "attempt", "sub", "head_ref", "claims:"):
        assert f"{name}:" not in text.replace("claims: ", ""), name
    world = world_of(configured(FIXTURES["buildkite"]))
    good = FIXTURES["buildkite"]["allowed"][0]["claims"]
    assert (
        "workflow" not in write(read_subject(json.dumps(good), "job", world), world).partition("grants:")[0]
    )  # step_key


# ---- the grant


@pytest.mark.parametrize("backend", ["safe", "needy"])
def test_a_grant_loads_for_the_backend_with_what_its_model_needs(backend: str) -> None:
    subject, world = github()
    world = World(issuers=world.issuers, issuer_urls=world.issuer_urls, targets=TARGETS, guardrails=Guardrails())
    text = write(subject, world, backend=backend)
    assert set(loaded(text, world).grants) == {"payments/deploy"}
    assert ("public_key" in text) is (backend == "needy")


def test_every_real_backend_gets_placeholders_that_load() -> None:
    from broker.backends import BACKENDS
    from broker.policy import Target

    subject, world = github()
    targets = {
        name: Target(
            backend=name,
            kind=name,
            options=kind.Options,
            params=kind.Params,
            shortest=kind.shortest,
            longest=kind.longest,
        )
        for name, kind in BACKENDS.items()
    }
    world = World(issuers=world.issuers, issuer_urls=world.issuer_urls, targets=targets, guardrails=Guardrails())
    for name in BACKENDS:
        assert loaded(write(subject, world, backend=name), world).grants["payments/deploy"][1].options is not None


def test_an_unknown_backend_and_a_bad_name_are_the_askers_to_mend() -> None:
    subject, world = github()
    with_targets = World(issuers=world.issuers, issuer_urls=world.issuer_urls, targets=TARGETS, guardrails=Guardrails())
    with pytest.raises(ConfigError, match=r"no backend 'saef'.*did you mean 'safe'"):
        write(subject, with_targets, backend="saef")
    with pytest.raises(ConfigError, match="policy: String should match pattern"):
        write(subject, world, name="Not A Name")


HOSTILE = ('acme/"pay', "acme/pay: x", "acme/#pay", "yes", "acme/{{ job.ref }}", "acme/\u202epay", "acme/\x9b2J", "acme/pay'", "- x", "512", "~", "acme/\U0001f600")  # fmt: skip


@pytest.mark.parametrize("project", HOSTILE)
def test_whatever_a_claim_holds_the_file_says_it_and_nothing_else(project: str) -> None:
    subject, world = github(repository=project)
    text = write(subject, world)
    assert all(character.isprintable() or character == "\n" for character in text)
    policy = loaded(text, world).policies["payments"]
    assert {bound.condition.spec for bound in policy.statements[0].conditions if bound.key == "job.project"} == {
        project
    }
    assert isinstance(ask(loaded(text, world), subject.token), Allowed)
