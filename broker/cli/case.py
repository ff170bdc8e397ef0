"""`jobkey-broker case`: why a job was refused. On the broker's own host from its ledger, elsewhere as a person who signed in.

The ledger is read and never written, beside a running broker too; whoever may read the file sees everything. With --broker, or
JOBKEY_BROKER, the broker decides what this person sees. Text from claims is shown without control characters.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import quote

import typer

from broker.cli.ledger import instant, ledger
from broker.cli.signin import address, run
from broker.cli.tell import clean, lines
from broker.errors import ConfigError, UnknownCase

if TYPE_CHECKING:
    from broker.exchange.cases import CaseQuery

app = typer.Typer(
    name="case", help="Look up why a job was refused, by case number, run or project.", no_args_is_help=True
)

_JOB: Final = ("project", "project_id", "ref", "environment", "trigger", "actor", "run_id", "run_url")

Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="broker.yaml of the broker on this host.", envvar="JOBKEY_CONFIG")
]
Data = Annotated[Path | None, typer.Option("--data", help="The data folder of the broker on this host.")]
Broker = Annotated[
    str | None, typer.Option("--broker", help="A running broker's URL; sign in first.", envvar="JOBKEY_BROKER")
]
AsJson = Annotated[bool, typer.Option("--json", help="The whole case as JSON, with every claim.")]


@app.command()
def show(
    case: Annotated[str, typer.Argument(metavar="CASE", help="The number that the job was told: case_...")],
    *,
    config: Config = None,
    data: Data = None,
    broker: Broker = None,
    as_json: AsJson = False,
) -> None:
    """What was asked, what stood in the way, and what to do next."""
    if _local(config, data, broker):
        from broker.exchange.cases import show_in

        with ledger(data, config) as reader:
            try:
                found = show_in(reader, case)
            except UnknownCase:
                print(f"jobkey-broker: {clean(case)}: the ledger has no such case", file=sys.stderr)
                print("a stranger's case is recorded a minute after it was told", file=sys.stderr)
                raise typer.Exit(1) from None
    else:
        from broker.people import asking

        found = run(asking.ask(address(broker or ""), f"/v1/cases/{quote(case, safe='')}"))
    if as_json:
        print(json.dumps(found, indent=2))
        return
    for line in told(found):
        print(line)


@app.command("list")
def list_(
    *,
    config: Config = None,
    data: Data = None,
    broker: Broker = None,
    run_id: Annotated[str | None, typer.Option("--run", help="The CI's run id.")] = None,
    project: Annotated[str | None, typer.Option("--project", help="acme/payments")] = None,
    policy: Annotated[str | None, typer.Option("--policy", help="Cases near this policy.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="An instant (2026-11-21T20:00:00Z), a day, or an age (90m, 24h, 7d).")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", help="As --since; up to here.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many, the newest.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One case a line, as JSON.")] = False,
) -> None:
    """The newest cases, newest first."""
    from broker.exchange.cases import CaseQuery, find_in

    query = CaseQuery(
        run=run_id, project=project, policy=policy, since=instant(since, "--since"), until=instant(until, "--until"), limit=limit
    )  # fmt: skip
    if _local(config, data, broker):
        with ledger(data, config) as reader:
            rows: list[Mapping[str, Any]] = list(find_in(reader, query).cases)
    else:
        rows = run(_remote(address(broker or ""), query))
    if as_json:
        for row in rows:
            print(json.dumps(row))
        return
    if not rows:
        print("no cases", file=sys.stderr)
        return
    cells = [
        [
            clean(str(row.get(name) or ""))
            if name not in {"grants", "policies"}
            else clean(" ".join(row.get(name) or ()))
            for name in ("time", "case", "code", "project", "run_id", "grants", "policies")
        ]
        for row in rows
    ]
    for line in lines(cells, width=None):
        print(line)


async def _remote(broker: str, query: "CaseQuery") -> list[Mapping[str, Any]]:
    """Page after page, until there are enough."""
    from broker.people import asking

    given = {"run": query.run, "project": query.project, "policy": query.policy}
    for name, moment in (("since", query.since), ("until", query.until)):
        given[name] = None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    asked = {name: value for name, value in given.items() if value is not None}
    rows: list[Mapping[str, Any]] = []
    while len(rows) < query.limit:
        page = await asking.ask(broker, "/v1/cases", asked | {"limit": str(min(query.limit - len(rows), 200))})
        rows += page["cases"]
        if "next" not in page:
            break
        asked["before"] = page["next"]
    return rows


def told(case: Mapping[str, Any]) -> Iterator[str]:
    """A case in words."""
    yield f"{clean(case['case'])}  {clean(case['time'])}  {clean(case['code'])}"
    job = case.get("job") or {}
    yield from _labelled("job", [f"{name} {job[name]}" for name in _JOB if name in job])
    yield from _labelled("issuer", [str(case["issuer"])] if case.get("issuer") else [])
    yield from _labelled("asked", [" ".join(case.get("grants", ()))])
    if case.get("count"):
        yield from _labelled("count", [f"{case['count']} refusals since {case.get('from')}"])
    for group in case.get("near", ()):
        where = f" trust[{group['statement']}]" if "statement" in group else ""
        yield ""
        yield f"  near {clean(group['policy'])}{where}"
        for key in group.get("held", ()):
            yield f"    ok    {clean(key)}"
        for miss in group["misses"]:
            first = "  <- first miss" if miss["first"] else ""
            yield f"    miss  {clean(miss['key'])}: expected {clean(miss['expected'])}, got {clean(miss['got'])}{first}"
    if not case.get("near") and case.get("reason"):
        yield from _labelled("why", str(case["reason"]).split("\n"))
    yield ""
    yield from _labelled("next", [str(case.get("remedy", ""))])


def _labelled(label: str, texts: list[str]) -> Iterator[str]:
    for number, text in enumerate(texts):
        yield f"  {('' if number else label).ljust(8)}{clean(text)}".rstrip()


def _local(config: Path | None, data: Path | None, broker: str | None) -> bool:
    """A folder or file named on purpose wins over a broker that the environment names."""
    if broker and (config or data):
        raise ConfigError("case: give --broker, or --config (--data) of a broker on this host, not both")
    return not broker
