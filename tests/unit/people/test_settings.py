"""`people:` loads where it says something safe, and says what is wrong and where."""

import pytest

from broker.errors import ConfigError
from tests.unit.people.parts import checked


def test_what_is_left_out_is_the_safe_choice() -> None:
    made = checked()
    assert made.issuer.audiences == ("jobkey",)
    assert made.issuer.algorithms == ("RS256",)
    assert made.issuer.types == ("jwt",)
    assert made.issuer.max_age.total_seconds() == 3600
    assert (made.subject, made.scopes, made.roles) == ("email", ("openid", "email", "profile"), {})
    assert not made.issuer.allow_private


def test_access_tokens_are_told_by_audience_and_type() -> None:
    made = checked("{token: access_token, audience: https://broker.acme.example, scopes: [jobkey]}")
    assert (made.issuer.audiences, made.issuer.types) == (("https://broker.acme.example",), ("at+jwt",))
    assert made.access_tokens


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("{issuer: http://login.acme.example}", "use https", id="plain http"),
        pytest.param("{issuer: https://u@login.acme.example}", "plain URL", id="a user name"),
        pytest.param("{algorithms: [HS256]}", "HS256", id="a shared secret"),
        pytest.param("{algorithms: [none]}", "none", id="no signature"),
        pytest.param("{max_age: 25h}", "24h", id="last week's token"),
        pytest.param("{audience: other}", "made for client_id", id="an ID token for another"),
        pytest.param("{scopes: [email]}", "openid", id="no ID token would come"),
        pytest.param("{token: access_token}", "audience", id="an access token for anybody"),
        pytest.param("{token: access_token, audience: jobkey}", "another one", id="ID tokens would pass"),
        pytest.param("{roles: {auditor: {}}}", "at least 1", id="a role without a condition"),
        pytest.param("{roles: {auditor: []}}", "at least 1", id="a role without an alternative"),
        pytest.param("{roles: {platform: {contractor: {absent: true}}}}", "everybody", id="a role for everybody"),
        pytest.param("{roles: {platform: [{a: b}, {c: {absent: true}}]}}", "everybody", id="an alternative for everybody"),
        pytest.param("{roles: {auditor: {groups: {contain: x}}}}", "contains", id="a condition misspelt"),
        pytest.param("{roles: {auditr: {groups: {contains: x}}}}", "auditor", id="a role misspelt"),
        pytest.param("{roles: {auditor: {/a~2: x}}}", "pointer", id="a broken pointer"),
        pytest.param("{owners: []}", "at least 1", id="nobody could be an owner"),
        pytest.param("{owners: [{claim: groups, domain: acme}]}", "domain", id="no domain"),
        pytest.param("{subject: '/a~2'}", "pointer", id="a subject that is no claim"),
        pytest.param("{password: x}", "unknown key", id="a password"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        checked(text)
    assert told in str(error.value)
    assert str(error.value).startswith("people.yaml:")


def test_an_issuer_of_jobs_never_signs_people_in() -> None:
    """A job names its own audience: it could have a token made that looks like a person's."""
    with pytest.raises(ConfigError, match="gitlab"):
        checked("{issuer: https://gitlab.com}", jobs={"https://gitlab.com": "gitlab"})
    checked("{issuer: https://login.acme.example}", jobs={"https://gitlab.com": "gitlab"})


def test_the_broker_itself_never_signs_people_in(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """A policy chooses the claims of an identity token, `email` and `groups` too."""
    from broker.settings import load_settings

    file = tmp_path / "broker.yaml"
    for url in ("https://broker.acme.example", "https://broker.acme.example/"):
        file.write_text(f"""
url: https://broker.acme.example
behind_proxy: true
issuers: {{ci: {{kind: github}}}}
backends: {{token: {{kind: identity-token}}}}
people: {{issuer: "{url}", client_id: jobkey}}
""")
        with pytest.raises(ConfigError, match=r"people.issuer: this is the broker itself"):
            load_settings(file)


def test_broker_yaml_holds_the_two_apart(tmp_path) -> None:  # type: ignore[no-untyped-def]
    from broker.settings import load_settings

    written = """
url: http://127.0.0.1:8400
issuers: {ci: {kind: gitlab, audience: shared}}
backends: {token: {kind: identity-token}}
people: {issuer: "https://gitlab.com", client_id: shared}
"""
    file = tmp_path / "broker.yaml"
    file.write_text(written)
    with pytest.raises(ConfigError, match=r"broker.yaml:5:\d+: people.issuer: .*'ci' under issuers"):
        load_settings(file)
    file.write_text(written.replace('"https://gitlab.com"', '"https://login.acme.example"'))
    people = load_settings(file).people
    assert people is not None
    assert people.issuer.url == "https://login.acme.example"
