"""A small true fake of the broker's HTTP, and of a CI's token service, for tests of the clients.

It speaks real HTTP (and TLS) on loopback and keeps the broker's promises that a client leans on: a token is good once
and again with the same nonce, a bound audience needs its verifier, a session owns its leases, a 422 spends nothing.
Tokens are unsigned: what a signature is worth is the real broker's business. SSH certificates are real ones.
"""

import base64
import datetime as dt
import hashlib
import ipaddress
import itertools
import json
import ssl
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ISSUER = "https://ci.example"


def make_token(aud: str, **claims: Any) -> str:
    """An unsigned JWT of the practice CI, good for five minutes."""
    now = int(time.time())
    body = {
        "iss": ISSUER,
        "sub": "repo:acme/payments",
        "aud": aud,
        "jti": str(uuid.uuid4()),
        "iat": now,
        "exp": now + 300,
    }
    parts = [{"alg": "none"}, body | claims]
    return ".".join([*(_b64(json.dumps(part).encode()) for part in parts), "c2lnbmF0dXJl"])


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _claims(token: str) -> dict[str, Any]:
    try:
        body = token.split(".")[1]
        return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (ValueError, IndexError):
        return {}


@dataclass
class Scripted:
    """One answer to give instead of the true one; `apply` does the true work first and then loses its answer."""

    status: int = 0  # 0 cuts the connection
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    apply: bool = False
    raw: bytes | None = None  # these bytes and no more
    delay: float = 0


