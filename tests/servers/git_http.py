"""git's own smart HTTP server (`git http-backend`, a CGI program) on loopback, with basic authentication."""

import base64
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from tests.system import require


class GitHttp:
    """Serves the repositories below `root`. `token` is asked for; `redirect` sends everybody elsewhere.

    While `hold` is an event that is not set, requests wait for it; `asked` is set when one came.
    """

    def __init__(self, root: Path, *, token: str | None = None, redirect: str | None = None) -> None:
        (git,) = require("git")
        self._expected = token and "Basic " + base64.b64encode(f"x-access-token:{token}".encode()).decode()
        self.requests = self.refusals = 0
        self.hold: threading.Event | None = None
        self.asked = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                self._answer()

            def do_POST(self) -> None:
                self._answer()

            def _answer(self) -> None:
                outer.requests += 1
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.asked.set()
                if outer.hold is not None:
                    outer.hold.wait(60)
                if redirect is not None:
                    self._plain(302, Location=redirect + self.path)
                elif outer._expected and self.headers.get("Authorization") != outer._expected:
                    outer.refusals += 1
                    self._plain(401, **{"WWW-Authenticate": 'Basic realm="git"'})
                else:
                    self._cgi(body)

            def _plain(self, status: int, **headers: str) -> None:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": "0"}.items():
                    self.send_header(name, value)
                self.end_headers()

            def _cgi(self, body: bytes) -> None:
                parts = urlsplit(self.path)
                ran = subprocess.run(
                    [git, "http-backend"],
                    input=body,
                    capture_output=True,
                    check=False,
                    env={
                        "PATH": os.environ["PATH"],
                        "GIT_CONFIG_NOSYSTEM": "1",
                        "GIT_CONFIG_GLOBAL": "/dev/null",
                        "GIT_PROJECT_ROOT": str(root),
                        "GIT_HTTP_EXPORT_ALL": "1",
                        "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                        "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                        "REQUEST_METHOD": self.command,
                        "PATH_INFO": parts.path,
                        "QUERY_STRING": parts.query,
                        "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                        "CONTENT_LENGTH": str(len(body)),
                    },
                )
                head, _, out = ran.stdout.partition(b"\r\n\r\n")
                headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
                self.send_response(int(headers.pop("Status", "200").split()[0]))
                for name, value in {**headers, "Content-Length": str(len(out))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(out)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.hold is not None:
            self.hold.set()
        self._server.shutdown()
        self._server.server_close()
