"""`jobkey-broker signin`, `signout`, `whoami`: a person's way to a running broker, through the organisation's own issuer.

Nothing secret is printed, logged or put among a process's arguments.
"""

import os
import sys
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

import typer

from broker.cli.tell import clean
from broker.model import rfc3339

T = TypeVar("T")

Broker = Annotated[
    str, typer.Option("--broker", help="The running broker's URL, as its operators write it.", envvar="JOBKEY_BROKER")
]


def run(doing: Coroutine[Any, Any, T]) -> T:
    """What went wrong is one line on standard error and exit code 1."""
    import asyncio

    from broker.people.provider import SignInFailed

    try:
        return asyncio.run(doing)
    except SignInFailed as error:
        print(f"jobkey-broker: {clean(str(error))}", file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def address(broker: str) -> str:
    """The broker's URL, checked; a wrong one is a wrong question."""
    from broker.people.provider import SignInFailed, own_address

    try:
        return own_address(broker)
    except SignInFailed as error:
        print(f"jobkey-broker: {clean(str(error))}", file=sys.stderr)
        raise typer.Exit(2) from None


def signin(
    broker: Broker,
    device: Annotated[
        bool, typer.Option("--device", help="Show a code to type in on another machine, instead of a browser here.")
    ] = False,
) -> None:
    """Sign in to a broker with your organisation's login: in a browser, or by a code where there is none."""
    run(_signin(address(broker), device=device))


def signout(broker: Broker) -> None:
    """Forget the sign-in, and take its refresh token back where the issuer can."""
    print(run(_signout(address(broker))))


def whoami(broker: Broker) -> None:
    """Whom the broker takes you for: your name, your roles, the policies that name you."""
    from broker.people import asking

    said = run(asking.ask(address(broker), "/v1/me"))
    print(f"person  {clean(str(said['person']))}")
    print(f"roles   {clean(', '.join(said['roles'])) or 'none'}")
    print(f"owns    {clean(', '.join(said['owns'])) or 'nothing'}")
    print(f"until   {clean(str(said['expires_at']))}")


async def _signin(broker: str, *, device: bool) -> None:
    from broker.people import asking, keeping
    from broker.people.device import by_device
    from broker.people.loopback import by_browser
    from broker.people.provider import provider, resource

    about = await resource(broker)
    at = await provider(about.issuer, device_endpoint=about.device_endpoint)
    print(f"signing in to {broker} with {clean(about.issuer)}", file=sys.stderr)
    use_device = device or at.authorization_endpoint is None or (at.device_endpoint is not None and not _has_browser())
    if use_device:
        tokens = await by_device(at, about, show=_show_code)
    else:
        tokens = await by_browser(at, about, show=_open)
    with keeping.alone(broker):
        keeping.write(keeping.Kept(about=about, tokens=tokens))
    said = await asking.ask(broker, "/v1/me")
    print(f"signed in as {clean(str(said['person']))}, until {rfc3339(tokens.expires_at)}", file=sys.stderr)


async def _signout(broker: str) -> str:
    from broker.people import keeping
    from broker.people.provider import SignInFailed, post_form, provider

    kept = keeping.read(broker)
    if not keeping.forget(broker) or kept is None:
        return "you were not signed in"
    try:
        at = await provider(kept.about.issuer)
        if kept.tokens.refresh_token is None or at.revocation_endpoint is None:
            return "signed out here; the issuer takes no refresh tokens back, so the last token works until its end"
        fields = {"token": kept.tokens.refresh_token.reveal(), "token_type_hint": "refresh_token"}
        await post_form(at.revocation_endpoint, fields | {"client_id": kept.about.client_id})  # RFC 7009
    except SignInFailed as error:
        return f"signed out here; the refresh token could not be taken back: {clean(str(error))}"
    return "signed out; the last token works until its end"


def _has_browser() -> bool:
    """Whether a page can be shown to the person at this terminal."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


def _open(url: str) -> None:
    import threading
    import webbrowser

    print(f"opening your browser; if none opens, go to:\n  {clean(url)}", file=sys.stderr)
    # Some browsers hold the terminal until they are closed; the answer comes to the loopback address meanwhile.
    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()


def _show_code(url: str, code: str, complete: str | None) -> None:
    print(f"on any machine, open  {clean(url)}\nand type the code     {clean(code)}", file=sys.stderr)
    if complete is not None:
        print(f"or open               {clean(complete)}", file=sys.stderr)
