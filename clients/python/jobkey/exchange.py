"""The broker's HTTP: what is asked, and what an answer has to look like before anything in it is used.

* A token or session secret travels in the Authorization header only, over TLS, to the configured broker.
* Every member of an answer is checked for its type here; past this module a credential is well-formed.
* An answer that is not 2xx becomes a `Problem`; whether to try again is decided by `jobkey.retry`.
"""

from __future__ import annotations

import json

from jobkey import __version__, proxy
from jobkey.errors import ConfigError, Problem, ProtocolError
from jobkey.wire import Connection, ConnectionFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from jobkey.tls import Trust
    from jobkey.url import Url

REQUEST_TIMEOUT = 30.0
AGENT = f"jobkey/{__version__}"


class Session:
    """What a subject token became. `secret` is empty in answers to a request that already used it."""

    __slots__ = ("expires_at", "id", "secret")

    def __init__(self, ident: str, secret: str, expires_at: str) -> None:
        self.id = ident
        self.secret = secret
        self.expires_at = expires_at

    def __repr__(self) -> str:
        return f"Session({self.id})"


class Credential:
    """One credential. `values` may hold nested JSON; `secrets` names those of its keys that have to be masked."""

    __slots__ = ("env", "expires_at", "grant", "lease", "renewable", "secrets", "type", "values")

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.grant = _text(document, "grant")
        self.lease = _text(document, "lease")
        self.type = _text(document, "type")
        self.expires_at = _text(document, "expires_at")
        self.renewable = document.get("renewable") is True
        self.values: dict[str, Any] = _typed(document, "values", dict)
        names = _typed(document, "secrets", list)
        if not all(isinstance(name, str) for name in names):
            raise ProtocolError("the broker's answer has a malformed `secrets`")
        self.secrets: tuple[str, ...] = tuple(names)
        env = document.get("env", {})
        if not isinstance(env, dict) or not all(isinstance(value, str) for value in env.values()):
            raise ProtocolError("the broker's answer has a malformed `env`")
        self.env: dict[str, str] = env

    def __repr__(self) -> str:
        return f"Credential({self.grant}, {self.lease})"

    def secret_texts(self) -> list[str]:
        """Every text that must not be seen, wherever it lies in a marked value."""
        found: list[str] = []
        todo = [self.values[name] for name in self.secrets if name in self.values]
        while todo:
            value = todo.pop()
            if isinstance(value, str):
                found.append(value)
            elif isinstance(value, dict):
                todo.extend(value.values())
            elif isinstance(value, list):
                todo.extend(value)
        return found


class Issued:
    """The answer to one request for credentials: all grants, or it does not exist."""

    __slots__ = ("credentials", "issuance", "session")

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.issuance = _text(document, "issuance")
        session = _typed(document, "session", dict)
        secret = session.get("secret", "")
        if not isinstance(secret, str) or not (secret.isascii() and secret.isprintable()):
            raise ProtocolError("the broker's answer has a malformed session")
        self.session = Session(_text(session, "id"), secret, _text(session, "expires_at"))
        credentials = _typed(document, "credentials", list)
        if not all(isinstance(credential, dict) for credential in credentials):
            raise ProtocolError("the broker's answer has a malformed `credentials`")
        self.credentials = [Credential(credential) for credential in credentials]


