"""The client against the real broker: the main job of the product, as an engineer types it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.broker_process import JOB, BrokerProcess
from tests.e2e.issuer_process import IssuerProcess
from tests.fakes.broker import TokenService

CLIENT = Path(__file__).parents[2] / "clients" / "python"


@pytest.fixture
def service(ci: IssuerProcess) -> Iterator[TokenService]:
    """A runner's token endpoint in front of the real issuer, for any audience that the job asks for."""
    fake = TokenService()
    fake.mint = lambda audience: ci.sign(JOB, audience=audience)
    yield fake
    fake.close()


@pytest.fixture
def jobkey(broker: BrokerProcess, service: TokenService, tmp_path: Path) -> Any:
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(CLIENT),
        "JOBKEY_URL": broker.url,
        "JOBKEY_DIR": str(tmp_path / "own"),
        **service.github_env(),
    }

    def run(*argv: str, **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "jobkey", *argv],
            env=env | more,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def test_a_token_and_an_ssh_certificate_for_one_command(jobkey: Any) -> None:
    script = 'ssh-keygen -Lf "$JOBKEY_SSH_CERTIFICATE"; exit 7'
    done = jobkey("exec", "payments/deploy", "payments/ssh", "--", "sh", "-c", script)
    assert done.returncode == 7, done.stderr
    assert "ssh-ed25519-cert-v01@openssh.com user certificate" in done.stdout
    assert "deploy" in done.stdout


def test_a_session_for_later_steps(jobkey: Any) -> None:
    for _ in range(2):
        done = jobkey("get", "payments/deploy", "--ttl", "5m")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["grant"] == "payments/deploy"
    assert jobkey("revoke").returncode == 0
    assert "nothing to revoke" in jobkey("revoke").stderr


def test_who_the_broker_takes_us_for(jobkey: Any, service: TokenService) -> None:
    done = jobkey("whoami", "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["named"]["job"]["project"] == "acme/payments"
    assert "#S256." in shown["presents"]["aud"]
    assert service.given[-1] not in done.stdout


def test_a_refusal_has_a_case(jobkey: Any, service: TokenService, ci: IssuerProcess) -> None:
    service.mint = lambda audience: ci.sign({**JOB, "ref": "refs/heads/evil"}, audience=audience)
    done = jobkey("exec", "payments/deploy", "--", "echo", "never")
    assert (done.returncode, done.stdout) == (77, "")
    assert "case_" in done.stderr
    assert len([line for line in done.stderr.splitlines() if not line.startswith("::add-mask::")]) < 10


def test_a_stolen_bound_token_is_worth_nothing(jobkey: Any, service: TokenService) -> None:
    assert jobkey("whoami").returncode == 0
    stolen = service.given[-1]
    done = jobkey("exec", "payments/deploy", "--", "echo", "never", JOBKEY_SUBJECT_TOKEN=stolen)
    assert (done.returncode, done.stdout) == (64, "")
    assert "verifier" in done.stderr
