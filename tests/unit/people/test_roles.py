"""Claims to a person: roles, and the names by which policies call them an owner."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from broker.model import JobIdentity, VerifiedToken
from broker.people.roles import Nobody, Person, canonical
from tests.unit.people.parts import checked

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
DANA = {"sub": "17", "email": "dana@acme.example", "email_verified": True}
ROLES = """
owners: [email, {claim: groups, domain: acme.example}, teams]
roles:
  auditor: {groups: {contains: sec-audit}}
  responder: [{groups: {contains: on-call}, mfa: true}, {email: rita@acme.example}]
  platform: {email: [pat@acme.example, paul@acme.example]}
"""


def person(text: str = ROLES, /, **claims: Any) -> Person:
    token = VerifiedToken(
        issuer="people", kind="person", claims={**DANA, **claims}, job=JobIdentity(), unsafe_triggers=(),
        token_key=b"k" * 32, issued_at=NOON, expires_at=NOON + timedelta(hours=1),
    )  # fmt: skip
    return checked(text).person(token)


@pytest.mark.parametrize(
    ("claims", "roles"),
    [
        pytest.param({}, set(), id="nobody in particular"),
        pytest.param({"groups": ["sec-audit"]}, {"auditor"}, id="a group"),
        pytest.param({"groups": "sec-audit"}, set(), id="text is no list"),
        pytest.param({"groups": ["sec-audits"]}, set(), id="a longer group"),
        pytest.param({"groups": [["sec-audit"]]}, set(), id="a list in a list"),
        pytest.param({"groups": ["on-call"]}, set(), id="half of a role"),
        pytest.param({"groups": ["on-call"], "mfa": True}, {"responder"}, id="all of a role"),
        pytest.param({"groups": ["on-call"], "mfa": "true"}, set(), id="text is no truth"),
        pytest.param({"email": "rita@acme.example"}, {"responder"}, id="the other way to a role"),
        pytest.param({"email": "pat@acme.example"}, {"platform"}, id="any of"),
        pytest.param({"groups": ["sec-audit", "on-call"], "mfa": True}, {"auditor", "responder"}, id="two roles"),
    ],
)
def test_roles(claims: dict[str, Any], roles: set[str]) -> None:
    assert person(**claims).roles == roles


@pytest.mark.parametrize("verified", [None, False, "false", "True", 1, "yes", [], {}])
def test_an_address_that_nobody_verified_is_nobodys(verified: Any) -> None:
    """Anyone can type pat's address into a profile."""
    with pytest.raises(Nobody, match="email_verified"):
        person(email="pat@acme.example", email_verified=verified)
    claims = {"email": "pat@acme.example", "email_verified": verified}
    other = person(ROLES + "subject: sub", **claims)
    assert (other.name, other.roles, other.names) == ("17", set(), set())


@pytest.mark.parametrize(
    ("claims", "owner", "owns"),
    [
        pytest.param({}, "dana@acme.example", True, id="the address"),
        pytest.param({}, "dana@ACME.Example", True, id="the domain's case"),
        pytest.param({"email": "dana@Acme.Example"}, "dana@acme.example", True, id="the domain's case in the token"),
        pytest.param({}, "Dana@acme.example", False, id="the local part's case"),
        pytest.param({}, "dana@acme.example.evil.example", False, id="a longer domain"),
        pytest.param({}, "evil-dana@acme.example", False, id="a longer name"),
        pytest.param({"groups": ["payments"]}, "payments@acme.example", True, id="a team's address"),
        pytest.param({"groups": ["payments"]}, "payments", False, id="a claim with a domain gives addresses only"),
        pytest.param({"groups": ["payments@acme.example"]}, "payments@acme.example", False, id="a group named an address"),
        pytest.param({"groups": ["x@evil.example"]}, "x@evil.example", False, id="another domain"),
        pytest.param({"teams": ["payments", 7, None, ""]}, "payments", True, id="a team's name"),
        pytest.param({"teams": "payments"}, "payments", True, id="a single one"),
        pytest.param({"teams": {"payments": True}}, "payments", False, id="an object"),
        pytest.param({"teams": ["pay\nments"]}, "pay\nments", False, id="a control character"),
        pytest.param({"email": "dana@\u212acme.example"}, "dana@kcme.example", False, id="a Kelvin sign"),
    ],
)  # fmt: skip
def test_owners(claims: dict[str, Any], owner: str, owns: bool) -> None:
    assert person(**claims).owns([owner, "somebody@else.example"]) is owns


@pytest.mark.parametrize("value", ["", None, 7, ["dana"], " ", "a\nb", "x" * 300, "\u202edana"])
def test_a_name_is_one_line_of_text(value: Any) -> None:
    with pytest.raises(Nobody):
        person("subject: upn", upn=value)
    assert person("subject: upn", upn="dana").name == "dana"


def test_names_that_differ_stay_apart() -> None:
    names = ["dana", "Dana", "dana@acme.example", "Dana@acme.example", "dana@", "@acme.example", "a@b@c"]
    assert len({canonical(name) for name in names}) == len(names)
    assert canonical("a@B@C.Example") == "a@B@c.example"


def test_a_thousand_groups_are_read_and_no_more() -> None:
    assert len(person(teams=[f"t{number}" for number in range(5000)]).names) == 1001
