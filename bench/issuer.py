"""A practice CI: an OIDC issuer on loopback that signs GitHub-like tokens, as many as a run needs, before the clock starts.

RS256 with a 2048-bit key is what the CIs use, and is dear to sign; the long run for memory signs ES256 instead.
"""

import base64
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Literal
from uuid import uuid4

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

Algorithm = Literal["RS256", "ES256"]
LIFETIME: Final = 3600
REPOSITORY: Final = "acme/payments"
REPOSITORY_ID: Final = "512345678"
CHUNK: Final = 500  # tokens signed by one call into a worker


def encoded(data: bytes) -> str:
    """Base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int) -> str:
    return encoded(value.to_bytes((value.bit_length() + 7) // 8))


class BenchIssuer:
    """Two keys, one for each algorithm; `url` is known once it is served."""

    def __init__(self) -> None:
        self.rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.ec = ec.generate_private_key(ec.SECP256R1())
        self.url = ""

    def documents(self) -> dict[str, Any]:
        r, e = self.rsa.public_key().public_numbers(), self.ec.public_key().public_numbers()
        keys = [
            {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "RS256", "n": number(r.n), "e": number(r.e)},
            {"kty": "EC", "use": "sig", "alg": "ES256", "kid": "ES256", "crv": "P-256"}
            | {"x": encoded(e.x.to_bytes(32)), "y": encoded(e.y.to_bytes(32))},
        ]
        return {
            "/.well-known/openid-configuration": {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/jwks",
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256", "ES256"],
            },
            "/jwks": {"keys": keys},
        }

    @contextmanager
    def served(self) -> Iterator[str]:
        """Discovery and keys on a free port of loopback, for as long as the block runs."""
        documents: dict[str, Any] = {}

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                found = documents.get(self.path)
                body = json.dumps(found).encode()
                self.send_response(200 if found is not None else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the method it quiets
                """Say nothing."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            self.url = f"http://127.0.0.1:{server.server_address[1]}"
            documents.update(self.documents())
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            try:
                yield self.url
            finally:
                server.shutdown()
                thread.join()

    def tokens(self, count: int, *, audience: str, workers: Executor, algorithm: Algorithm = "RS256") -> list[str]:
        """`count` genuine tokens, each with its own `jti`, `iat` now."""
        key = self.rsa if algorithm == "RS256" else self.ec
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        chunks = [min(CHUNK, count - begun) for begun in range(0, count, CHUNK)]
        signed = workers.map(sign, *zip(*[(pem, algorithm, self.url, audience, size) for size in chunks], strict=True))
        return [token for chunk in signed for token in chunk]


def sign(pem: bytes, algorithm: Algorithm, issuer: str, audience: str, count: int) -> list[str]:
    """Sign `count` tokens; runs in a worker process."""
    key = serialization.load_pem_private_key(pem, None)
    header = encoded(json.dumps({"alg": algorithm, "typ": "JWT", "kid": algorithm}).encode())
    now = int(time.time())
    return [
        _signed(key, f"{header}.{encoded(json.dumps(claims(issuer, audience, now)).encode())}") for _ in range(count)
    ]


def _signed(key: Any, text: str) -> str:
    if isinstance(key, rsa.RSAPrivateKey):
        return f"{text}.{encoded(key.sign(text.encode(), padding.PKCS1v15(), SHA256()))}"
    r, s = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(SHA256())))
    return f"{text}.{encoded(r.to_bytes(32) + s.to_bytes(32))}"


def claims(issuer: str, audience: str, now: int) -> dict[str, Any]:
    """What GitHub Actions puts into a token, in its order and length (its documentation, "OpenID Connect reference")."""
    sha = "f1c2a7d0b9e84c6f8f0e6a5d4c3b2a190817263e"
    return {
        "jti": str(uuid4()),
        "sub": f"repo:{REPOSITORY}:environment:production",
        "aud": audience,
        "ref": "refs/heads/main",
        "sha": sha,
        "repository": REPOSITORY,
        "repository_owner": "acme",
        "repository_owner_id": "9876543",
        "run_id": "17345678901",
        "run_number": "412",
        "run_attempt": "1",
        "repository_visibility": "private",
        "repository_id": REPOSITORY_ID,
        "actor_id": "1234567",
        "actor": "octo-maintainer",
        "workflow": "Deploy",
        "head_ref": "",
        "base_ref": "",
        "event_name": "push",
        "ref_protected": "true",
        "ref_type": "branch",
        "environment": "production",
        "workflow_ref": f"{REPOSITORY}/.github/workflows/deploy.yml@refs/heads/main",
        "workflow_sha": sha,
        "job_workflow_ref": "acme/ci/.github/workflows/deploy.yml@refs/tags/v4",
        "job_workflow_sha": "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567",
        "runner_environment": "github-hosted",
        "iss": issuer,
        "nbf": now - 5,
        "exp": now + LIFETIME,
        "iat": now,
    }
