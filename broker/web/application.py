"""All routes on one aiohttp application, with limits before anything is parsed."""

from collections.abc import Iterable
from typing import Protocol

from aiohttp import web

from broker.web.middleware import errors
from broker.web.wire import LARGEST_BODY


class Routes(Protocol):
    """A group of handlers that knows its own paths."""

    def add_to(self, router: web.UrlDispatcher) -> None: ...


def application(groups: Iterable[Routes]) -> web.Application:
    """The whole HTTP surface."""
    app = web.Application(middlewares=[errors], client_max_size=LARGEST_BODY)
    for group in groups:
        group.add_to(app.router)
    return app
