"""A signed-in person's questions to a broker: the token that was kept, refreshed where it is over."""

from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from broker.model import Secret
from broker.people import keeping
from broker.people.keeping import Kept
from broker.people.provider import ProviderSaysNo, SignInFailed, exchange_json, provider, refreshed


class NotSignedIn(SignInFailed):
    """There is no sign-in that is still good."""

    def __init__(self, broker: str, why: str) -> None:
        super().__init__(f"{why}; sign in with: jobkey-broker signin --broker {broker}")


class BrokerSaysNo(SignInFailed):
    """The broker's own words, with its status."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


async def ask(
    broker: str, path: str, query: Mapping[str, str] | None = None, *, body: bytes | None = None
) -> dict[str, Any]:
    """GET `path` as the person who signed in, or POST a JSON `body` to it. Raises SignInFailed."""
    kept = await signed_in(broker)
    url = broker + path + ("?" + urlencode(query) if query else "")
    status, said = await exchange_json(url, what=f"the broker {broker}", bearer=kept.tokens.token, body=body)
    if status == HTTPStatus.UNAUTHORIZED:
        kept = await signed_in(broker, instead_of=kept.tokens.token)  # its keys or limits changed, or the clocks differ
        status, said = await exchange_json(url, what=f"the broker {broker}", bearer=kept.tokens.token, body=body)
    if status == HTTPStatus.OK:
        return said
    detail = str(said.get("detail") or said.get("title") or f"the broker answered with status {status}")
    raise BrokerSaysNo(status, detail[:600])


async def signed_in(broker: str, *, instead_of: Secret | None = None) -> Kept:
    """The sign-in that was kept, fresh; another token than `instead_of`. Raises NotSignedIn, SignInFailed."""
    kept = keeping.read(broker)
    if kept is None:
        raise NotSignedIn(broker, "you are not signed in")
    if _good(kept, instead_of):
        return kept
    with keeping.alone(broker):
        kept = keeping.read(broker)  # another command may have refreshed it
        if kept is None:
            raise NotSignedIn(broker, "you are not signed in")
        if _good(kept, instead_of):
            return kept
        if kept.tokens.refresh_token is None:
            raise NotSignedIn(broker, "your sign-in is over")
        # The issuer that gave the refresh token gets it, whatever the broker says by now.
        at = await provider(kept.about.issuer)
        try:
            tokens = await refreshed(kept.tokens.refresh_token, at, kept.about, subject=kept.tokens.subject)
        except ProviderSaysNo as no:
            keeping.forget(broker)
            raise NotSignedIn(broker, f"your sign-in is over ({no.error})") from None
        kept = Kept(about=kept.about, tokens=tokens)
        keeping.write(kept)
        return kept


def _good(kept: Kept, instead_of: Secret | None) -> bool:
    return kept.fresh(datetime.now(UTC)) and kept.tokens.token != instead_of
