"""Hostile and broken servers, TLS, proxies, retries. Every end is an error with an exit code; nothing hangs."""

import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jobkey import proxy, url, wire
from jobkey.errors import ConfigError, ProtocolError
from jobkey.wire import BODY_LIMIT, Connection, ConnectionFailed

from tests.fakes.broker import Authority, FakeBroker, Scripted, make_token
from tests.unit.client.conftest import Run


@contextmanager
def raw_server(talk: Callable[[socket.socket], None]) -> Iterator[url.Url]:
    """Accepts one connection after another and lets `talk` do as it likes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.settimeout(5)
                    talk(connection)
                except OSError:
                    pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield url.parse(f"http://127.0.0.1:{listener.getsockname()[1]}", "TEST")
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def answering(data: bytes) -> Callable[[socket.socket], None]:
    def talk(connection: socket.socket) -> None:
        while not connection.recv(65536).endswith(b"\r\n\r\n"):
            pass
        connection.sendall(data)

    return talk


def get(origin: url.Url, timeout: float = 5) -> wire.Response:
    connection = Connection(origin)
    try:
        return connection.request("GET", "/", {}, None, timeout=timeout)
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"hi"),
        (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi", b"hi"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1;x=y\r\ni\r\n0\r\nTrailer: x\r\n\r\n",
            b"hi",
        ),
        (b"HTTP/1.0 200 OK\r\n\r\nhi", b"hi"),
        (b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"hi"),
        (b"HTTP/1.1 204 Gone\r\n\r\n", b""),
    ],
)
def test_answers(answer: bytes, body: bytes) -> None:
    with raw_server(answering(answer)) as origin:
        assert get(origin).body == body


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-",
    ],
)
def test_cut_off(answer: bytes) -> None:
    with raw_server(answering(answer)) as origin, pytest.raises(ConnectionFailed):
        get(origin)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nname : x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nhi\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhiXX0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"fffff\r\n" + b"x" * 0xFFFFF + b"\r\nfffff\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 50,
        b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * (BODY_LIMIT + 10),
    ],
)
def test_not_an_answer(answer: bytes) -> None:
    with raw_server(answering(answer)) as origin, pytest.raises(ProtocolError):
        get(origin)


@given(
    answer=st.one_of(st.binary(max_size=200), st.binary(max_size=100).map(lambda tail: b"HTTP/1.1 200 OK\r\n" + tail))
)
@settings(max_examples=60, deadline=None)
def test_arbitrary_bytes_only_ever_fail_in_words(answer: bytes) -> None:
    with raw_server(answering(answer)) as origin, suppress(ConnectionFailed, ProtocolError):
        get(origin)


def test_the_time_is_for_the_whole_answer() -> None:
    """A server that sends a byte now and then never exceeds a time limit for one read."""

    def drip(connection: socket.socket) -> None:
        connection.recv(65536)
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000:
            connection.sendall(bytes([byte]))
            time.sleep(0.05)

    begun = time.monotonic()
    with raw_server(drip) as origin, pytest.raises(ConnectionFailed, match="in time"):
        get(origin, timeout=0.6)
    assert time.monotonic() - begun < 10


def test_a_kept_connection_is_used_again(broker: FakeBroker) -> None:
    connection = Connection(url.broker(broker.url))
    for _ in range(3):
        assert connection.request("GET", "/nothing", {}, None, timeout=5).status == 404
    connection.close()
    assert broker.server.connections == 1


@pytest.mark.parametrize("value", ["x\r\nEvil: 1", "x\nEvil: 1", "x\0", "grüße"])
def test_a_header_cannot_be_smuggled(broker: FakeBroker, value: str) -> None:
    connection = Connection(url.broker(broker.url))
    with pytest.raises(ValueError, match="escaped") as caught:
        connection.request("GET", "/", {"Authorization": value}, None, timeout=5)
    assert value not in str(caught.value)
    assert not broker.requests


# the broker's answers, through the whole program


@pytest.mark.parametrize(
    ("status", "body", "code", "words"),
    [
        (401, b'{"title": "The subject token is not good"}', 77, "whoami"),
        (403, b'{"title": "No policy grants this", "case": "case_0123", "detail": "Nothing here."}', 77, "case_0123"),
        (409, b'{"title": "The subject token was used before"}', 77, "works once"),
        (422, b'{"title": "The request is wrong", "detail": "ttl is text"}', 64, "ttl is text"),
        (422, b'{"missing": [{"grant": "other/one", "param": "public_key", "make": "ssh-public-key"}]}', 64, "422"),
        (422, b'{"missing": [{"grant": "payments/token", "param": "pin", "make": "a guess"}]}', 64, "422"),
        (422, b'{"missing": "yes"}', 64, "422"),
        (403, b'{"title": "x", "remedy": "Ask the platform team."}', 77, "Ask the platform team."),
        (500, b"<html>oops</html>", 69, "500"),
        (302, b"", 76, "302"),
        (404, b"not json", 77, "404"),
        (200, b"<html>Welcome to our proxy</html>", 76, "JOBKEY_URL"),
        (200, b"[]", 76, "JSON object"),
        (200, b"\xff\xfe", 76, "JSON object"),
        (200, b"[" * 100_000, 76, "JSON object"),
        (200, b"{}", 76, "issuance"),
        (200, b'{"issuance": "iss_1", "session": 1, "credentials": []}', 76, "session"),
        (200, b'{"issuance": "iss_1", "session": {"id": "s", "secret": "a\\r\\nb", "expires_at": "x"}, "credentials": []}', 76, "session"),
        (200, b'{"issuance": "iss_1", "session": {"id": "s", "secret": "a", "expires_at": "x"}, "credentials": []}', 76, "other grants"),
    ],
)  # fmt: skip
def test_hostile_and_final_answers(  # noqa: PLR0917 - fixtures
    status: int, body: bytes, code: int, words: str, broker: FakeBroker, jobkey: Run
) -> None:
    broker.script = [Scripted(status=status, body=body, headers={"Location": "http://127.0.0.1:9/"})] * 2
    done = jobkey("exec", "payments/token", "--", "touch", "/nowhere/x")
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert len(done.stderr.splitlines()) <= 8  # one screen, by far
    assert "Traceback" not in done.stderr
    assert len(broker.requests) == 1  # nothing of this is worth a second try


ENV = [
    ("PATH", "/evil"), ("LD_PRELOAD", "/evil.so"), ("BASH_ENV", "x"), ("GITHUB_ENV", "x"), ("NODE_OPTIONS", "x"),
    ("A B", "x"), ("", "x"), ("1A", "x"), ("A=B", "x"), ("A\nB", "x"), ("É", "x"), ("OK", "nul\0"), ("OK", "\ud800"),
    ("GIT_SSH_COMMAND", "evil"), ("dyld_insert_libraries", "x"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), ENV)
def test_an_environment_that_steers_programs_is_refused(name: str, value: str, broker: FakeBroker, jobkey: Run) -> None:
    broker.grants["payments/evil"] = lambda params, ttl: {
        "type": "jwt",
        "values": {},
        "secrets": [],
        "env": {name: value},
    }
    done = jobkey("exec", "payments/evil", "--", "true")
    assert done.returncode == 76, done.stderr
    assert not broker.active()  # what was issued was taken back


def test_a_problem_cannot_write_to_the_terminal_or_the_runner(broker: FakeBroker, jobkey: Run) -> None:
    broker.script = [
        Scripted(status=403, body=b'{"title": "a\\n::add-mask::x\\u001b[2J\\u202e", "detail": "' + b"y" * 9000 + b'"}')
    ]
    done = jobkey("exec", "payments/token", "--", "true")
    assert not any(line.startswith("::") for line in done.stderr.splitlines())
    assert "\x1b" not in done.stderr
    assert "\u202e" not in done.stderr
    assert len(done.stderr) < 2000


@pytest.mark.parametrize("status", [429, 502, 503, 504, 0])
def test_retries(status: int, broker: FakeBroker, jobkey: Run) -> None:
    broker.script = [Scripted(status=status), Scripted(status=status)]
    assert jobkey("exec", "payments/token", "--", "true").returncode == 0
    assert len([request for request in broker.requests if request[0] == "POST"]) == 3
    assert len({body["nonce"] for body in broker.bodies}) == 1


def test_what_says_that_waiting_is_no_use_is_told_at_once(broker: FakeBroker, jobkey: Run) -> None:
    broker.script = [
        Scripted(status=502, body=b'{"title": "A backend failed", "case": "case_0123", "retryable": false}')
    ]
    done = jobkey("exec", "payments/token", "--", "true")
    assert (done.returncode, "case_0123" in done.stderr) == (69, True)
    assert len([request for request in broker.requests if request[0] == "POST"]) == 1


def test_patience_ends(broker: FakeBroker, env: dict[str, str], jobkey: Run) -> None:
    broker.script = [
        Scripted(status=503, body=b'{"title": "The ledger cannot be written"}', headers={"Retry-After": "3600"})
    ]
    done = jobkey("exec", "payments/token", "--", "true")
    assert done.returncode == 69
    assert "ledger" in done.stderr
    assert "JOBKEY_PATIENCE" in done.stderr
    env["JOBKEY_URL"], env["JOBKEY_PATIENCE"] = "http://127.0.0.1:9", "0"
    gone = jobkey("exec", "payments/token", "--", "true")
    assert gone.returncode == 69
    assert "refused" in gone.stderr


def test_a_fresh_token_is_fetched_when_the_old_one_is_old(
    monkeypatch: pytest.MonkeyPatch, broker: FakeBroker, tmp_path: "os.PathLike[str]"
) -> None:
    from jobkey import acquire
    from jobkey.ambient.seam import Ambient

    taken = []

    class Fresh(Ambient):
        name, fresh = "generic", True

        def token(self, env: object, audience: str, timeout: float) -> str:
            taken.append(make_token(broker.url))
            return taken[-1]

    monkeypatch.setattr("jobkey.ambient.source", lambda env: Fresh())
    monkeypatch.setattr("jobkey.acquire.TOKEN_AGE", -1.0)
    broker.script = [Scripted(status=503)]
    job = acquire.Job({"JOBKEY_DIR": f"{tmp_path}/own"}, url.broker(broker.url), lambda text: None)
    acquire.acquire(job, [{"grant": "payments/token"}], None, own=True)
    job.broker.close()
    assert len(taken) == 2


# TLS


def test_tls_with_the_broker_s_own_authority(
    tls_broker: FakeBroker, authority: Authority, env: dict[str, str], jobkey: Run
) -> None:
    env.update(
        JOBKEY_URL=tls_broker.url,
        JOBKEY_SUBJECT_TOKEN=make_token(tls_broker.url),
        JOBKEY_CA_FILE=str(authority.ca_file),
    )
    done = jobkey("exec", "payments/token", "--", "true")
    assert (done.returncode, done.stderr) == (0, "")
    assert tls_broker.server.connections == 1  # the handshake is paid once


def test_tls_that_nobody_vouches_for(tls_broker: FakeBroker, env: dict[str, str], jobkey: Run) -> None:
    env.update(JOBKEY_URL=tls_broker.url, JOBKEY_SUBJECT_TOKEN=make_token(tls_broker.url), JOBKEY_PATIENCE="0")
    done = jobkey("exec", "payments/token", "--", "true")
    assert done.returncode == 69
    assert "certificate" in done.stderr
    assert not tls_broker.requests


def test_tls_for_another_name(tls_broker: FakeBroker, authority: Authority, env: dict[str, str], jobkey: Run) -> None:
    env.update(
        JOBKEY_URL=tls_broker.url.replace("127.0.0.1", "127.0.0.2"),
        JOBKEY_CA_FILE=str(authority.ca_file),
        JOBKEY_PATIENCE="0",
    )
    done = jobkey("exec", "payments/token", "--", "true")
    assert done.returncode == 69
    assert not tls_broker.requests


def test_the_system_s_store_is_enough(
    tls_broker: FakeBroker, authority: Authority, env: dict[str, str], jobkey: Run
) -> None:
    """SSL_CERT_FILE is where OpenSSL looks for the system's bundle."""
    env.update(
        JOBKEY_URL=tls_broker.url, JOBKEY_SUBJECT_TOKEN=make_token(tls_broker.url), SSL_CERT_FILE=str(authority.ca_file)
    )
    assert jobkey("exec", "payments/token", "--", "true").returncode == 0


