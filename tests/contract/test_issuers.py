"""Every issuer kind against its fixtures: what a good policy takes, and what the same policy must refuse, and why.

A fixture (tests/contract/claims/*.json) holds one policy as conditions on a job's words, tokens it takes with the exact words
expected, and attacks: each is one of the good tokens with the claims that the attack changes. `denied_by` is complete: every
thing that stops the attack, and nothing else, as `job.<field>`, `trigger.<name>` or `token.<why the verifier rejects it>`.
Times in fixtures are seconds from now.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest

from broker.errors import SubjectTokenRejected
from broker.issuers import ISSUERS, IssuerKind, Trust, example
from broker.issuers.seam import STANDARD
from broker.issuers.settings import IssuerSettings, trusted_issuer
from broker.issuers.words import text
from broker.model import JOB_FIELDS, JobIdentity
from broker.tokens import TokenVerifier
from broker.tokens.fetching import Fetched
from broker.tokens.keyset import parse
from tests.fakes.issuer import SigningKey, make_private_key

BROKER = "https://broker.acme.example"
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
KEY = SigningKey("RS256", "key-1", make_private_key("RS256"))
FIXTURES = {
    path.stem: json.loads(path.read_text()) for path in sorted(Path(__file__).with_name("claims").glob("*.json"))
}
TIMES = ("iat", "nbf", "exp")


class Why:
    """An observer that remembers why a token was rejected, and which claims nobody knew."""

    def __init__(self) -> None:
        self.why: str | None = None
        self.strange: list[str] = []

    def token_verified(self, issuer: str) -> None: ...

    def token_rejected(self, issuer: str | None, why: str) -> None:
        self.why = why

    def unknown_claims(self, kind: str, names: Any) -> None:
        self.strange.extend(names)

    def keys_fetched(self, issuer: str, *, ok: bool) -> None: ...


async def check_allowed(fixture: Mapping[str, Any], case: Mapping[str, Any], kinds: Mapping[str, IssuerKind]) -> None:
    """A good token becomes exactly the words expected, and the fixture's policy takes them."""
    observer = Why()
    job, denied = await judge(fixture, case["claims"], kinds, observer)
    assert denied == []
    assert job is not None
    assert job.present() == case["job"]
    assert observer.strange == [], "claims that stand in no trust class of the kind"


async def check_refused(fixture: Mapping[str, Any], case: Mapping[str, Any], kinds: Mapping[str, IssuerKind]) -> None:
    """An attack is stopped by what the fixture says, all of it and nothing else."""
    good = next(allowed["claims"] for allowed in fixture["allowed"] if allowed["name"] == case["from"])
    claims = {**good, **case["changes"]}
    for name in case.get("without", ()):
        del claims[name]
    observer = Why()
    _, denied = await judge(fixture, claims, kinds, observer)
    assert sorted(denied) == sorted(case["denied_by"])
    assert denied, "an attack that nothing denies"
    assert observer.strange == []


async def judge(
    fixture: Mapping[str, Any], claims: Mapping[str, Any], kinds: Mapping[str, IssuerKind], observer: Why
) -> tuple[JobIdentity | None, list[str]]:
    """Sign the claims, verify them as the fixture's issuer would be, and compare with its policy."""
    settings = IssuerSettings(kind=fixture["kind"], **fixture["settings"])
    issuer = trusted_issuer("ci", settings, audience=BROKER, kinds=kinds)
    verifier = TokenVerifier([issuer], observer=observer, clock=lambda: 0.0)
    keys = verifier.keys["ci"]
    keys._fetched, keys._refresh_at, keys._fresh_until = (
        Fetched(parse({"keys": [KEY.jwk()]}, ["RS256"]), None),
        1e9,
        1e9,
    )
    shifted = {name: value + int(NOW.timestamp()) if name in TIMES else value for name, value in claims.items()}
    token = jwt.encode(shifted, KEY.private, algorithm="RS256", headers={"kid": KEY.kid})
    try:
        verified = await verifier.verify(token, now=NOW)
    except SubjectTokenRejected:
        return None, [f"token.{observer.why}"]
    words = verified.job.present()
    denied = [f"job.{word}" for word, wanted in fixture["policy"].items() if words.get(word) != wanted]
    return verified.job, denied + [f"trigger.{name}" for name in verified.unsafe_triggers]


