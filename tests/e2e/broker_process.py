"""The real broker as a process: configured, started, asked, killed and started again on the same ledger."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import aiohttp

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0

POLICY = """\
policy: payments
owners: [team-payments@acme.example]
trust:
  - issuer: ci
    job: {{project: acme/payments, project_id: "512345678", ref: refs/heads/main, ref_protected: true, environment: production}}
grants:
{grants}
examples:
  - name: a push to main is allowed
    claims: {{$like: github-environment, repository: acme/payments, repository_id: "512345678"}}
    expect: {{allow: [{names}]}}
  - name: a pull request gets nothing
    claims: {{$like: github-pull-request, repository: acme/payments, repository_id: "512345678"}}
    expect: refuse
"""
TOKEN_GRANT = '  deploy: {backend: token, ttl: 10m, with: {audience: "https://deploy.acme.example"}}'
SSH_GRANT = "  ssh: {backend: ssh, ttl: 5m, with: {principals: [deploy]}}"
JOB: dict[str, Any] = {
    "sub": "repo:acme/payments:environment:production",
    "repository": "acme/payments",
    "repository_id": "512345678",
    "repository_owner": "acme",
    "repository_owner_id": "9123456",
    "event_name": "push",
    "environment": "production",
    "ref": "refs/heads/main",
    "ref_type": "branch",
    "ref_protected": "true",
    "workflow_ref": "acme/payments/.github/workflows/release.yml@refs/heads/main",
    "job_workflow_ref": "acme/payments/.github/workflows/release.yml@refs/heads/main",
    "run_id": "9876543210",
    "run_attempt": "1",
    "actor": "dana-acme",
    "actor_id": "7700101",
    "sha": "3f786850e387550fdab836ed7e6dc881de23001b",
}


def free_port() -> int:
    """A port nobody holds now; whoever starts a server on it tries again where it was taken meanwhile."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class BrokerProcess:
    """`python -m broker serve` over one folder. Use `with`, or `start`, `kill` and `stop` by hand."""

    def __init__(
        self,
        folder: Path,
        *,
        issuer: str,
        backends: Mapping[str, Any] | None = None,
        grants: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
        issuer_options: Mapping[str, Any] | None = None,
    ) -> None:
        """`grants`: name -> its line of YAML in the policy `payments`."""
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._env = dict(env or {})
        self.program = ["broker"]  # the module that runs, and what stands before its `serve`
        self._process: subprocess.Popen[bytes] | None = None
        settings: dict[str, Any] = {
            "url": self.url,
            "listen": f"127.0.0.1:{self.port}",
            "data": "./data",
            "policies": "./policies",
            "issuers": {"ci": {"kind": "github", "url": issuer, **(issuer_options or {})}},
            "backends": {"token": {"kind": "identity-token"}, "ssh": {"kind": "ssh-ca"}, **(backends or {})},
            **(more or {}),
        }
        lines = grants or {"deploy": TOKEN_GRANT, "ssh": SSH_GRANT}
        (folder / "policies").mkdir(parents=True, exist_ok=True)
        (folder / "broker.yaml").write_text(json.dumps(settings))  # JSON is YAML, and quotes itself
        self.policy = folder / "policies" / "payments.yaml"
        self.policy.write_text(POLICY.format(grants="\n".join(lines.values()), names=", ".join(lines)))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def log(self) -> str:
        """Everything the broker printed, over all its starts."""
        return (self.folder / "broker.log").read_text(errors="replace")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *, ready: bool = True) -> "BrokerProcess":
        """Start and wait until it answers. Raises RuntimeError with its log."""
        with (self.folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self.program, "serve", "--config", str(self.folder / "broker.yaml")],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._env},
            )
        end = time.monotonic() + PATIENCE
        while not self.answers("/readyz" if ready else "/healthz"):
            if self._process.poll() is not None or time.monotonic() > end:
                self.kill()
                raise RuntimeError(f"the broker did not come up:\n{self.log}")
            time.sleep(0.02)
        return self

    def kill(self) -> None:
        """SIGKILL: no chance to finish anything."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        return self._end(signal.SIGTERM)

    def wait(self) -> int:
        """Until it ends by itself; the exit code."""
        assert self._process is not None
        return self._process.wait(PATIENCE)

    def hang_up(self) -> None:
        """SIGHUP: load again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def _end(self, how: signal.Signals) -> int:
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(how)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._process.wait()

    def answers(self, path: str) -> bool:
        try:
            with urllib.request.urlopen(self.url + path, timeout=2) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def command(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`jobkey-broker ...` in the broker's folder."""
        return subprocess.run(
            [sys.executable, "-m", "broker", *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **self._env},
            capture_output=True,
            text=True,
            check=check,
            timeout=120,
        )

    def verify(self) -> subprocess.CompletedProcess[str]:
        """`audit verify` with the public key alone."""
        return self.command("audit", "verify", "--data", "data", "--key", "data/log.vkey", check=False)

    def events(self, **filters: str) -> list[dict[str, Any]]:
        """The ledger's events, oldest first, as `audit export` gives them."""
        text = self.command("audit", "export", "--format", "jsonl", "--data", "data").stdout
        events = [json.loads(line) for line in text.splitlines()]
        return [event for event in events if all(event.get(key) == value for key, value in filters.items())]


async def ask(
    session: aiohttp.ClientSession, broker: BrokerProcess, token: str, *grants: Any, **members: Any
) -> tuple[int, dict[str, Any]]:
    """POST /v1/credentials; (status, JSON)."""
    async with session.post(
        broker.url + "/v1/credentials",
        json={"grants": list(grants), **members},
        headers={"Authorization": f"Bearer {token}"},
    ) as answer:
        return answer.status, await answer.json(content_type=None)


async def until(condition: Any, *, patience: float = PATIENCE) -> Any:
    """Await a condition that another process makes true."""
    end = time.monotonic() + patience
    while not (value := await condition()):
        if time.monotonic() > end:
            raise TimeoutError("it did not become true")
        await asyncio.sleep(0.05)
    return value
