"""An entry of `issuers:`: what a kind brings, what an operator may change, and what the error says to do."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from broker import documents
from broker.durations import parse, render
from broker.errors import ConfigError
from broker.issuers import ISSUERS
from broker.issuers.settings import IssuerSettings, trusted_issuer
from broker.issuers.trusted import TrustedIssuer

BROKER = "https://broker.acme.example"
URLS = {
    "azure-devops": "https://vstoken.dev.azure.com/a0a0a0a0-1111-4111-8111-a0a0a0a0a0a0",
    "bitbucket": "https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc",
    "circleci": "https://oidc.circleci.com/org/0b6f0000-aaaa-4aaa-8aaa-0000000000a1",
    "forgejo": "https://git.acme.example/api/actions",
    "jenkins": "https://jenkins.acme.example/oidc/job/release",
    "kubernetes": "https://oidc.eks.eu-central-1.amazonaws.com/id/0123456789ABCDEF",
    "semaphore": "https://acme.semaphoreci.com",
    "spacelift": "https://acme.app.spacelift.io",
}


def make(yaml: str, **how: Any) -> TrustedIssuer:
    """An issuer from text as an operator writes it."""
    document = documents.parse(yaml, "broker.yaml")
    return trusted_issuer("ci", documents.validated(IssuerSettings, document), **{"audience": BROKER, **how})


@pytest.mark.parametrize("name", [name for name in ISSUERS if name != "generic"])
def test_a_kind_brings_its_defaults(name: str) -> None:
    kind = ISSUERS[name]
    issuer = trusted_issuer("ci", IssuerSettings(kind=name, url=URLS.get(name)), audience=BROKER)
    assert issuer.url == URLS.get(name, kind.url)
    assert (issuer.max_age, issuer.max_lifetime, issuer.jti) == (kind.max_age, kind.max_lifetime, kind.jti)
    assert issuer.required >= kind.required
    expected = {
        "azure-devops": "api://AzureADTokenExchange",
        "spacelift": "acme.app.spacelift.io",
        "semaphore": URLS["semaphore"],
    }
    assert issuer.audiences == (expected.get(name, BROKER),)
    assert not issuer.allow_private


def test_the_files_own_example() -> None:
    issuer = make(
        "{kind: generic, url: 'http://127.0.0.1:9400', algorithms: [RS256, ES256], "
        "map: {project: claims.repo, project_id: claims.repo_id, ref: claims.ref}}"
    )
    assert issuer.algorithms == ("RS256", "ES256")
    job = issuer.kind.identity({"repo": "acme/payments", "repo_id": 7, "ref": "refs/tags/v1"})
    assert job.present() == {"project": "acme/payments", "project_id": "7", "ref": "refs/tags/v1", "ref_type": "tag"}


def test_what_an_operator_may_say() -> None:
    issuer = make(
        "{kind: kubernetes, url: 'https://10.0.0.1:6443', audience: [a, b, a], max_age: 5m, max_lifetime: 1h, leeway: 10s, "
        "jti: required, stale_limit: 1d, allow_private: true, algorithms: [ES256]}"
    )
    assert issuer.audiences == ("a", "b")
    assert (issuer.max_age, issuer.leeway, issuer.stale_limit) == (
        timedelta(minutes=5),
        timedelta(seconds=10),
        timedelta(days=1),
    )
    assert "jti" in issuer.required
    assert issuer.allow_private
    assert make("{kind: github, bound_audience: required}").bound_audience == "required"


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://localhost:9/x", "http://[::1]:9", "https://127.0.0.1"])
def test_a_practice_issuer_on_this_machine_plays_any_kind(url: str) -> None:
    assert make(f"{{kind: github, url: '{url}'}}").url == url


GITHUBS = [
    "https://token.actions.githubusercontent.com", "https://token.actions.githubusercontent.com/acme-corp",
    "https://token.actions.acme.ghe.com", "https://github.acme.example/_services/token", "https://ghes.example:8443/_services/token",
]  # fmt: skip


@pytest.mark.parametrize("url", GITHUBS)
def test_every_github(url: str) -> None:
    assert make(f"{{kind: github, url: '{url}'}}").url == url


@pytest.mark.parametrize(
    ("yaml", "says"),
    [
        ("{kind: githup}", "did you mean 'github'"),
        ("{kind: hal9000}", "known here: azure-devops"),
        ("{kind: kubernetes}", "no public instance"),
        ("{kind: github, url: 'https://github.com'}", "no issuer of kind github"),
        ("{kind: github, url: 'https://token.actions.githubusercontent.com.evil.example'}", "no issuer of kind github"),
        (
            "{kind: github, url: 'https://evil.example/https://token.actions.githubusercontent.com'}",
            "no issuer of kind github",
        ),
        ("{kind: github, url: 'https://token.actions.githubusercontent.com/'}", "no issuer of kind github"),
        ("{kind: gitlab, url: 'http://gitlab.acme.example'}", "use https"),
        ("{kind: gitlab, url: 'https://user:pw@gitlab.acme.example'}", "plain URL"),
        ("{kind: gitlab, url: 'https://gitlab.acme.example?x=1'}", "plain URL"),
        ("{kind: gitlab, url: 'https://gitlab.acme.example/#x'}", "plain URL"),
        ("{kind: gitlab, url: 'https://gitlab.acme.example/a/../b'}", "plain URL"),
        ("{kind: gitlab, url: 'https://gitlab acme'}", "plain URL"),
        ("{kind: gitlab, url: ''}", "plain URL"),
        ("{kind: gitlab, url: 'https://'}", "plain URL"),
        ("{kind: gitlab, url: 'https://[::1'}", "host or port"),
        ("{kind: gitlab, url: 'https://x.example:99999'}", "host or port"),
        ("{kind: gitlab, url: 'https://x.example:0'}", "host or port"),
        ("{kind: github, algorithms: [HS256]}", "'HS256' is not accepted"),
        ("{kind: github, algorithms: [none]}", "'none' is not accepted"),
        ("{kind: github, algorithms: []}", "at least 1"),
        ("{kind: gitlab, bound_audience: required}", "cannot choose its audience"),
        ("{kind: github, jti: optional}", "in every token"),
        ("{kind: github, map: {project: claims.x}}", "leave map out"),
        ("{kind: generic, url: 'https://x.example'}", "needs one"),
        ("{kind: generic, url: 'https://x.example', map: {projct: claims.x}}", "did you mean 'project'"),
        ("{kind: generic, url: 'https://x.example', map: {ref: claims.x}}", "`project` or `project_id`"),
        ("{kind: generic, url: 'https://x.example', map: {project: repo}}", "map.project: 'repo' is not the path"),
        ("{kind: github, leeway: 6m}", "at most 5m"),
        ("{kind: github, max_age: 3d}", "at most 2d"),
        ("{kind: github, stale_limit: 8d}", "at most 7d"),
        ("{kind: github, audience: []}", "at least one"),
        ("{kind: github, audience: ''}", "printable"),
        ("{kind: github, audience: 'a b'}", "printable"),
        ("{kind: github, audience: 'https://x#S256.y'}", "printable"),
        ("{kind: github, max_age: 0s}", "whole number"),
        ("{kind: github, max_age: 90}", "with a unit"),
        ("{kind: github, max_age: 1.5h}", "whole number"),
        ("{kind: github, allow_private: 'yes'}", "boolean"),
        ("{kind: github, jti: maybe}", "'required' or 'optional'"),
        ("{kind: github, audiences: x}", "did you mean 'audience'"),
    ],
)
def test_mistakes_say_what_to_do(yaml: str, says: str) -> None:
    with pytest.raises((ValueError, ConfigError)) as caught:
        make(yaml)
    assert says in str(caught.value)


@pytest.mark.parametrize("name", ["", "GitHub", "a b", "1st", "-x", "x" * 64, "a\n"])
def test_names(name: str) -> None:
    with pytest.raises(ValueError, match="lower-case"):
        trusted_issuer(name, IssuerSettings(kind="github"), audience=BROKER)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("1s", timedelta(seconds=1)),
        ("15m", timedelta(minutes=15)),
        ("6h", timedelta(hours=6)),
        ("3650d", timedelta(days=3650)),
    ],
)
def test_durations(text: str, length: timedelta) -> None:
    assert parse(text) == length
    assert parse(render(length)) == length


@pytest.mark.parametrize(
    "text", ["0s", "-1m", "1.5h", "15", "m", "", "1h30m", " 1h", "1h\n", "1H", "٣s", "1w", "3651d", "9" * 30 + "s"]
)
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="length of time"):
        parse(text)


def test_settings_are_strict_and_frozen() -> None:
    settings = IssuerSettings(kind="github")
    with pytest.raises(ValidationError):
        settings.kind = "gitlab"
    assert "^[1-9]" in str(IssuerSettings.model_json_schema()["properties"]["max_age"])