class Server:
    """A threading HTTP server on loopback, with TLS if it is given a certificate."""

    def __init__(self, handle: Callable[["Handler"], None], tls: "Authority | None" = None) -> None:
        outer = self

        class Bound(Handler):
            def answer(self) -> None:
                handle(self)

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Clients of these tests hang up in the middle on purpose."""

        self.connections = 0
        self._http = Quiet(("127.0.0.1", 0), Bound)
        self._http.outer = outer  # type: ignore[attr-defined]  # for counting
        if tls is not None:
            self._http.socket = tls.server_context().wrap_socket(
                self._http.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self._http.server_address[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536
    disable_nagle_algorithm = True

    def setup(self) -> None:
        self.server.outer.connections += 1
        super().setup()

    def answer(self) -> None:
        raise NotImplementedError

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        self.content = self.rfile.read(length)
        self.answer()

    do_POST = do_DELETE = do_GET  # noqa: N815 - the library's names

    def reply(self, status: int, document: Any = None, **headers: str) -> None:
        body = b"" if document is None else document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        kind = "application/json" if status < 400 else "application/problem+json"
        for name, value in ({"Content-Type": kind, "Content-Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        pass


class FakeBroker:
    """`grants` maps a name to a maker: (params, ttl) -> the credential's own members."""

    def __init__(self, tls: "Authority | None" = None) -> None:
        self.server = Server(self._answer, tls)
        self.url = self.server.url
        self.audience = self.url
        self.script: list[Scripted] = []
        self.requests: list[tuple[str, str]] = []
        self.bodies: list[dict[str, Any]] = []
        self.leases: dict[str, dict[str, Any]] = {}
        self.sessions: dict[str, dict[str, Any]] = {}  # by secret
        self._used: dict[str, tuple[str, str]] = {}  # jti -> nonce, session secret
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._ca = tempfile.TemporaryDirectory()
        self.grants: dict[str, Callable[[dict[str, Any], int], dict[str, Any]]] = {
            "payments/deploy": _aws,
            "payments/token": _jwt,
            "payments/ssh": self._ssh,
            "payments/other-token": _jwt,
        }

    def close(self) -> None:
        self.server.close()
        self._ca.cleanup()

    @property
    def secrets(self) -> set[str]:
        """Everything that must never be seen outside a child."""
        found = set(self.sessions)
        for lease in self.leases.values():
            found |= {lease["values"][name] for name in lease["secrets"]}
        return found

    def active(self) -> list[str]:
        return [lease for lease, one in self.leases.items() if one["state"] == "active"]

    def _answer(self, http: Handler) -> None:
        self.requests.append((http.command, http.path))
        scripted = self.script.pop(0) if self.script else None
        if scripted is not None:
            time.sleep(scripted.delay)
            if scripted.apply:
                self._route(http)
            elif scripted.raw is not None:
                http.wfile.write(scripted.raw)
                http.wfile.flush()
            elif scripted.status:
                http.reply(scripted.status, scripted.body, **scripted.headers)
                return
            http.close_connection = True
            return
        status, document = self._route(http)
        http.reply(status, document)

    def _route(self, http: Handler) -> tuple[int, Any]:
        bearer = http.headers.get("Authorization", "").removeprefix("Bearer ")
        parts = http.path.strip("/").split("/")
        with self._lock:
            match http.command, parts:
                case "POST", ["v1", "credentials"]:
                    return self._issue(bearer, json.loads(http.content))
                case "GET", ["v1", "whoami"]:
                    return self._whoami(bearer)
                case "POST", ["v1", "leases", lease, "renew"]:
                    return self._renew(bearer, lease)
                case "DELETE", ["v1", "leases", lease]:
                    return self._revoke(bearer, lease)
                case "DELETE", ["v1", "session"]:
                    return self._end(bearer)
        return _problem(404, "There is no such thing")

    def _verified(self, token: str) -> tuple[dict[str, Any], str] | None:
        claims = _claims(token)
        audience, mark, challenge = str(claims.get("aud", "")).partition("#S256.")
        if claims.get("iss") != ISSUER or audience != self.audience or claims.get("exp", 0) < time.time():
            return None
        return claims, challenge if mark else ""

    def _issue(self, bearer: str, body: dict[str, Any]) -> tuple[int, Any]:
        self.bodies.append(body)
        session = self.sessions.get(bearer)
        if session is not None:
            if session["ended"] or "verifier" in body or "nonce" in body:
                return _problem(401 if session["ended"] else 422, "The session is not good")
            return self._mint(body, bearer, session, told=False)
        verified = self._verified(bearer)
        if verified is None:
            return _problem(401, "The subject token is not good", detail="The audience or the issuer is not ours.")
        claims, challenge = verified
        given = _b64(hashlib.sha256(body.get("verifier", "").encode()).digest())
        if challenge and given != challenge:
            return _problem(401, "The subject token is not good", detail="The verifier does not fit the audience.")
        used = self._used.get(claims["jti"])
        if used is not None and used[0] != body.get("nonce"):
            return _problem(409, "The subject token was used before", case="case_reused")
        if claims.get("event_name") == "pull_request":
            return _problem(403, "No policy grants this", case="case_0123", detail="No policy grants this to this job.")
        secret = f"sess_{uuid.uuid4().hex}{uuid.uuid4().hex}"
        session = {"id": f"ses_{next(self._ids)}", "leases": [], "ended": False}
        status, document = self._mint(body, secret, session, told=True)
        if status == 200:
            if used is not None:
                self._end(used[1])
            self._used[claims["jti"]] = (body.get("nonce", ""), secret)
            self.sessions[secret] = session
        return status, document

    def _mint(self, body: dict[str, Any], secret: str, session: dict[str, Any], *, told: bool) -> tuple[int, Any]:
        credentials, missing = [], []
        for asked in body["grants"]:
            wish = asked if isinstance(asked, dict) else {"grant": asked}
            name = wish["grant"]
            if name not in self.grants:
                return _problem(403, "No policy grants this", case="case_0404")
            ttl = int(wish.get("ttl", "300s").rstrip("smh")) * {"s": 1, "m": 60, "h": 3600}[wish.get("ttl", "300s")[-1]]
            try:
                made = self.grants[name](wish.get("params", {}), ttl)
            except KeyError as error:
                missing.append({"grant": name, "param": error.args[0], "make": "ssh-public-key"})
                continue
            except ValueError as error:
                return _problem(422, "The request is wrong", detail=str(error))
            lease = f"lse_{next(self._ids)}"
            credentials.append({"grant": name, "lease": lease, "expires_at": _end(ttl), "renewable": False} | made)
        if missing:
            return _problem(422, "The request is wrong", missing=missing)
        for one in credentials:
            self.leases[one["lease"]] = {**one, "state": "active", "renewals": 0}
            session["leases"].append(one["lease"])
        shown = {"id": session["id"], "expires_at": _end(3600)} | ({"secret": secret} if told else {})
        return 200, {"issuance": f"iss_{next(self._ids)}", "session": shown, "credentials": credentials}

    def _whoami(self, bearer: str) -> tuple[int, Any]:
        verified = self._verified(bearer)
        if verified is None:
            return _problem(401, "The subject token is not good")
        claims = verified[0]
        return 200, {
            "issuer": "practice",
            "kind": "github",
            "job": {"project": "acme/payments", "ref": "refs/heads/main", "ref_protected": True},
            "unsafe_triggers": ["pull_request"] if claims.get("event_name") == "pull_request" else [],
            "expires_at": _end(300),
        }

    def _renew(self, bearer: str, lease: str) -> tuple[int, Any]:
        if not self._owns(bearer, lease):
            return _problem(401, "The session is not good")
        self.leases[lease]["renewals"] += 1
        return 200, {"lease": lease, "expires_at": _end(8)}

    def _revoke(self, bearer: str, lease: str) -> tuple[int, Any]:
        if not self._owns(bearer, lease):
            return _problem(404, "No such lease in this session")
        self.leases[lease]["state"] = "revoked"
        return 200, {"lease": lease, "state": "revoked"}

    def _end(self, bearer: str) -> tuple[int, Any]:
        session = self.sessions.get(bearer)
        if session is None or session["ended"]:
            return _problem(401, "The session is not good")
        session["ended"] = True
        ending = [lease for lease in session["leases"] if self.leases[lease]["state"] == "active"]
        for lease in ending:
            self.leases[lease]["state"] = "revoked"
        return 200, {"revoked": [{"lease": lease, "state": "revoked"} for lease in ending]}

    def _owns(self, bearer: str, lease: str) -> bool:
        session = self.sessions.get(bearer)
        return session is not None and not session["ended"] and lease in session["leases"]

    def _ssh(self, params: dict[str, Any], ttl: int) -> dict[str, Any]:
        folder = Path(self._ca.name)
        if not (folder / "ca").exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "ca"], check=True)
        (folder / "job.pub").write_text(params["public_key"] + "\n")
        sign = ["ssh-keygen", "-q", "-s", "ca", "-I", "job", "-n", "deploy", "-V", f"-1m:+{ttl}s", "job.pub"]
        if subprocess.run(sign, cwd=folder, stderr=subprocess.DEVNULL, check=False).returncode:
            raise ValueError("that is no SSH public key")
        text = (folder / "job-cert.pub").read_text().strip()
        return {"type": "ssh-certificate", "values": {"certificate": text}, "secrets": [], "env": {}}


