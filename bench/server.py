"""Start the servers that are measured: the broker itself, and the handler that answers a constant. The one place that knows how."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.issuer import REPOSITORY, REPOSITORY_ID, claims
from bench.measure import stop

PATIENCE: Final = 30  # seconds for a server to answer
SERVE: Final = (sys.executable, "-m", "broker", "serve", "--config")
COMMITS: Final = "jobkey_ledger_commits_total"


@dataclass(frozen=True)
class Server:
    """A running server: what it listens on, and whose CPU and memory to read."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def metric(self, name: str) -> float | None:
        """A metric's value, summed over its labels; None where the server has no such metric."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=PATIENCE) as answer:
            lines = answer.read().decode().splitlines()
        values = [float(line.rpartition(" ")[2]) for line in lines if line.split("{")[0].split(" ")[0] == name]
        return sum(values) if values else None


@contextmanager
def constant(size: int) -> Iterator[Server]:
    """The floor: answers every request with the same `size` bytes."""
    command = [sys.executable, "-m", "bench.floors.constant", str(size)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield Server(int(process.stdout.readline()), process.pid)
    finally:
        stop(process)


@contextmanager
def broker(folder: Path, *, issuer: str) -> Iterator[Server]:
    """`jobkey-broker serve`, as a process, on a fresh durable ledger in `folder`. Raises RuntimeError with its log where it does not come up."""
    port = free_port()
    configure(folder, port=port, issuer=issuer)
    command = [*SERVE, str(folder / "broker.yaml")]
    log = folder / "broker.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, text=True, env=os.environ | {"NO_COLOR": "1"})
    try:
        until_ready(f"http://127.0.0.1:{port}/readyz", process, log)
        yield Server(port, process.pid)
    finally:
        stop(process)


def configure(folder: Path, *, port: int, issuer: str, data: str = "./data") -> None:
    """Write broker.yaml and one policy. JSON is YAML, and quotes itself."""
    url = f"http://127.0.0.1:{port}"
    settings: dict[str, Any] = {
        "url": url,
        "listen": f"127.0.0.1:{port}",
        "data": data,
        "ledger": "sqlite",
        "policies": "./policies",
        "issuers": {
            "bench": {
                "kind": "generic",
                "url": issuer,
                "algorithms": ["RS256", "ES256"],
                "map": {
                    "project": "claims.repository",
                    "project_id": "claims.repository_id",
                    "owner": "claims.repository_owner",
                    "owner_id": "claims.repository_owner_id",
                    "ref": "claims.ref",
                    "environment": "claims.environment",
                    "run_id": "claims.run_id",
                },
            }
        },
        "backends": {"token": {"kind": "identity-token"}, "ssh": {"kind": "ssh-ca"}},
    }
    sample = claims(issuer, url, 1_800_000_000)
    policy: dict[str, Any] = {
        "policy": "bench",
        "description": "Grants what the bench measures to one practice job.",
        "owners": ["bench@acme.example"],
        "mode": "enforce",
        "trust": [
            {
                "issuer": "bench",
                "job": {
                    "project": REPOSITORY,
                    "project_id": REPOSITORY_ID,
                    "ref": "refs/heads/main",
                    "environment": "production",
                },
                "claims": {"job_workflow_ref": {"glob": "acme/ci/.github/workflows/deploy.yml@refs/tags/v*"}},
            }
        ],
        "grants": {
            "token": {"backend": "token", "ttl": "5m", "with": {"audience": "https://registry.acme.example"}},
            "ssh": {"backend": "ssh", "ttl": "5m", "with": {"principals": ["deploy"], "extensions": []}},
        },
        "examples": [
            {"name": "the practice job gets both", "claims": sample, "expect": {"allow": ["token", "ssh"]}},
            {"name": "another repository", "claims": sample | {"repository_id": "1"}, "expect": "refuse"},
        ],
    }
    (folder / "policies").mkdir(parents=True, exist_ok=True)
    (folder / "broker.yaml").write_text(json.dumps(settings, indent=2))
    (folder / "policies" / "bench.yaml").write_text(json.dumps(policy, indent=2))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def until_ready(url: str, process: subprocess.Popen[str], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.05)
    ended = process.poll()
    why = f"ended with {ended}" if ended is not None else f"did not answer {url} in {PATIENCE} s"
    raise RuntimeError(f"the broker {why}:\n{log.read_text()[-4000:]}")
