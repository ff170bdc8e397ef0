"""Sign in with a browser somewhere else: the device authorization grant (RFC 8628).

The terminal shows a code and an address, and asks the issuer until the person has decided, never oftener than it said.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from broker.issuers.urls import split
from broker.model import Secret
from broker.people.provider import (
    Provider,
    ProviderSaysNo,
    Resource,
    SignInFailed,
    Tokens,
    post_form,
    refreshed,
    tokens_of,
)

GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
SLOWER: Final = 5.0  # seconds, RFC 8628 section 3.5
LONGEST: Final = 1_800.0
_LARGEST: Final = 10**9

Show = Callable[[str, str, str | None], None]


async def by_device(
    at: Provider, about: Resource, *, show: Show, sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep
) -> Tokens:
    """`show` is given the address, the code, and an address that holds the code where there is one. Raises SignInFailed."""
    if at.device_endpoint is None:
        raise SignInFailed(f"the issuer {at.issuer} names no device authorization endpoint; sign in with a browser")
    scope = " ".join(about.scopes)
    begun = await post_form(at.device_endpoint, {"client_id": about.client_id, "scope": scope})
    device, code, address, interval, lasts = _begun(begun)
    show(address, code, _complete(begun))
    fields = {"grant_type": GRANT, "device_code": device, "client_id": about.client_id}
    end = time.monotonic() + lasts
    while time.monotonic() < end:
        await sleep(interval)
        try:
            answer = await post_form(at.token_endpoint, fields)
        except ProviderSaysNo as no:
            match no.error:
                case "authorization_pending":
                    continue
                case "slow_down":
                    interval += SLOWER
                    continue
                case "expired_token":
                    break
                case "access_denied":
                    raise SignInFailed("the sign-in was denied on the issuer's page") from None
                case _:
                    raise
        except SignInFailed:  # the network: section 3.5 wants longer pauses
            interval = min(interval * 2, 60.0)
            continue
        return await _tokens(answer, at, about)
    raise SignInFailed("the code was not used in time; try again")


async def _tokens(answer: Mapping[str, Any], at: Provider, about: Resource) -> Tokens:
    """Some issuers give the ID token of a device's sign-in only with its first refresh (OpenID Connect Core section 12.2)."""
    again = answer.get("refresh_token")
    if not about.access_tokens and answer.get("id_token") is None and isinstance(again, str):
        return await refreshed(Secret(again), at, about, subject=None)
    return await tokens_of(answer, at, about)


def _begun(said: Mapping[str, Any]) -> tuple[str, str, str, float, float]:
    """RFC 8628 section 3.2. Raises SignInFailed."""
    device, code, address = (said.get(name) for name in ("device_code", "user_code", "verification_uri"))
    interval, lasts = said.get("interval", 5), said.get("expires_in", 0)
    if (
        not isinstance(device, str) or not isinstance(code, str) or not isinstance(address, str)
        or not isinstance(interval, int | float) or not isinstance(lasts, int | float)
        or not -_LARGEST < interval < _LARGEST or not -_LARGEST < lasts < _LARGEST
    ):  # fmt: skip
        raise SignInFailed("the issuer's answer to the device is not one of RFC 8628")
    return device, code, _plain(address), min(max(float(interval), 1.0), 60.0), min(float(lasts), LONGEST)


def _complete(said: Mapping[str, Any]) -> str | None:
    address = said.get("verification_uri_complete")
    return _plain(address) if isinstance(address, str) else None


def _plain(address: str) -> str:
    """A page that a person may open: https, or this machine. Raises SignInFailed."""
    try:
        split(address.partition("?")[0])
    except ValueError:
        raise SignInFailed("the issuer sends people to a page that is not https") from None
    if not address.isprintable():
        raise SignInFailed("the issuer sends people to a page that is no address")
    return address
