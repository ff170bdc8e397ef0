"""The fake issuer as a process of its own, so that a busy test never makes it look slow."""

import json
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]


class IssuerProcess:
    """`python -m tests.fakes.issuer`; it signs over HTTP, one token a call."""

    url: str

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.fakes.issuer", "--port", "0"]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = json.loads(self._process.stdout.readline())["url"]
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def sign(self, claims: Mapping[str, Any], *, audience: str, lifetime: int = 300, **changed: Any) -> str:
        """A token now: a GitHub-like lifetime, a fresh `jti`, and whatever is `changed`."""
        now = int(time.time())
        times = {"iat": now, "nbf": now - 600, "exp": now + lifetime, "jti": str(uuid.uuid4())}
        return str(self._post("/sign", {**claims, "aud": audience, **times, **changed})["token"])

    def rotate(self) -> None:
        """New keys; the old ones are gone from the key set."""
        self._post("/rotate", {})

    def _post(self, path: str, body: Any) -> Any:
        request = urllib.request.Request(
            self.url + path, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)