class Broker:
    """One broker. Keeps its connection between calls; not thread-safe (`again()` gives a thread its own)."""

    def __init__(self, url: Url, env: Mapping[str, str]) -> None:
        self.url = url
        self._env = env
        self._trust: Trust | None = None
        if url.scheme == "https":
            from jobkey.tls import Trust

            self._trust = Trust(env.get("JOBKEY_CA_FILE", ""))
        self._connection = self._connect()

    def again(self) -> Broker:
        return Broker(self.url, self._env)

    def close(self) -> None:
        self._connection.close()

    def issue(
        self,
        bearer: str,
        grants: list[Any],
        *,
        timeout: float = REQUEST_TIMEOUT,
        verifier: str = "",
        nonce: str = "",
    ) -> Issued:
        """POST /v1/credentials. `grants` are strings or `{"grant", "ttl"?, "params"?}`."""
        body: dict[str, Any] = {"grants": grants}
        if verifier:
            body["verifier"] = verifier
        if nonce:
            body["nonce"] = nonce
        issued = Issued(self._call("POST", "/v1/credentials", bearer, body, timeout=timeout))
        asked = sorted(grant if isinstance(grant, str) else grant["grant"] for grant in grants)
        if sorted(credential.grant for credential in issued.credentials) != asked:
            raise ProtocolError("the broker answered with other grants than were asked for")
        return issued

    def renew(self, bearer: str, lease: str, *, timeout: float = REQUEST_TIMEOUT) -> str:
        """POST /v1/leases/{lease}/renew. The new end, RFC 3339."""
        return _text(
            self._call("POST", f"/v1/leases/{_segment(lease)}/renew", bearer, {}, timeout=timeout), "expires_at"
        )

    def revoke_lease(self, bearer: str, lease: str, *, timeout: float = REQUEST_TIMEOUT) -> dict[str, Any]:
        """DELETE /v1/leases/{lease}."""
        return self._call("DELETE", f"/v1/leases/{_segment(lease)}", bearer, None, timeout=timeout)

    def revoke_session(self, bearer: str, *, timeout: float = REQUEST_TIMEOUT) -> list[dict[str, Any]]:
        """DELETE /v1/session: one `{"lease", "state", "reason"?}` for each lease it had."""
        document = self._call("DELETE", "/v1/session", bearer, None, timeout=timeout)
        revoked = document.get("revoked", [])
        return [one for one in revoked if isinstance(one, dict)] if isinstance(revoked, list) else []

    def whoami(self, bearer: str, *, timeout: float = REQUEST_TIMEOUT) -> dict[str, Any]:
        """GET /v1/whoami: how the broker names this job. Does not spend the token."""
        return self._call("GET", "/v1/whoami", bearer, None, timeout=timeout)

    def _connect(self) -> Connection:
        wrap = self._trust.wrap if self._trust else None
        return Connection(self.url, proxy=proxy.for_url(self.url, self._env), tls=wrap)

    def _call(self, method: str, path: str, bearer: str, body: Any, *, timeout: float) -> dict[str, Any]:
        if not (bearer.isascii() and bearer.isprintable() and bearer and " " not in bearer):
            raise ConfigError("the identity token holds characters that no token has", "Look where the CI puts it.")
        headers = {"Authorization": f"Bearer {bearer}", "Accept": "application/json", "User-Agent": AGENT}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body, separators=(",", ":")).encode("ascii")
        target = self.url.target + path
        timeout = min(timeout, REQUEST_TIMEOUT)
        try:
            response = self._connection.request(method, target, headers, data, timeout=timeout)
        except ConnectionFailed as error:
            if self._trust is None or not self._trust.wider(error.__cause__):
                raise
            response = self._connection.request(method, target, headers, data, timeout=timeout)
        if response.status == 204:
            return {}
        document = _json(response.body)
        if 200 <= response.status < 300:
            if document is None:
                raise ProtocolError(
                    f"{self.url} answered {response.status} with something that is not a JSON object",
                    "Is JOBKEY_URL really the broker?",
                )
            return document
        raise Problem(response.status, document or {}, _seconds(response.headers.get("retry-after", "")))


def _json(body: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _seconds(text: str) -> float | None:
    """Retry-After as delta-seconds (RFC 9110 section 10.2.3); a date is not worth a date parser here."""
    return float(text) if text.isdigit() and text.isascii() and len(text) <= 6 else None


def _segment(lease: str) -> str:
    if not lease.isascii() or not lease.replace("_", "").replace("-", "").isalnum():
        raise ProtocolError("the broker named a lease that cannot be put into a URL")
    return lease


def _text(document: Mapping[str, Any], member: str) -> str:
    value = document.get(member)
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ProtocolError(f"the broker's answer has no good `{member}`")
    return value


def _typed(document: Mapping[str, Any], member: str, kind: type) -> Any:
    value = document.get(member)
    if not isinstance(value, kind):
        raise ProtocolError(f"the broker's answer has no good `{member}`")
    return value