def test_the_hashed_directory_first_and_the_bundle_after(
    tls_broker: FakeBroker, authority: Authority, tmp_path: "os.PathLike[str]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither store trusts more than the system does; the first is only quicker to ask."""
    from jobkey.tls import Trust

    empty = os.path.join(tmp_path, "certs")
    os.mkdir(empty)
    with open(os.path.join(empty, "00000000.0"), "w"):
        pass
    paths = ssl.get_default_verify_paths()
    monkeypatch.delenv(paths.openssl_cafile_env, raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", empty)
    trust = Trust()
    origin = url.broker(tls_broker.url)
    connection = Connection(origin, tls=trust.wrap)
    with pytest.raises(ConnectionFailed) as caught:
        connection.request("GET", "/x", {}, None, timeout=5)
    assert trust.lazy
    monkeypatch.setenv(paths.openssl_cafile_env, str(authority.ca_file))
    assert trust.wider(caught.value.__cause__)
    assert connection.request("GET", "/x", {}, None, timeout=5).status == 404
    assert not trust.wider(caught.value.__cause__)
    connection.close()


@pytest.mark.parametrize("content", [None, "no pem"])
def test_a_ca_file_that_is_none(
    content: "str | None", tls_broker: FakeBroker, env: dict[str, str], jobkey: Run, tmp_path: "os.PathLike[str]"
) -> None:
    path = os.path.join(tmp_path, "ca.pem")
    if content is not None:
        with open(path, "w") as file:
            file.write(content)
    env.update(JOBKEY_URL=tls_broker.url, JOBKEY_CA_FILE=path)
    done = jobkey("exec", "payments/token", "--", "true")
    assert done.returncode == 78
    assert "JOBKEY_CA_FILE" in done.stderr


# proxies


@pytest.mark.parametrize(
    ("host", "no_proxy", "direct"),
    [
        ("broker.example", "", False),
        ("broker.example", "*", True),
        ("broker.example", "broker.example", True),
        ("broker.example", ".example", True),
        ("broker.example", "*.example", True),
        ("broker.example", "example", True),
        ("broker.example", "roker.example", False),
        ("broker.example", "broker.example:443", True),
        ("broker.example", "broker.example:8443", False),
        ("broker.example", " other , broker.example ", True),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "192.168.0.0/16,rubbish/99", False),
        ("localhost", "", True),
        ("127.0.0.1", "", True),
    ],
)
def test_which_proxy(host: str, no_proxy: str, direct: bool) -> None:
    env = {"HTTPS_PROXY": "http://user:p%40ss@proxy.example:3128", "NO_PROXY": no_proxy}
    found = proxy.for_url(url.parse(f"https://{host}", "TEST"), env)
    assert (found is None) is direct
    if found is not None:
        assert (found.host, found.port, found.authorization) == ("proxy.example", 3128, "Basic dXNlcjpwQHNz")


def test_a_proxy_that_wants_tls_is_refused_in_words() -> None:
    with pytest.raises(ConfigError, match="does not speak"):
        proxy.for_url(url.parse("https://broker.example", "TEST"), {"HTTPS_PROXY": "https://proxy.example"})


def test_the_tunnel(tls_broker: FakeBroker, authority: Authority) -> None:
    """A real CONNECT through a small proxy; what passes in it is TLS to the broker."""
    from jobkey.tls import Trust

    seen: list[bytes] = []

    def tunnel(client: socket.socket) -> None:
        seen.append(client.recv(65536))
        with socket.create_connection(("127.0.0.1", tls_broker.server.port)) as server:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")

            def copy(source: socket.socket, target: socket.socket) -> None:
                try:
                    while data := source.recv(65536):
                        target.sendall(data)
                    target.shutdown(socket.SHUT_WR)
                except OSError:
                    pass

            back = threading.Thread(target=copy, args=(server, client))
            back.start()
            copy(client, server)
            back.join(10)

    with raw_server(tunnel) as place:
        via = proxy.Proxy(place.host, place.port, "Basic eDp5")
        connection = Connection(url.broker(tls_broker.url), proxy=via, tls=Trust(str(authority.ca_file)).wrap)
        assert connection.request("GET", "/x", {"Authorization": "Bearer s3cret"}, None, timeout=10).status == 404
        connection.close()
    assert seen[0].startswith(f"CONNECT 127.0.0.1:{tls_broker.server.port} HTTP/1.1\r\n".encode())
    assert b"Proxy-Authorization: Basic eDp5" in seen[0]
    assert b"s3cret" not in b"".join(seen)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 407 Who are you\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n"])
def test_a_proxy_that_says_no_or_too_much(answer: bytes) -> None:
    with raw_server(answering(answer)) as place:
        connection = Connection(
            url.parse("https://broker.example", "TEST"),
            proxy=proxy.Proxy(place.host, place.port, ""),
            tls=lambda sock, host: sock,
        )
        with pytest.raises((ConnectionFailed, ProtocolError)):
            connection.request("GET", "/", {}, None, timeout=5)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "broker.example",
        "http://broker.example",
        "ftp://x",
        "https://u:p@x",
        "https://x?y=1",
        "https://x#y",
        "https://x/ y",
        "http://127.1",
        "http://0x7f.0.0.1",
    ],
)
def test_broker_urls_that_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        url.broker(text)


@pytest.mark.parametrize(
    ("text", "audience", "authority"),
    [
        ("https://Broker.Example/", "https://broker.example", "broker.example"),
        ("https://broker.example:443", "https://broker.example", "broker.example"),
        ("https://broker.example:8443/base/", "https://broker.example:8443/base", "broker.example:8443"),
        ("http://localhost:8400", "http://localhost:8400", "localhost:8400"),
        ("http://[::1]:8400", "http://[::1]:8400", "[::1]:8400"),
    ],
)
def test_broker_urls(text: str, audience: str, authority: str) -> None:
    found = url.broker(text)
    assert (str(found), found.authority) == (audience, authority)
