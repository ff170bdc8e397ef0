"""The practice issuer as a program: other tests start it beside a broker and ask it for tokens over HTTP."""

import json
import subprocess
import sys
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from broker.issuers.trusted import TrustedIssuer
from broker.tokens import TokenVerifier
from tests.unit.tokens.conftest import BROKER, KIND

ROOT = Path(__file__).parents[3]


def post(url: str, body: Any) -> Any:
    request = urllib.request.Request(url, data=json.dumps(body).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


async def test_as_a_program() -> None:
    command = [sys.executable, "-m", "tests.fakes.issuer", "--port", "0", "--alg", "ES256"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            url = json.loads(program.stdout.readline())["url"]
            issuer = TrustedIssuer(name="ci", kind=KIND, url=url, audiences=(BROKER,), algorithms=("ES256", "EdDSA"))
            verifier = TokenVerifier([issuer])
            now = datetime.now(UTC)
            for query in ("", "?lifetime=60", "?alg=EdDSA"):
                token = post(url + "/sign" + query, {"sub": "job", "aud": BROKER, "repo": "acme/payments"})["token"]
                assert (await verifier.verify(token, now=now)).job.project == "acme/payments"
            assert post(url + "/rotate", {})["kid"]
            token = post(url + "/sign", {"sub": "job", "aud": BROKER, "repo": "acme/payments"})["token"]
            assert (await verifier.verify(token, now=now)).issuer == "ci"
            await verifier.close()
        finally:
            program.terminate()
