"""A refused caller's bytes are the same whatever the policies say: two brokers, two policy sets, every way to be refused.

Raw bytes off the socket, with the date and the case number put aside. What the caller may not see, the case shows to an owner.
"""

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from typer.testing import CliRunner

from broker.cli.main import app
from tests.e2e.broker_process import JOB, BrokerProcess
from tests.e2e.issuer_process import IssuerProcess

pytestmark = [pytest.mark.server, pytest.mark.slow]

AUDIENCE = "shared-audience"
CASE = re.compile(rb"case_[0-7][0-9A-HJKMNP-TV-Z]{25}")
DATE = re.compile(rb"\r\nDate: [^\r]+")
SECRETS = ("hidden", "payments-secret")  # they stand in policies only
OTHER = """\
policy: unrelated
owners: [somebody@acme.example]
trust:
  - {issuer: ci, job: {project_id: "999", ref: refs/heads/hidden-9}}
grants:
  deploy: {backend: token, ttl: 5m, with: {audience: "https://hidden.acme.example"}}
examples:
  - {name: no, claims: {$like: github-branch, repository_id: "999"}, expect: refuse}
"""
NEAR = """\
policy: near
owners: [near@acme.example]
trust:
  - issuer: ci
    job: {project_id: "512345678", ref: refs/heads/hidden-1, environment: hidden-environment}
  - issuer: ci
    job: {project_id: "512345678", ref: {regex: "refs/tags/hidden-[0-9]+"}}
    when: claims.run_attempt == "payments-secret"
grants:
  deploy: {backend: token, ttl: 5m, with: {audience: "https://hidden.acme.example"}}
examples:
  - {name: no, claims: {$like: github-branch, repository_id: "512345678"}, expect: refuse}
"""
OPEN = """\
policy: {name}
owners: [{name}@acme.example]
mode: {mode}
trust:
  - {{issuer: ci, job: {{project_id: "512345678"}}}}
grants:
  deploy: {grant}
examples:
  - {{name: no, claims: {{$like: github-branch, repository_id: "1"}}, expect: refuse}}
"""
TOKEN = '{backend: token, ttl: 5m, with: {audience: "https://hidden.acme.example"}}'
TEMPLATE = '{backend: ssh, ttl: 5m, with: {principals: ["{{ job.environment }}"]}}'
PARAMS = '{backend: ssh, ttl: 5m, with: {principals: [hidden]}, params: {public_key: {glob: "ssh-rsa hidden*"}}}'
GUARDRAILS = "triggers_never_allowed: [pull_request_target]\n"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPuOjt9gVyJ8rV4UbnQ9uVLmTt8P8f3mRe2SLPbv9m9T job"
WITH_KEY = {"params": {"public_key": KEY}}

# name -> (claims changed, grant, more of the grant, the first miss that the case names under the first set)
SHAPES: dict[str, tuple[dict[str, Any], str, dict[str, Any], str | None]] = {
    "a near miss": ({}, "near/deploy", {}, "job.ref"),
    "a nearer miss": ({"ref": "refs/heads/hidden-1"}, "near/deploy", {}, "job.environment"),
    "CEL says no": ({"ref": "refs/tags/hidden-7"}, "near/deploy", {}, "when"),
    "a grant that the policy has not": ({}, "near/deplyo", {}, "grant"),
    "a grant of no policy": ({}, "nobody/deploy", {}, None),
    "a stranger": ({"repository_id": "5", "repository": "evil/x", "repository_owner_id": "6"}, "near/deploy", {}, None),
    "another team's grant": ({}, "unrelated/deploy", {}, "job.project_id"),
    "on trial": ({}, "trial/deploy", {}, "mode"),
    "an unsafe trigger": ({"event_name": "issue_comment"}, "open/deploy", {}, "allow_triggers"),
    "a trigger that is never allowed": ({"event_name": "pull_request_target"}, "open/deploy", {}, "guardrails"),
    "a template that nothing fills": ({"environment": None}, "template/deploy", WITH_KEY, "with"),
    "what the job sends is not granted": ({}, "params/deploy", WITH_KEY, "params.public_key"),
    "one of two": ({}, "open/deploy near/deploy", {}, "job.ref"),
}


def broker_with(folder: Any, ci: IssuerProcess, policies: dict[str, str], guardrails: str) -> BrokerProcess:
    folder.mkdir()
    (folder / "guardrails.yaml").write_text(guardrails)
    made = BrokerProcess(
        folder, issuer=ci.url, issuer_options={"audience": AUDIENCE}, more={"guardrails": "./guardrails.yaml"}
    )
    made.policy.unlink()
    for name, text in policies.items():
        (folder / "policies" / f"{name}.yaml").write_text(text)
    return made


