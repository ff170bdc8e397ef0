"""One OpenBao or Vault server, asked through hvac. Blocking: runs in worker threads.

* Errors name the step and the status, never the server's text: engines put connection strings and values into it.
* No redirect is followed (the token would travel with it), and neither proxies nor `.netrc` of the environment are used.
* Throttling, a standby and a broken connection are tried again until the step's time is over.
"""

import time
from collections.abc import Callable, Mapping
from http import cookiejar
from typing import Any, Final

import hvac
import requests
import urllib3
from hvac.adapters import RawAdapter

from broker.backends.seam import BackendError
from broker.references import BrokenReference, SecretReference

PASSING: Final = frozenset({412, 429, 472, 473, 502, 503, 504})  # not caught up, throttled, standby, sealed
LARGEST: Final = 1 << 20  # bytes of an answer
Call = Callable[[Any], requests.Response]


class Refused(BackendError):
    """The server answered, and not with success."""

    def __init__(self, message: str, *, status: int, errors: tuple[str, ...] = ()) -> None:
        super().__init__(message, retry=status in PASSING or status >= 500)  # noqa: PLR2004
        self.status = status
        self._errors = errors  # read here, shown nowhere

    def says(self, words: str) -> bool:
        """Whether the server's own text has these words; the text itself stays here."""
        return any(words in error.lower() for error in self._errors)


class VaultApi:
    """A connection pool to one server, and the broker's own token by reference."""

    def __init__(
        self,
        name: str,
        *,
        url: str,
        token: SecretReference,
        namespace: str | None,
        ca_file: str | None,
        threads: int,
    ) -> None:
        self._name, self._url, self._token, self._namespace = name, url, token, namespace
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = ca_file or True
        self._session.cookies.set_policy(cookiejar.DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=threads))

    def close(self) -> None:
        self._session.close()

    def ask(self, step: str, call: Call, *, until: float, token: str | None = None) -> Mapping[str, Any]:
        """The JSON answer of `call(client)`, `{}` for 204. `until` is monotonic. Raises Refused or BackendError.

        Without `token` the broker's own is used, read anew each time.
        """
        pause = 0.05
        while True:
            try:
                return self._once(step, call, until, token)
            except BackendError as error:
                passing = not isinstance(error, Refused) or error.status in PASSING
                if not (error.retry and passing) or time.monotonic() + pause >= until:
                    raise
            time.sleep(pause)
            pause = min(pause * 2, 1.0)

    def _once(self, step: str, call: Call, until: float, token: str | None) -> Mapping[str, Any]:
        try:
            secret = token or self._token.resolve().reveal()
        except BrokenReference as error:
            raise BackendError(f"{self._name}: {error}") from None
        client = hvac.Client(
            url=self._url,
            token=secret,
            namespace=self._namespace,
            session=self._session,
            timeout=max(0.5, until - time.monotonic()),
            allow_redirects=False,
            adapter=RawAdapter,
            ignore_exceptions=True,
        )
        try:
            response = call(client)
            body = _body(response)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            # `from None`: requests' errors hold the request, and the request holds the token
            raise BackendError(f"{self._name}: {step}: no answer ({type(error).__name__})") from None
        status = response.status_code
        if 200 <= status < 300:  # noqa: PLR2004
            return body
        errors = body.get("errors")
        said = tuple(str(item) for item in errors) if isinstance(errors, list) else ()
        raise Refused(f"{self._name}: {step}: the server answered {status}{_hint(status)}", status=status, errors=said)


def _body(response: requests.Response) -> Mapping[str, Any]:
    if len(response.content) > LARGEST:
        raise BackendError("the server's answer is larger than 1 MiB", retry=False)
    try:
        body = response.json() if response.content else {}
    except ValueError:
        body = {}
    return body if isinstance(body, dict) else {}


def _hint(status: int) -> str:
    if 300 <= status < 400:  # noqa: PLR2004
        return "; it redirects, and a token is not sent after it: configure the address of the active node"
    if status == 403:  # noqa: PLR2004
        return "; the policies of the token do not allow it"
    return ""
