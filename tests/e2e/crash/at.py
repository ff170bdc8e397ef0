"""The broker, dying at one exact step: `python -m tests.e2e.crash.at renew:3 serve --config broker.yaml`.

The steps of an operation (`issue`, `renew`, `end`) are the moments just before and just after each commit that it waits
for and each call that it makes to OpenBao, in the order they come, from 0. `os._exit` lets nothing be finished. Nothing in
the broker knows of this: its seams are wrapped from outside. What other tasks do meanwhile counts for nothing.
"""

import functools
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

DIED = 99
_inside: ContextVar[bool] = ContextVar("inside", default=False)
_counting = threading.Lock()
_passed = 0


def step(dies_at: int) -> None:
    """One boundary. Worker threads run in a copy of their request's context, so they count too."""
    global _passed  # noqa: PLW0603  one process, one count
    if not _inside.get():
        return
    with _counting:
        if _passed == dies_at:
            os._exit(DIED)
        _passed += 1


def operation(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(method)
    async def wrapped(*args: Any, **named: Any) -> Any:
        _inside.set(True)
        return await method(*args, **named)

    return wrapped


def patch(name: str, dies_at: int) -> None:
    from broker.backends.vault_api import VaultApi
    from broker.exchange.credentials import Exchange
    from broker.exchange.lifetimes import Lifetimes
    from broker.ledger.store import Ledger

    write, ask = Ledger.write, VaultApi.ask

    @functools.wraps(write)
    async def stepping_write(self: Any, entry: Any) -> None:
        step(dies_at)
        await write(self, entry)
        step(dies_at)

    @functools.wraps(ask)
    def stepping_ask(self: Any, *args: Any, **named: Any) -> Any:
        step(dies_at)
        answer = ask(self, *args, **named)
        step(dies_at)
        return answer

    Ledger.write, VaultApi.ask = stepping_write, stepping_ask
    owner, method = {"issue": (Exchange, "issue"), "renew": (Lifetimes, "renew"), "end": (Lifetimes, "end_session")}[
        name
    ]
    setattr(owner, method, operation(getattr(owner, method)))


if __name__ == "__main__":
    from broker.cli import main

    name, _, number = sys.argv.pop(1).partition(":")
    patch(name, int(number))
    main()