@pytest.fixture(scope="module")
def brokers(
    ci: IssuerProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[BrokerProcess, BrokerProcess]]:
    base = tmp_path_factory.mktemp("sets")
    many = {
        "unrelated": OTHER,
        "near": NEAR,
        "open": OPEN.format(name="open", mode="enforce", grant=TOKEN),
        "trial": OPEN.format(name="trial", mode="observe", grant=TOKEN),
        "template": OPEN.format(name="template", mode="enforce", grant=TEMPLATE),
        "params": OPEN.format(name="params", mode="enforce", grant=PARAMS),
    }
    with (
        broker_with(base / "many", ci, many, GUARDRAILS) as first,
        broker_with(base / "few", ci, {"unrelated": OTHER}, "require_immutable_id: true\n") as second,
    ):
        yield first, second


async def raw(broker: BrokerProcess, head: list[str], body: bytes) -> bytes:
    """The whole answer, as it came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
    lines = [*head, "Host: broker.acme.example", f"Content-Length: {len(body)}", "Connection: close", "", ""]
    writer.write("\r\n".join(lines).encode() + body)
    await writer.drain()
    answer = await reader.read()
    writer.close()
    return answer


async def exchange(broker: BrokerProcess, token: str, grant: str, more: dict[str, Any]) -> bytes:
    grants: list[Any] = [{"grant": name, **more} if more else name for name in grant.split()]
    head = ["POST /v1/credentials HTTP/1.1", f"Authorization: Bearer {token}", "Content-Type: application/json"]
    return await raw(broker, head, json.dumps({"grants": grants}).encode())


async def oauth(broker: BrokerProcess, token: str, grant: str) -> bytes:
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": token,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "audience": grant,
    }
    head = ["POST /token HTTP/1.1", "Content-Type: application/x-www-form-urlencoded"]
    return await raw(broker, head, urlencode(form).encode())


def apart(answer: bytes) -> tuple[bytes, list[str]]:
    """The bytes without date and case, and the cases."""
    cases = [found.decode() for found in CASE.findall(answer)]
    return DATE.sub(b"\r\nDate: -", CASE.sub(b"case_-", answer)), cases


def signed(ci: IssuerProcess, changed: dict[str, Any]) -> str:
    claims = {name: value for name, value in {**JOB, **changed}.items() if value is not None}
    return ci.sign(claims, audience=AUDIENCE)


async def test_a_refusal_is_the_same_bytes_under_every_policy_set(
    brokers: tuple[BrokerProcess, BrokerProcess], ci: IssuerProcess
) -> None:
    seen: dict[str, set[bytes]] = {"/v1/credentials": set(), "/token": set()}
    for which, broker in enumerate(brokers):
        cases: list[str] = []
        for name, (changed, grant, more, first_miss) in SHAPES.items():
            token = signed(ci, changed)
            answers = [await exchange(broker, token, grant, more) for _ in range(2)]
            plain = [apart(answer) for answer in answers]
            assert plain[0][0].startswith(b"HTTP/1.1 403 "), (name, answers[0])
            seen["/v1/credentials"] |= {answer for answer, _ in plain}
            for _, (case,) in plain:
                cases.append(case)
            if not more and " " not in grant:
                answer, (told, case) = apart(await oauth(broker, token, grant))
                assert answer.startswith(b"HTTP/1.1 400 "), (name, answer)
                assert told == case
                seen["/token"].add(answer)
                cases.append(case)
            if which == 0:
                the_owner_sees(broker, cases[-1], first_miss)
        assert len(set(cases)) == len(cases)  # the same number twice would tell a stranger from a near miss
    assert {path: len(answers) for path, answers in seen.items()} == {"/v1/credentials": 1, "/token": 1}
    assert not [secret for secret in SECRETS for answers in seen.values() if secret.encode() in b"".join(answers)]


def the_owner_sees(broker: BrokerProcess, case: str, first_miss: str | None) -> None:
    """On the broker's host, in the ledger: exactly what stood in the way first."""
    shown = CliRunner().invoke(app, ["case", "show", case, "--config", str(broker.folder / "broker.yaml")])
    if first_miss is None:
        assert "first miss" not in shown.stdout
        return
    (line,) = [line for line in shown.stdout.splitlines() if line.endswith("<- first miss")][:1]
    assert line.split()[1].rstrip(":") == first_miss, shown.stdout


def test_no_policy_reaches_logs_or_metrics(brokers: tuple[BrokerProcess, BrokerProcess]) -> None:
    import urllib.request

    for broker in brokers:
        with urllib.request.urlopen(broker.url + "/metrics", timeout=10) as answer:
            told = answer.read().decode() + broker.log
        assert not [secret for secret in SECRETS if secret in told]
        assert "near/deploy" not in told
