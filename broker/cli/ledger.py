"""Reading the ledger from the command line: which one, from when, page by page. Works beside a running broker; writes nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import typer

from broker.errors import ConfigError
from broker.ledger.reader import Reader, open_reader
from broker.ledger.records import EventQuery, LeaseRecord, StoredEvent

DATABASE: Final = "ledger.db"
PAGE: Final = 500
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}

Data = Annotated[Path | None, typer.Option("--data", help="The broker's data folder.", envvar="JOBKEY_DATA")]
Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="The service's own file, which names the data folder.", envvar="JOBKEY_CONFIG"),
]
Since = Annotated[
    str | None, typer.Option("--since", help="An instant (2026-11-21T20:00:00Z), a day, or an age (90m, 24h, 7d).")
]


@contextmanager
def ledger(data: Path | None, config: Path | None) -> Iterator[Reader]:
    """The ledger of a data folder, of the one that broker.yaml names, or of the one here. Raises ConfigError."""
    with open_reader(data_folder(data, config) / DATABASE) as reader:
        yield reader


def data_folder(data: Path | None, config: Path | None) -> Path:
    """Where the broker keeps its data. Raises ConfigError."""
    if data is not None:
        return data
    from broker.settings import load_settings

    path = config or Path("broker.yaml")
    if config is None and not path.exists():
        raise ConfigError("which ledger? give --data DIR, --config FILE, or run it beside broker.yaml")
    folder: Path = load_settings(path).data
    return folder


def instant(text: str | None, option: str = "--since") -> datetime | None:
    """What `--since` or its like says. Raises ConfigError."""
    if text is None:
        return None
    try:
        if text[:-1].isdecimal() and text[-1:] in _UNITS:
            return datetime.now(UTC) - timedelta(seconds=int(text[:-1]) * _UNITS[text[-1]])
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise ConfigError(
            f"{option} {text}: give an instant such as 2026-11-21T20:00:00Z, a day, or an age such as 24h"
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def every(reader: Reader, query: EventQuery) -> Iterator[StoredEvent]:
    """Page by page, so that a million events do not stand in memory."""
    while page := reader.events(query):
        yield from page
        query = replace(query, after=page[-1].seq)


def story(reader: Reader, name: str) -> tuple[list[StoredEvent], list[LeaseRecord]]:
    """Every event and lease that an id is about, oldest first."""
    from broker.exchange.cases import event_of

    events: dict[int, StoredEvent] = {}
    leases: dict[str, LeaseRecord] = {}

    def take(**members: str) -> None:
        for event in every(reader, EventQuery(**members, newest_first=False, limit=PAGE)):  # type: ignore[arg-type]  # names of text members
            events[event.seq] = event

    prefix = name.partition("_")[0]
    first = event_of(reader, name) if prefix == "case" else reader.event(name)
    if first is not None:
        events[first.seq] = first
    lease = reader.lease(name) if prefix == "lse" else None
    issuance = name if prefix == "iss" else None
    if lease is not None:
        leases[lease.id] = lease
        issuance = lease.issuance
    elif prefix == "ses":
        leases |= {one.id: one for one in reader.leases_of(name)}
        take(session=name)
    elif prefix in ("evt", "case") and first is not None:
        issuance = first.body.get("issuance")
    if isinstance(issuance, str):
        take(issuance=issuance)
        issued = next((event for event in events.values() if event.body.get("issuance") == issuance), None)
        if lease is None and issued is not None:
            mine = reader.leases_of(issued.body.get("session", ""))
            leases |= {one.id: one for one in mine if one.issuance == issuance}
    for one in leases.values():
        take(lease=one.id)
        ended = EventQuery(type="expired", since=one.expires_at, newest_first=False, limit=PAGE)
        events |= {event.seq: event for event in reader.events(ended) if one.id in event.body["leases"]}
    return [events[seq] for seq in sorted(events)], [leases[id_] for id_ in sorted(leases)]
