"""`jobkey-broker policy diff`: what a change of policies does, proved, for the terminal and for the pull request."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import orjson
import typer
from rich.console import Console
from rich.text import Text

from broker.authoring.compare.claims import claims_line
from broker.authoring.compare.difference import Change, Difference, compare
from broker.authoring.compare.json_ import as_json, replay_as_json
from broker.authoring.compare.markdown import markdown
from broker.authoring.compare.replay import REPLAYED, Replay, Replayed
from broker.authoring.compare.replay_words import replay_headline, replay_lines, unused_lines
from broker.authoring.compare.switch import switched
from broker.authoring.compare.words import (
    Line,
    Quote,
    Words,
    grant_lines,
    headline,
    job_rows,
    limit_lines,
    miss_words,
    notes,
    plain,
    policy_lines,
    tally,
)
from broker.cli.policy.setting import Config
from broker.cli.policy.show import excerpt
from broker.cli.policy.sides import Broken, Side, ground, load_side, read_sides
from broker.cli.tell import clean
from broker.errors import ConfigError
from broker.issuers.seam import IssuerKind
from broker.policy import PolicySet
from broker.proof import Verdict

LONGEST_REPLAY: Final = 3650  # days
_STYLES: Final = {Verdict.NONE: "", Verdict.UNKNOWN: "yellow", Verdict.SOME: "bold red"}


class Format(StrEnum):
    """How the answer is written."""

    TEXT = "text"
    MARKDOWN = "markdown"
    JSON = "json"


def diff(
    *,
    old: Annotated[str, typer.Argument(metavar="OLD", help="A folder, or a git revision: main, v1.2, HEAD~1.")],
    new: Annotated[
        str | None, typer.Argument(metavar="[NEW]", help="The same; . is the working tree. With --next: OLD unless given.")
    ] = None,
    next_: Annotated[
        bool, typer.Option("--next", help="Take NEW as if its versions on trial (`next:`) decided.")
    ] = False,
    policies: Annotated[
        Path | None, typer.Option("--policies", "-p", help="The folder of policies in both, such as policies.")
    ] = None,
    config: Config = None,
    guardrails: Annotated[
        Path | None,
        typer.Option(help="guardrails.yaml, where no --config names it; at a revision, the file as it was then."),
    ] = None,
    old_guardrails: Annotated[
        Path | None, typer.Option("--old-guardrails", help="OLD's own guardrails.yaml, where it is another file.")
    ] = None,
    replay: Annotated[
        int | None,
        typer.Option(
            "--replay", metavar="DAYS", min=1, max=LONGEST_REPLAY,
            help="Judge the jobs of so many past days with both, from the ledger that --config names.",
        ),
    ] = None,
    format_: Annotated[Format, typer.Option("--format", "-f", help="markdown is for a pull request.")] = Format.TEXT,
    exit_zero: Annotated[
        bool, typer.Option("--exit-zero", help="End with 0 also where something is newly allowed.")
    ] = False,
) -> None:  # fmt: skip
    """Prove what a change does: for each grant, who is newly allowed and who is newly refused, with an example job.

    Exit code 0: nothing is newly allowed, proved. 1: something is, or it cannot be ruled out. 2: a side does not load, or the
    question makes no sense.
    """
    out = Console(highlight=False, soft_wrap=True)
    try:
        new = _new(old, new, next_)
        judged = ground(config)
        sides = read_sides(
            old, new, policies=policies, guardrails=guardrails, old_guardrails=old_guardrails, config=judged
        )
        before, after = (load_side(side, judged.world) for side in sides)
        if next_:
            after, sides = _in_force(after, new), (sides[0], replace(sides[1], switched=True))
        replayed = None
        if replay is not None:
            replayed = replay_ledger(before, after, judged.world.issuers, config, replay)
    except Broken as broken:
        for problem in broken.problems:
            for line in excerpt(problem, broken.sources):
                out.print(line)
        out.print(Text(f"{broken.side} does not load, so there is nothing to compare"))
        raise typer.Exit(2) from None
    except ConfigError as error:
        for problem in error.problems:
            out.print(Text(clean(problem)))
        raise typer.Exit(2) from None
    difference = compare(before, after, judged.world)
    match format_:
        case Format.JSON:
            told = as_json(difference, old=old, new=new, commits=(sides[0].commit, sides[1].commit), switched=next_)
            if replayed is not None and replay is not None:
                says = [replay_headline(replayed, replay), *_said(replayed)]
                told["replay"] = replay_as_json(replayed, days=replay, says=says)
            typer.echo(json.dumps(told, indent=2, default=str))
        case Format.MARKDOWN:
            names = [_named(side) for side in sides]
            typer.echo(markdown(difference, old=names[0], new=names[1], replayed=replayed, days=replay or 0), nl=False)
        case Format.TEXT:
            for shown in _text(difference, sides, replayed, replay or 0, judged.world.issuers):
                out.print(shown)
    if (difference.wider is not Verdict.NONE or difference.looser) and not exit_zero:
        raise typer.Exit(1)


def _new(old: str, new: str | None, next_: bool) -> str:
    if new is None and not next_:
        raise ConfigError("diff: what is OLD compared with? give NEW, or --next for OLD's own versions on trial")
    return old if new is None else new


def _in_force(policies: PolicySet, name: str) -> PolicySet:
    if not policies.on_trial:
        raise ConfigError(f"--next: no policy of {name} has a version on trial (`next:`)")
    return switched(policies)


def replay_ledger(
    old: PolicySet, new: PolicySet, kinds: Mapping[str, IssuerKind], config: Path | None, days: int
) -> Replayed:
    """The past of the ledger that this broker.yaml names, read page by page beside a running broker. Raises ConfigError."""
    if config is None:
        raise ConfigError("--replay: say which broker's ledger, with --config broker.yaml")
    from broker.cli.ledger import PAGE, every, ledger
    from broker.ledger.records import EventQuery

    again = Replay(old, new, kinds)
    since = datetime.now(UTC) - timedelta(days=days)
    with ledger(None, config) as reader:
        for event in every(reader, EventQuery(since=since, newest_first=False, limit=PAGE)):
            if event.type in REPLAYED:
                again.take(orjson.loads(event.leaf))
    return again.result()


def _said(replayed: Replayed) -> Iterator[str]:
    for words in (*replay_lines(replayed), *unused_lines(replayed)):
        yield plain(words)


def _named(side: Side) -> Words:
    named: Words = (
        (Quote(side.name),) if side.commit is None else (Quote(side.name), " (", Quote(side.commit[:12]), ")")
    )
    return (*named, ", its versions on trial in force") if side.switched else named


def _text(
    difference: Difference,
    sides: tuple[Side, Side],
    replayed: Replayed | None,
    days: int,
    kinds: Mapping[str, IssuerKind],
) -> Iterator[Text]:
    level = Verdict.SOME if difference.looser else difference.wider
    yield Text.assemble(("policy change", "bold"), ": ", (headline(difference), _STYLES[level] or "green"))
    old, new = (plain(_named(side)) for side in sides)
    yield Text(clean(f"{old} to {new}: {tally(difference)}"))
    for grant in difference.grants:
        if grant.change is not Change.SAME:
            yield Text.assemble("\n", (grant.name, "bold"), f" ({grant.change})")
            yield from _lines(grant_lines(grant), kinds)
    for policy in difference.policies:
        lines = list(policy_lines(policy))
        if lines:
            yield Text.assemble("\npolicy ", (policy.name, "bold"), f" ({policy.change})")
            yield from _lines(lines, kinds)
    if difference.limits:
        yield Text.assemble("\n", ("guardrails", "bold"))
        yield from _lines((line for limit in difference.limits for line in limit_lines(limit)), kinds)
    if replayed is not None:
        yield Text.assemble("\n", (replay_headline(replayed, days), "bold"))
        yield from (Text(clean(f"  {line}")) for line in _said(replayed))
    for note in notes(difference):
        yield Text(f"\n{note}")


def _lines(lines: Iterable[Line], kinds: Mapping[str, IssuerKind]) -> Iterator[Text]:
    for line in lines:
        yield Text(f"  {clean(plain(line.words))}", style=_STYLES[line.level])
        if line.job is not None:
            rows = list(job_rows(line.job))
            width = max((len(name) for name, _ in rows), default=0)
            for name, value in rows:
                yield Text(f"    {clean(name).ljust(width)}  {clean(value)}")
            yield Text(f"    claims: {clean(claims_line(line.job, kinds.get(line.job.issuer)))}")
            for words in miss_words(line):
                yield Text(f"    {clean(plain(words))}")
