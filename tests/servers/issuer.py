"""The broker's own issuer as a downstream service sees it: a discovery document and a key set on loopback, no more."""

import contextlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Issuer:
    url: str
    asked: list[str]  # the paths that were fetched


@contextlib.contextmanager
def issuer(jwks: Callable[[], Mapping[str, Any]]) -> Iterator[Issuer]:
    """Serve `/.well-known/openid-configuration` and `/jwks.json` (OpenID Connect Discovery 1.0)."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            found = {
                "/.well-known/openid-configuration": lambda: {
                    "issuer": url,
                    "jwks_uri": url + "/jwks.json",
                    "response_types_supported": ["id_token"],
                    "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["ES256"],
                },
                "/jwks.json": jwks,
            }.get(self.path)
            body = json.dumps(found()).encode() if found else b""
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, name="issuer", daemon=True)
    thread.start()
    try:
        yield Issuer(url, asked)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
