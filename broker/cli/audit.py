"""`jobkey-broker audit`: read the ledger, export it, prove it. Works beside a running broker and on copies; writes nothing.

`list` is one line an event and `show` a story for people; `--json` is for programs. Text from claims is shown without control
characters, so that a branch name cannot move the cursor.
"""

import csv
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, TextIO

import typer

from broker.cli.ledger import DATABASE, PAGE, Config, Data, Since, data_folder, every, instant, ledger, story
from broker.cli.tell import clean, detail, lines, story_lines
from broker.errors import ConfigError
from broker.ledger.checkpoint import BadNote, VerifierKey
from broker.ledger.reader import Reader
from broker.ledger.records import EventQuery, StoredEvent
from broker.model import rfc3339

app = typer.Typer(no_args_is_help=True, help="Read the ledger, export it, and prove that nothing was edited.")

VKEY: Final = "log.vkey"
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_COLUMNS: Final = ("seq", "time", "type", "id", "issuer", "project", "run", "grants", "issuance", "lease", "session", "case", "detail")  # fmt: skip

Type = Annotated[str | None, typer.Option("--type", help="issued, refused, renewed, revoked, expired, reused, ...")]
Project = Annotated[str | None, typer.Option("--project", help="acme/payments")]
Run = Annotated[str | None, typer.Option("--run", help="The CI's run id.")]
Grant = Annotated[str | None, typer.Option("--grant", help="policy/grant")]


class Format(StrEnum):
    """What `export` writes."""

    JSONL = "jsonl"
    CSV = "csv"


@app.command(name="list")
def list_events(
    *,
    data: Data = None,
    config: Config = None,
    type_: Type = None,
    project: Project = None,
    run: Run = None,
    grant: Grant = None,
    since: Since = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many, the newest.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One event a line, as JSON.")] = False,
) -> None:
    """The newest events, newest first."""
    query = EventQuery(type=type_, project=project, run=run, grant=grant, since=instant(since), limit=limit)
    with ledger(data, config) as reader:
        found = reader.events(query)
        rows = [] if as_json else [_row(event) | _whose(reader, event) for event in found]
    if as_json:
        for event in found:
            print(_plain_json(event))
        return
    width = None
    if sys.stdout.isatty():
        from shutil import get_terminal_size

        width = get_terminal_size().columns
    columns = ("time", "type", "project", "grants", "id", "detail")
    for line in lines([[str(row[column]) for column in columns] for row in rows], width=width):
        print(line)


@app.command()
def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="evt_, iss_, lse_, ses_ or case_: an event, issuance, lease, session or case."
        ),
    ],
    data: Data = None,
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="The raw events, one a line, with every claim.")] = False,
) -> None:
    """The whole story of one id: its events, oldest first, and what became of its leases."""
    with ledger(data, config) as reader:
        events, leases = story(reader, name)
    if not events and not leases:
        raise ConfigError(f"{name}: the ledger holds nothing of this id")
    if as_json:
        for event in events:
            print(_plain_json(event))
        return
    for line in story_lines(events, leases):
        print(line)


@app.command()
def export(
    *,
    data: Data = None,
    config: Config = None,
    format_: Annotated[
        Format, typer.Option("--format", help="jsonl keeps the exact leaves; csv is for a spreadsheet.")
    ] = Format.JSONL,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A new file; standard output unless given.")
    ] = None,
    type_: Type = None,
    project: Project = None,
    run: Run = None,
    grant: Grant = None,
    since: Since = None,
) -> None:
    """Every event, oldest first."""
    query = EventQuery(
        type=type_, project=project, run=run, grant=grant, since=instant(since), newest_first=False, limit=PAGE
    )
    with ledger(data, config) as reader, _output(output) as out:
        if format_ is Format.CSV:
            table = csv.writer(out)
            table.writerow(_COLUMNS)
            for event in every(reader, query):
                row = _row(event)
                table.writerow([harmless(row[column]) for column in _COLUMNS])
        else:
            for event in every(reader, query):
                out.write(event.leaf.decode() + "\n")


