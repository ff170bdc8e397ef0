"""Sign in with a browser on this machine: the authorization code flow with PKCE on a loopback redirect (RFC 8252, RFC 7636).

* The code comes to 127.0.0.1, on a port that the system chose for this one sign-in, and is worth nothing without the verifier.
* An answer with another `state` is not ours: it is told so, and the waiting goes on. Where the answer names its issuer, or
  the issuer says its answers do, it has to be the one that was asked (RFC 9207: no mix-up).
"""

import asyncio
import hashlib
import hmac
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web

from broker.people.provider import Provider, ProviderSaysNo, Resource, SignInFailed, Tokens, post_form, tokens_of

PATIENCE: Final = 300.0  # seconds
PATH: Final = "/callback"
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",  # the address in the browser's bar holds the code
    "Content-Security-Policy": "default-src 'none'",
}
_DONE: Final = "<!doctype html><title>Jobkey</title><p>You can close this page and go back to the terminal."
_NOT_OURS: Final = "<!doctype html><title>Jobkey</title><p>This is not the sign-in that the terminal waits for."


class Callback:
    """The one page of a server that lives for one sign-in."""

    def __init__(self, state: str) -> None:
        self._state = state
        self.answer: asyncio.Future[Mapping[str, str]] = asyncio.get_running_loop().create_future()

    async def handle(self, request: web.Request) -> web.Response:
        """Take the first answer to our question, and no other."""
        given = request.query
        ours = len(set(given)) == len(given) and hmac.compare_digest(
            given.get("state", "").encode(), self._state.encode()
        )
        if not ours or self.answer.done():
            return web.Response(status=400, text=_NOT_OURS, content_type="text/html", headers=_HEADERS)
        self.answer.set_result(dict(given))
        return web.Response(text=_DONE, content_type="text/html", headers=_HEADERS)


async def by_browser(
    at: Provider, about: Resource, *, show: Callable[[str], None], patience: float = PATIENCE
) -> Tokens:
    """`show` is given the address to open. Raises SignInFailed."""
    if at.authorization_endpoint is None:
        raise SignInFailed(f"the issuer {at.issuer} has no page to sign in at; try --device")
    verifier, state, nonce = (secrets.token_urlsafe(48) for _ in range(3))
    challenge = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    callback = Callback(state)
    app = web.Application()
    app.router.add_get(PATH, callback.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()  # RFC 8252 section 8.3: the address, not a name
        redirect = f"http://127.0.0.1:{runner.addresses[0][1]}{PATH}"
        asked = {
            "response_type": "code",
            "client_id": about.client_id,
            "redirect_uri": redirect,
            "scope": " ".join(about.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        show(at.authorization_endpoint + "?" + urlencode(asked))
        try:
            given = await asyncio.wait_for(callback.answer, patience)
        except TimeoutError:
            raise SignInFailed(f"nobody signed in within {patience:.0f} s; try again, or try --device") from None
    finally:
        await runner.cleanup()
    fields: dict[str, Any] = {
        "grant_type": "authorization_code",
        "code": _code(given, at),
        "redirect_uri": redirect,
        "client_id": about.client_id,
        "code_verifier": verifier,
    }
    return await tokens_of(await post_form(at.token_endpoint, fields), at, about, nonce=nonce)


def _code(given: Mapping[str, str], at: Provider) -> str:
    """The code of an answer. Raises SignInFailed."""
    said = given.get("iss")
    if (said is not None or at.says_iss) and said != at.issuer:
        raise SignInFailed("the answer came from another issuer than the one that was asked; nothing was sent to it")
    if "error" in given:
        raise ProviderSaysNo(given["error"][:100], given.get("error_description", "")[:300])
    if not given.get("code"):
        raise SignInFailed("the issuer answered without a code")
    return given["code"]