def check_kind(name: str, kind: IssuerKind) -> None:
    """What every kind promises, whatever its CI."""
    assert kind.name == name
    assert kind.title
    assert STANDARD.keys() <= kind.claims.keys()
    assert all(isinstance(trust, Trust) for trust in kind.claims.values())
    assert all(kind.trust(claim) is not None for claim in kind.required), "a required claim nobody classed"
    assert set(kind.immutable) <= set(JOB_FIELDS)
    assert timedelta() < kind.max_age <= timedelta(hours=1)
    assert kind.max_age <= kind.max_lifetime <= timedelta(hours=24)
    assert kind.longest_job <= timedelta(hours=24)
    assert kind.fixed_audience is None or not kind.chooses_audience
    assert all(attack for attack in kind.trigger_names.values())
    assert kind.examples, "policies need examples to be proved with"
    for name_, claims in kind.examples.items():
        assert name_.startswith(kind.name + "-")
        assert claims.keys().isdisjoint({"iss", "aud", *TIMES}), "whoever uses the example adds these"
        assert all(kind.trust(claim) is not None for claim in claims)
        assert all(claims.get(claim) not in (None, "") for claim in kind.required)
        assert set(kind.unsafe_triggers(claims)) <= kind.trigger_names.keys()
    assert any(not kind.unsafe_triggers(claims) for claims in kind.examples.values()), "no safe example"
    nothing = kind.identity({})
    assert nothing.present() == {}, "a word out of nothing"
    for value in ("", None, [], {}, ["x"], {"x": "y"}, 1.5):  # what is empty or of another type says nothing
        strange = kind.identity(dict.fromkeys((*kind.claims, "sub"), value))
        assert strange.present() == {}, value


@pytest.mark.parametrize("name", ISSUERS)
def test_every_kind_keeps_its_promises(name: str) -> None:
    check_kind(name, ISSUERS[name])


@pytest.mark.parametrize("name", ISSUERS)
def test_every_kind_has_fixtures_with_attacks(name: str) -> None:
    assert any(fixture["kind"] == name and fixture["allowed"] and fixture["refused"] for fixture in FIXTURES.values())


@pytest.mark.parametrize("name", ISSUERS)
def test_every_unsafe_trigger_has_an_attack_or_an_example(name: str) -> None:
    kind = ISSUERS[name]
    shown = {
        denied.removeprefix("trigger.")
        for fixture in FIXTURES.values()
        if fixture["kind"] == name
        for case in fixture["refused"]
        for denied in case["denied_by"]
        if denied.startswith("trigger.")
    } | {trigger for claims in kind.examples.values() for trigger in kind.unsafe_triggers(claims)}
    assert shown <= kind.trigger_names.keys()
    assert shown, "no unsafe trigger is ever shown"


def test_example_names_are_unique() -> None:
    names = [name for kind in ISSUERS.values() for name in kind.examples]
    assert len(names) == len(set(names))
    assert {"github-environment", "github-pull-request"} <= set(names)
    assert example("github-environment")[0] is ISSUERS["github"]
    with pytest.raises(KeyError):
        example("github-nothing")


CASES = [
    (stem, kind, case["name"])
    for stem, fixture in FIXTURES.items()
    for kind in ("allowed", "refused")
    for case in fixture[kind]
]


@pytest.mark.parametrize(("stem", "outcome", "name"), CASES, ids=[f"{stem}: {name}" for stem, _, name in CASES])
async def test_fixtures(stem: str, outcome: str, name: str) -> None:
    fixture = FIXTURES[stem]
    case = next(case for case in fixture[outcome] if case["name"] == name)
    await (check_allowed if outcome == "allowed" else check_refused)(fixture, case, ISSUERS)


async def test_a_new_kind_is_one_file_and_one_line() -> None:
    toy = IssuerKind(  # the file
        name="toy",
        title="Toy CI",
        url="https://toy.example",
        accepts=r"https://toy\.example",
        required=frozenset({"sub", "repo_id"}),
        claims={**STANDARD, "sub": Trust.NAME, "repo_id": Trust.ID, "from_fork": Trust.FACT},
        identity=lambda claims: JobIdentity(project_id=text(claims, "repo_id")),
        unsafe_triggers=lambda claims: ("fork",) if claims.get("from_fork") is True else (),
        trigger_names={"fork": "somebody else's code"},
        immutable=("project_id",),
        examples={"toy-main": {"sub": "1", "repo_id": "7"}},
    )
    kinds = {**ISSUERS, "toy": toy}  # the line
    check_kind("toy", toy)
    good = {
        "iss": "https://toy.example",
        "sub": "1",
        "aud": BROKER,
        "iat": -1,
        "exp": 60,
        "repo_id": "7",
        "from_fork": False,
    }
    fixture = {
        "kind": "toy",
        "settings": {},
        "policy": {"project_id": "7"},
        "allowed": [{"name": "main", "claims": good, "job": {"project_id": "7"}}],
        "refused": [
            {"name": "fork", "from": "main", "changes": {"from_fork": True}, "denied_by": ["trigger.fork"]},
            {"name": "other", "from": "main", "changes": {"repo_id": "8"}, "denied_by": ["job.project_id"]},
        ],
    }
    await check_allowed(fixture, fixture["allowed"][0], kinds)
    for case in fixture["refused"]:
        await check_refused(fixture, case, kinds)
    wrong = {**fixture["refused"][0], "changes": {}}  # the contract notices an attack that nothing stops
    with pytest.raises(AssertionError):
        await check_refused(fixture, wrong, kinds)
