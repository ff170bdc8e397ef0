"""Whatever bytes arrive, the answer is a documented status with problem details, and the broker stays up (promise 5)."""

import asyncio
import base64
import json
import socket
import subprocess
import sys
from typing import Any

import aiohttp
import pytest

from tests.e2e.broker_process import JOB, BrokerProcess, ask
from tests.e2e.issuer_process import IssuerProcess

SECRET = "eyJhbGciOiJSUzI1NiJ9.c2VjcmV0LXNlY3JldC1zZWNyZXQ.c2lnbmF0dXJl"
GRANTS = json.dumps({"grants": ["payments/deploy"]}).encode()


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jws(header: object, payload: object, signature: bytes = b"x" * 256) -> str:
    return ".".join([b64(json.dumps(header).encode()), b64(json.dumps(payload).encode()), b64(signature)])


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status"),
    [
        pytest.param("POST", "/v1/credentials", {}, GRANTS, 401, id="no token"),
        pytest.param("POST", "/v1/credentials", {"Authorization": "Basic x"}, GRANTS, 401, id="another scheme"),
        pytest.param("POST", "/v1/credentials", {"Authorization": "Bearer "}, GRANTS, 401, id="an empty token"),
        pytest.param("POST", "/v1/credentials", {"Authorization": f"Bearer {SECRET}"}, b"{", 422, id="half a body"),
        pytest.param("POST", "/v1/credentials", {"Authorization": f"Bearer {SECRET}"}, b"\xff", 422, id="broken UTF-8"),
        pytest.param("POST", "/v1/credentials", {"Content-Type": "text/plain"}, GRANTS, 422, id="another type"),
        pytest.param("POST", "/v1/credentials", {}, b"x" * 70_000, 413, id="a large body"),
        pytest.param("GET", "/v1/credentials", {}, b"", 405, id="another method"),
        pytest.param("POST", "/v1/leases/%2e%2e%2f/renew", {"Authorization": "Bearer jks_x"}, b"", 401, id="a path"),
        pytest.param("DELETE", "/v1/leases/lse_x", {"Authorization": f"Bearer {SECRET}"}, b"", 401, id="no session"),
        pytest.param("DELETE", "/v1/session", {}, b"", 401, id="session without a secret"),
        pytest.param("GET", "/log/tile/0/000", {}, b"", 404, id="a tile that is not full"),
        pytest.param("GET", "/log/tile/9/x999/999", {}, b"", 404, id="a tile far away"),
        pytest.param("GET", "/log/tile/0/../../keys", {}, b"", 404, id="out of the log"),
        pytest.param("GET", "/log/tile/entries/000.p/1", {}, b"", 403, id="entries are for people"),
        pytest.param("GET", "/", {}, b"", 404, id="the root"),
        pytest.param("GET", "/%00", {}, b"", 404, id="NUL"),
    ],
)
async def test_requests_that_are_wrong(  # noqa: PLR0917  a table's row
    http: aiohttp.ClientSession,
    broker: BrokerProcess,
    method: str,
    path: str,
    headers: dict[str, str],
    body: bytes,
    status: int,
) -> None:
    from yarl import URL

    sent = {"Content-Type": "application/json", **headers}
    async with http.request(method, URL(broker.url + path, encoded=True), data=body or None, headers=sent) as answer:
        text = await answer.text()
        assert (answer.status, answer.content_type) == (status, "application/problem+json"), text
        assert answer.headers["Cache-Control"] == "no-store"
        assert json.loads(text)["status"] == status
    assert "c2VjcmV0" not in text
    assert broker.answers("/healthz")


def hostile_tokens() -> list[Any]:
    claims = {**JOB, "aud": "x", "iss": "https://token.actions.githubusercontent.com"}
    param = pytest.param
    return [
        param("x", id="a letter"),
        param("..", id="two dots"),
        param("a.b.c.d.e", id="a JWE"),
        param(jws({"alg": "none"}, claims, b""), id="unsigned"),
        param(jws({"alg": "HS256"}, claims), id="a shared secret's algorithm"),
        param(jws({"alg": "RS256", "jwk": {"kty": "RSA"}}, claims), id="a key in the header"),
        param(jws({"alg": "RS256", "jku": "http://127.0.0.1:1/"}, claims), id="a key's address in the header"),
        param(jws({"alg": "RS256", "x5c": ["x"]}, claims), id="a certificate in the header"),
        param(jws({"alg": "RS256", "crit": ["exp"], "exp": 1}, claims), id="an unknown crit"),
        param(jws({"alg": "RS256", "zip": "DEF"}, claims), id="compressed"),
        param(jws({"alg": "RS256"}, [claims]), id="a list for claims"),
        param(jws({"alg": "RS256"}, {**claims, "iss": "http://169.254.169.254/"}), id="an issuer that steers a fetch"),
        param(b64(b'{"alg":"RS256","alg":"none"}') + "." + b64(b"{}") + ".eA", id="a member twice in the header"),
        param(b64(b'{"alg":"RS256"}') + "." + b64(b'{"iss":"a","iss":"b"}') + ".eA", id="a member twice in the claims"),
        param(b64(b'{"alg":"RS256"}') + "." + b64(b'{"a":' * 900 + b"1" + b"}" * 900) + ".eA", id="deep"),
        param("=" * 60, id="padding"),
        param("%2e%2e%2f", id="percent signs"),
        param("é.é.é", id="letters beyond ASCII"),
        param("jks_", id="half a session"),
    ]


