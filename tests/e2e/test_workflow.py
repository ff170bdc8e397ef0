"""A GitHub workflow that really runs, against the real broker: masked in its log, revoked at its end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.act import run_workflow
from tests.e2e.broker_process import JOB, BrokerProcess
from tests.e2e.issuer_process import IssuerProcess
from tests.fakes.broker import TokenService


@pytest.fixture
def service(ci: IssuerProcess) -> Iterator[TokenService]:
    fake = TokenService()
    fake.mint = lambda audience: ci.sign(JOB, audience=audience)
    yield fake
    fake.close()


def test_a_workflow_deploys_and_leaves_nothing(broker: BrokerProcess, service: TokenService, tmp_path: Path) -> None:
    exported = {"broker": broker.url, "grants": "payments/deploy", "export": "env"}
    done = run_workflow(
        tmp_path,
        [
            {"uses": "./clients/github-action", "with": exported},
            {"run": 'test -n "$JOBKEY_IDENTITY_TOKEN" && echo "the runner says $JOBKEY_IDENTITY_TOKEN"'},
            {"run": "jobkey exec payments/ssh -- sh -c 'ssh-keygen -Lf $JOBKEY_SSH_CERTIFICATE'"},
        ],
        service.github_env(),
    )
    log = done.stdout + done.stderr
    assert done.returncode == 0, log
    assert "the runner says ***" in log
    assert "user certificate" in log
    assert "eyJ" not in log.replace("***", "")
    (deploy, ssh) = broker.events(type="issued")
    ended = {event["lease"] for event in broker.events(type="irrevocable")}
    assert {lease["lease"] for event in (deploy, ssh) for lease in event["leases"]} == ended
    assert len(broker.events(type="session-ended")) == 2