def _end(ttl: float) -> str:
    return (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=ttl)).isoformat(timespec="seconds").replace("+00:00", "Z")


def _problem(status: int, title: str, **members: Any) -> tuple[int, Any]:
    return status, {"type": "about:blank", "title": title, "status": status} | members


def _aws(params: dict[str, Any], ttl: int) -> dict[str, Any]:
    secret, session = f"wJalr/{uuid.uuid4().hex}+K", f"FwoG{uuid.uuid4().hex}{uuid.uuid4().hex}=="
    values = {"access_key_id": "ASIAEXAMPLE", "secret_access_key": secret, "session_token": session}
    env = {"AWS_ACCESS_KEY_ID": "ASIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": session}
    return {"type": "aws", "values": values, "secrets": ["secret_access_key", "session_token"], "env": env}


def _jwt(params: dict[str, Any], ttl: int) -> dict[str, Any]:
    token = make_token("https://downstream.example", n=uuid.uuid4().hex)
    return {"type": "jwt", "values": {"token": token}, "secrets": ["token"], "env": {"JOBKEY_TOKEN": token}}


class TokenService:
    """The CI's own endpoint: GitHub's and Azure's shapes, and Google's metadata, by path."""

    BEARER = "request-token-of-the-runner"

    def __init__(self, **claims: Any) -> None:
        self.claims = claims
        self.given: list[str] = []
        self.failures = 0  # so many times 503 first
        self.mint: Callable[[str], str] = lambda audience: make_token(audience, **self.claims)
        self.server = Server(self._answer)
        self.url = self.server.url

    def close(self) -> None:
        self.server.close()

    def github_env(self) -> dict[str, str]:
        return {
            "GITHUB_ACTIONS": "true",
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.url}/github?api-version=2.0",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": self.BEARER,
        }

    def _answer(self, http: Handler) -> None:
        from urllib.parse import parse_qs, urlsplit

        if self.failures:
            self.failures -= 1
            http.reply(503, {})
            return
        url = urlsplit(http.path)
        query = parse_qs(url.query)
        bearer = http.headers.get("Authorization", "")
        if url.path == "/github" and bearer == f"bearer {self.BEARER}" and query["api-version"] == ["2.0"]:
            http.reply(200, {"count": 1, "value": self._token(query["audience"][0])})
        elif url.path == "/azure" and http.command == "POST" and bearer == f"Bearer {self.BEARER}" and not http.content:
            assert query["api-version"] == ["7.1"]
            http.reply(200, {"oidcToken": self._token("api://AzureADTokenExchange")})
        elif url.path.startswith("/computeMetadata/v1/") and http.headers.get("Metadata-Flavor") == "Google":
            http.reply(200, self._token(query["audience"][0]).encode())
        elif url.path == "/redirect":
            http.reply(302, {}, Location=f"{self.url}/github?api-version=2.0&audience=x")
        else:
            http.reply(401, {})

    def _token(self, audience: str) -> str:
        token = self.mint(audience)
        self.given.append(token)
        return token


class Authority:
    """A CA for one test run; its certificates are good for 127.0.0.1 and localhost."""

    def __init__(self, folder: Path) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        def name(text: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

        def build(subject: str, public: Any, *, ca: bool) -> Any:
            now = dt.datetime.now(dt.UTC)
            usage = dict.fromkeys(
                (
                    "content_commitment",
                    "key_encipherment",
                    "data_encipherment",
                    "key_agreement",
                    "encipher_only",
                    "decipher_only",
                ),
                False,
            )
            builder = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name("test authority"))
            builder = builder.public_key(public).serial_number(x509.random_serial_number())
            builder = builder.not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(now + dt.timedelta(days=1))
            builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            builder = builder.add_extension(
                x509.KeyUsage(digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, **usage), critical=True
            )
            builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            builder = builder.add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(root.public_key()), critical=False
            )
            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            if not ca:
                builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
            return builder.sign(root, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

        root, leaf = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        self.ca_file = folder / "ca.pem"
        self._chain = folder / "leaf.pem"
        self.ca_file.write_bytes(build("test authority", root.public_key(), ca=True))
        key = leaf.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self._chain.write_bytes(build("127.0.0.1", leaf.public_key(), ca=False) + key)

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._chain)
        return context


@contextmanager
def running(tls: Authority | None = None) -> Iterator[FakeBroker]:
    broker = FakeBroker(tls)
    try:
        yield broker
    finally:
        broker.close()
