"""`await TURN`: let the other requests of this turn of the event loop come as far as this one, before it goes on.

So that under load each step of an issuance runs for many requests in a row, with its code and tables still in the
processor's caches: a signature check that takes 20 µs in a loop took 47 among everything else (docs/performance.md).
`asyncio.sleep(0)` does the same for three times the price.
"""

from collections.abc import Generator
from typing import Final


class _Turn:
    """Awaitable any number of times, by any number of tasks."""

    def __await__(self) -> Generator[None]:
        yield


TURN: Final = _Turn()
STOPS: Final = 5  # on the way of an issuance: around its signature check, after it, and around minting
