"""An HTTP hop in front of a real server that first misbehaves as told, then passes everything on."""

import contextlib
import http.client
import http.server
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Answer:
    """One made-up answer, instead of the server's."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    hang: float = 0.0  # seconds before it
    lost: bool = False  # pass the request on, then drop its answer


@dataclass
class Hop:
    url: str
    plan: list[tuple[str, Answer]]  # (a part of the path, or "" for any; what to answer): each used once, in order
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)  # method, path, headers
    bodies: list[bytes] = field(default_factory=list)

    def next(self, path: str) -> Answer | None:
        for position, (part, answer) in enumerate(self.plan):
            if part in path:
                del self.plan[position]
                return answer
        return None


@contextlib.contextmanager
def hop(upstream: str | None, *plan: tuple[str, Answer], tls: Path | None = None) -> Iterator[Hop]:
    """Without an `upstream`, what the plan does not answer is 500. `tls` is a PEM file with a certificate and its key."""
    stopping = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found.asked.append((self.command, self.path, dict(self.headers)))
            found.bodies.append(body)
            answer = found.next(self.path)
            if answer is not None and answer.hang:
                stopping.wait(answer.hang)
            if answer is None or answer.lost:
                passed = self._pass_on(body)
                if answer is not None:
                    self.close_connection = True
                    return
                answer = passed
            with contextlib.suppress(OSError):
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

        do_GET = do_POST = do_PUT = do_DELETE = do_LIST = _any  # noqa: N815  http.server looks these names up

        def _pass_on(self, body: bytes) -> Answer:
            if upstream is None:
                return Answer(500, b"{}")
            connection = http.client.HTTPConnection(urlsplit(upstream).netloc, timeout=30)
            try:
                connection.request(self.command, self.path, body or None, dict(self.headers))
                answer = connection.getresponse()
                return Answer(answer.status, answer.read(), {"Content-Type": answer.getheader("Content-Type") or ""})
            finally:
                connection.close()

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that hangs up is what is tested
    found = Hop(f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}", list(plan))
    thread = threading.Thread(target=server.serve_forever, name="hop", daemon=True)
    thread.start()
    try:
        yield found
    finally:
        stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()