@app.command(name="export-log")
def export_log(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    data: Data = None,
    config: Config = None,
) -> None:
    """The Merkle log as files, laid out as /log serves it (C2SP tlog-tiles)."""
    from broker.ledger import export as exporter

    with ledger(data, config) as reader:
        size = exporter.export_log(reader, folder)
    print(f"{size} leaves written to {folder}; prove them with: jobkey-broker audit verify --log {folder} --key VKEY")


@app.command()
def verify(
    *,
    data: Data = None,
    config: Config = None,
    log: Annotated[
        Path | None, typer.Option("--log", metavar="DIR", help="An exported log, instead of a database.")
    ] = None,
    database: Annotated[
        Path | None, typer.Option("--database", metavar="FILE", help="A ledger.db or a copy of one.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            help="The log's verifier key, or a file that holds it. Take it from where an editor of the ledger could not change it.",
        ),
    ] = None,
    since: Annotated[
        Path | None,
        typer.Option(
            "--since", metavar="FILE", help="A checkpoint kept from before: finds a ledger that was rolled back."
        ),
    ] = None,
) -> None:
    """Prove that no event was changed, dropped or reordered. Ends with 1 where something is wrong."""
    from broker.ledger.fsck import verify_database
    from broker.ledger.verify import verify_log

    if log is not None and database is not None:
        raise ConfigError("audit verify: give --log or --database, not both")
    older = None if since is None else _bytes(since)
    if log is not None:
        report = verify_log(log, _key(key, None), since=older)
    else:
        folder = None if database is not None else data_folder(data, config)
        path = database if database is not None else folder / DATABASE if folder is not None else Path(DATABASE)
        report = verify_database(path, _key(key, folder), since=older)
    for problem in report.problems:
        print(clean(str(problem)))
    if report.more:
        print(f"and {report.more} more")
    if report.first is not None:
        print(f"NOT PROVED. First: {clean(str(report.first))}")
        raise typer.Exit(1)
    assert report.checkpoint is not None
    print(f"proved: {report.leaves} leaves of {report.checkpoint.origin}, root {report.checkpoint.root.hex()}")


def harmless(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: an apostrophe goes before what would start one (OWASP)."""
    if isinstance(value, str):
        return "'" + value if value.startswith(_FORMULA) else value
    return value


def _row(event: StoredEvent) -> dict[str, Any]:
    from broker.ledger.rows import search_columns

    body = event.body
    names = ("issuer", "project", "run", "session", "issuance", "lease", "case", "grants")
    row: dict[str, Any] = {name: clean(value or "") for name, value in zip(names, search_columns(body), strict=True)}
    row["grants"] = " ".join((search_columns(body)[-1] or "").split("\n")).strip()
    row |= {"seq": event.seq, "time": rfc3339(event.time), "type": event.type, "id": event.id}
    return row | {"detail": clean(detail(body))}


def _whose(reader: Reader, event: StoredEvent) -> dict[str, str]:
    """The grant that a lease's end is about: the event names the lease alone."""
    body = event.body
    lease = None if "grants" in body or "lease" not in body else reader.lease(body["lease"])
    return {} if lease is None else {"grants": clean(lease.grant)}


def _plain_json(event: StoredEvent) -> str:
    return json.dumps({"seq": event.seq, **event.body})


def _key(given: str | None, folder: Path | None) -> VerifierKey:
    if given is None:
        if folder is None or not (folder / VKEY).is_file():
            raise ConfigError("audit verify: give --key, the log's verifier key (the broker keeps it in DATA/log.vkey)")
        given = str(folder / VKEY)
    text = given if "+" in given and not Path(given).is_file() else _bytes(Path(given)).decode("utf-8", "replace")
    try:
        return VerifierKey.parse(text)
    except BadNote as error:
        raise ConfigError(f"--key: {error}") from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None


@contextmanager
def _output(path: Path | None) -> Iterator[TextIO]:
    """Standard output, or a new file of mode 0600 that stands under its name only when it is whole."""
    if path is None:
        yield sys.stdout
        return
    import os
    import tempfile

    if path.exists():
        raise ConfigError(f"{path}: exists; give a new name")
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        Path(name).rename(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
