"""Keys in the ledger: which key signed from when, so that a forged token or checkpoint can be told from a real one."""

from collections.abc import Iterable

from broker.keys import KeyStore
from broker.ledger import events
from broker.ledger.records import Entry, EventQuery
from broker.ledger.store import Ledger


async def record_keys(ledger: Ledger, keys: KeyStore, roles: Iterable[str]) -> int:
    """Write an event for each key that the ledger has not seen; how many. Raises LedgerUnwritable."""
    known: set[str] = set()
    after = -1
    while found := await ledger.events(EventQuery(type="key-made", newest_first=False, after=after, limit=500)):
        known |= {event.body["kid"] for event in found}
        after = found[-1].seq
    fresh = [
        events.key_made(role=role, kid=key.kid, algorithm=key.algorithm)
        for role in roles
        for key in keys.public(role)
        if key.kid not in known
    ]
    if fresh:
        await ledger.write(Entry(events=tuple(fresh)))
    return len(fresh)