@pytest.mark.parametrize("token", hostile_tokens())
async def test_tokens_that_are_hostile(http: aiohttp.ClientSession, broker: BrokerProcess, token: str) -> None:
    before = len(broker.events())
    status, body = await ask(http, broker, token, "payments/deploy")
    assert (status, body["title"]) in {(401, "The subject token is not good"), (401, "The session is not good")}
    assert len(token) < 12 or token not in json.dumps(body)
    assert len(broker.events()) == before  # no identity was proved: it is counted, never stored


async def test_a_long_token_is_read_and_a_longer_one_told(http: aiohttp.ClientSession, broker: BrokerProcess) -> None:
    """GitLab's lists of groups make tokens of many kilobytes; 16 KiB is the verifier's own limit, not the HTTP server's."""
    for size, word in ((12_000, "signed JWT"), (17_000, "larger than 16 KiB")):
        status, body = await ask(http, broker, "a" * size, "payments/deploy")
        assert (status, word in body["detail"]) == (401, True)


async def test_a_token_of_a_megabyte(broker: BrokerProcess) -> None:
    """aiohttp closes before it reads so long a header; no worker is lost to it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
    writer.write(b"POST /v1/credentials HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + b"a" * 1_000_000 + b"\r\n\r\n")
    answer = b""
    try:
        await writer.drain()
        answer = await reader.read(200)
    except ConnectionError:
        pass
    writer.close()
    assert b" 400 Bad Request" in answer or answer == b""
    assert broker.answers("/healthz")


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/credentials HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/credentials HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/credentials HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=["binary", "version", "negative length", "two lengths", "a chunk that is none", "TLS"],
)
async def test_bytes_that_are_no_http(broker: BrokerProcess, sent: bytes) -> None:
    def speak() -> bytes:
        with socket.create_connection(("127.0.0.1", broker.port), timeout=5) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            try:
                while part := connection.recv(4096):
                    answer += part
            except ConnectionError:
                pass
            return answer

    answer = await asyncio.to_thread(speak)
    assert answer == b"" or answer.startswith(b"HTTP/1.")
    assert b" 500 " not in answer.split(b"\r\n")[0]
    assert broker.answers("/healthz")


async def test_strangers_are_aggregated_and_then_limited(
    http: aiohttp.ClientSession, broker: BrokerProcess, ci: IssuerProcess
) -> None:
    stranger = {
        **JOB,
        "repository": "evil/x",
        "repository_id": "1",
        "repository_owner": "evil",
        "repository_owner_id": "2",
    }
    token = ci.sign(stranger, audience=broker.url)
    answers = [await ask(http, broker, token, "payments/deploy") for _ in range(80)]
    statuses = [status for status, _ in answers]
    assert set(statuses) == {403, 429}
    assert statuses[0] == 403
    assert len({body["case"] for status, body in answers if status == 403}) == statuses.count(403)
    assert not [event for event in broker.events(type="refused") if event["job"].get("owner_id") == "2"]
    assert (await ask(http, broker, ci.sign(JOB, audience=broker.url), "payments/deploy"))[0] == 200


def test_every_call_conforms_to_its_description(broker: BrokerProcess, ci: IssuerProcess) -> None:
    """Schemathesis asks everything `/openapi.json` describes, well and badly, and holds the answers to it."""
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", broker.url + "/openapi.json", "--checks", checks,
         "--max-examples", "15", "--seed", "1", "--phases", "examples,coverage,fuzzing", "--no-color",
         "--header", f"Authorization: Bearer {ci.sign(JOB, audience=broker.url)}"],
        cwd=broker.folder, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert broker.answers("/healthz")
