"""What the broker's own tokens say, and what nobody can make them say."""

import base64
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from broker.backends.identity_token import RESERVED, IdentityToken, default_subject, jwks, sign_identity
from broker.backends.seam import BackendError
from broker.keys.files import FileKeyStore
from broker.model import JobIdentity
from tests.contract.rigs.base import JOB, remember, surroundings
from tests.contract.rigs.identity_token import IdentityTokenRig

URL = "https://broker.acme.example"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> FileKeyStore:
    return FileKeyStore(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def rig(keys: FileKeyStore) -> IdentityTokenRig:
    return IdentityTokenRig({"identity-token": IdentityToken}, surroundings(keys, URL))


def read(keys: FileKeyStore, token: str, audience: str = "https://deploy.acme.example") -> dict[str, Any]:
    keyset = jwt.PyJWKSet.from_dict(jwks(keys))
    key = keyset[jwt.get_unverified_header(token)["kid"]]
    claims: dict[str, Any] = jwt.decode(token, key, algorithms=["ES256"], audience=audience, issuer=URL)
    return claims


async def test_the_claims_are_these_and_no_others(rig: IdentityTokenRig, keys: FileKeyStore) -> None:
    order = rig.order()
    minted = await rig.mint(order)
    now = int(order.now.timestamp())
    assert read(keys, minted.values["token"]) == {
        "iss": URL,
        "sub": "grant:payments/deploy:project:acme/payments",
        "aud": "https://deploy.acme.example",
        "iat": now,
        "nbf": now,
        "exp": now + 300,
        "jti": order.lease,
        "tier": "prod",
        "jobkey": {"issuance": order.issuance, "grant": "payments/deploy", "issuer": "github"},
        **JOB.present(),
    }
    assert jwt.get_unverified_header(minted.values["token"]) == {
        "alg": "ES256", "kid": keys.public("identity")[0].kid, "typ": "JWT",
    }  # fmt: skip
    assert minted.env == {"JOBKEY_IDENTITY_TOKEN": minted.values["token"]}


async def test_several_audiences_and_a_variable_of_ones_own(rig: IdentityTokenRig, keys: FileKeyStore) -> None:
    minted = await rig.mint(rig.order(options={"audience": ["a", "b"], "env": "DEPLOY_TOKEN", "subject": "deployer"}))
    assert read(keys, minted.values["token"], "b")["sub"] == "deployer"
    assert read(keys, minted.values["token"], "a")["aud"] == ["a", "b"]
    assert set(minted.env) == {"DEPLOY_TOKEN"}


@pytest.mark.parametrize("audience", [URL, URL + "/", URL + "/v1/credentials", URL + "#S256.x", ["ok", URL]])
async def test_no_token_is_addressed_to_the_broker_itself(rig: IdentityTokenRig, audience: Any) -> None:
    with pytest.raises(BackendError, match="the broker itself") as refused:
        await rig.mint(rig.order(options={"audience": audience}))
    assert not refused.value.retry


async def test_another_host_that_begins_alike_is_another_host(rig: IdentityTokenRig) -> None:
    assert (await rig.mint(rig.order(options={"audience": URL + ".uk"}))).expires_at


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_no_policy_overwrites_a_claim_of_the_brokers(rig: IdentityTokenRig, name: str) -> None:
    with pytest.raises(ValidationError, match="set by the broker itself"):
        rig.order(options={"claims": {name: "x"}})


@pytest.mark.parametrize("project", ["a" * 300, "pr\u043eject", "two\nlines", "with\0nul"])
async def test_a_subject_outside_openid_connect_is_refused(rig: IdentityTokenRig, project: str) -> None:
    with pytest.raises(BackendError, match="set `subject`"):
        await rig.mint(rig.order(job=JobIdentity(project=project)))


def test_a_project_cannot_pretend_to_be_another_grant() -> None:
    evil = default_subject("web/preview", JobIdentity(project="x:grant:payments/deploy:project:acme/payments"))
    assert evil.startswith("grant:web/preview:project:")
    assert default_subject("web/preview", JobIdentity()) == "grant:web/preview"


@pytest.mark.parametrize(
    "subject",
    [
        "grant:other/deploy",
        "grant:other/deploy:project:acme/payments",
        "grant:",
        "Grant:other/deploy",
        "grant:{{ job.run_id }}",
        "{{ job.owner }}:other/deploy",
        "{{ job.owner }}{{ job.ref }}:x",
        "gr{{ job.ref }}:x",
        "{{ job.ref }}nt:x",
        "g{{ job.ref }}a{{ job.ref }}t:x",
    ],
)
def test_no_policy_signs_with_the_name_of_another_grant(rig: IdentityTokenRig, subject: str) -> None:
    with pytest.raises(ValidationError, match="only the broker says that"):
        rig.order(options={"subject": subject})


@pytest.mark.parametrize(
    "subject",
    ["grant", "grants:x", "a-grant:x", "deploy:grant:x", "repo:{{ job.project }}", "{{ job.ref }}", "x{{ job.ref }}:y", "a:" + "{{ job.ref }}" * 150],
)  # fmt: skip
def test_other_subjects_are_ones_own(rig: IdentityTokenRig, subject: str) -> None:
    assert rig.order(options={"subject": subject}).options.subject == subject


def test_a_subject_of_many_templates_is_judged_at_once(rig: IdentityTokenRig) -> None:
    began = time.process_time()
    with pytest.raises(ValidationError):
        rig.order(options={"subject": "{{ job.ref }}" * 150 + ":x"})
    rig.order(options={"subject": "{{ job.ref }}-" * 140 + ":x"})
    assert time.process_time() - began < 1


async def test_a_rotated_key_still_verifies_what_it_signed(tmp_path: Path) -> None:
    keys = FileKeyStore(tmp_path / "keys")
    rig = IdentityTokenRig({"identity-token": IdentityToken}, surroundings(keys, URL))
    old = (await rig.mint()).values["token"]
    kid = keys.rotate("identity").kid
    new = (await rig.mint()).values["token"]
    assert jwt.get_unverified_header(new)["kid"] == kid != jwt.get_unverified_header(old)["kid"]
    assert read(keys, old)["iss"] == read(keys, new)["iss"] == URL
    assert jwks(keys)["keys"][0]["kid"] == kid


def test_the_key_set_holds_public_members_only(keys: FileKeyStore) -> None:
    (member,) = jwks(keys)["keys"]
    assert set(member) == {"kty", "crv", "x", "y", "kid", "alg", "use"}
    assert (member["alg"], member["use"]) == ("ES256", "sig")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=20), json_values, max_size=6))
def test_claims_of_any_text_come_out_as_they_went_in(keys: FileKeyStore, claims: dict[str, Any]) -> None:
    now = datetime.now(UTC)
    token = sign_identity(
        keys, URL, subject="s", audience="a", ttl=timedelta(minutes=1), claims=claims, now=now, jti="lse_1"
    )
    found = read(keys, token, "a")
    own = {"iss": URL, "sub": "s", "aud": "a", "jti": "lse_1"}
    assert own.items() <= found.items()
    assert {name: found[name] for name in claims if name not in {*own, "iat", "nbf", "exp"}} == {
        name: value for name, value in claims.items() if name not in {*own, "iat", "nbf", "exp"}
    }
    assert all("=" not in part for part in token.split("."))
    json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))


async def test_a_ttl_of_a_fraction_never_lengthens(rig: IdentityTokenRig) -> None:
    order = rig.order(ttl=timedelta(seconds=30, milliseconds=999))
    minted = await rig.backend.mint(order, remember)
    assert minted.expires_at <= order.expires_at
