"""`jobkey-broker policy rollout`: when a version on trial may take over, by what the ledger says of real jobs."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from broker.authoring import rollout as trials_of
from broker.authoring.rollout import TYPES, Jobs, Kind, Standing, Trial, in_force, on_trial
from broker.cli.ledger import PAGE, Data, every, ledger
from broker.cli.policy.setting import read_setting
from broker.cli.policy.show import counted
from broker.cli.tell import clean
from broker.documents import suggestion
from broker.durations import render
from broker.errors import ConfigError
from broker.ledger.reader import Reader
from broker.ledger.records import EventQuery
from broker.model import rfc3339
from broker.policy.load import load_policies
from broker.policy.policyset import Policy

MOST_SHOWN: Final = 20  # kinds of jobs a policy; the rest are counted


class Format(StrEnum):
    """How it is told."""

    TEXT = "text"
    MARKDOWN = "markdown"
    JSON = "json"


def rollout(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[POLICY]...", help="These; all on trial unless given.")
    ] = None,
    *,
    config: Annotated[
        Path, typer.Option("--config", "-c", help="The broker's own broker.yaml.", envvar="JOBKEY_CONFIG")
    ],
    policies: Annotated[Path | None, typer.Option("--policies", "-p", help="The folder of policies.")] = None,
    data: Data = None,
    days: Annotated[int, typer.Option("--days", min=0, max=365, help="How long a trial has to last.")] = 7,
    format_: Annotated[Format, typer.Option("--format", help="text, markdown or json.")] = Format.TEXT,
) -> None:
    """Say of each policy in `mode: observe` or with a `next:` version whether it is safe to switch.

    Exit code 0: every one is. 1: one is not, or not yet. 2: the question itself is wrong.
    """
    try:
        setting = read_setting(config, None)
        world = setting.world
        found = load_policies(
            policies or setting.policies,
            issuers=world.issuers,
            issuer_urls=world.issuer_urls,
            targets=world.targets,
            guardrails=world.guardrails,
        )
        chosen = _chosen(on_trial(found.policies.values()), names)
        with ledger(data, config) as reader:
            trials = _read(reader, chosen)
    except ConfigError as error:
        for problem in error.problems:
            typer.echo(clean(problem), err=True)
        raise typer.Exit(2) from None
    now, least = datetime.now(UTC), timedelta(days=days)
    if format_ is Format.JSON:
        typer.echo(json.dumps([_json(trial, now, least) for trial in trials], indent=2))
    else:
        for line in _lines(trials, now, least, markdown=format_ is Format.MARKDOWN):
            typer.echo(line)
    if any(trial.standing(now, least=least) is not Standing.SAFE for trial in trials):
        raise typer.Exit(1)


def _chosen(trials: list[Policy], names: Sequence[str] | None) -> list[Policy]:
    known = {policy.name for policy in trials}
    for name in names or ():
        if name not in known:
            raise ConfigError(
                f"no policy {name!r} is on trial (`mode: observe`, or a `next:` version){suggestion(name, known)}"
            )
    return [policy for policy in trials if not names or policy.name in names]


def _read(reader: Reader, chosen: list[Policy]) -> list[Trial]:
    changes = every(reader, EventQuery(type="policy-changed", newest_first=False, limit=PAGE))
    known = in_force((event.time, event.body) for event in changes)
    starts = [known[policy.name][1] for policy in chosen if known.get(policy.name, ("",))[0] == policy.version]

    def since() -> Iterator[tuple[datetime, Any]]:
        for kind in TYPES if starts else ():
            query = EventQuery(type=kind, since=min(starts), newest_first=False, limit=PAGE)
            for event in every(reader, query):
                yield event.time, event.body

    return trials_of.rollout(chosen, known, since())


def _lines(trials: Sequence[Trial], now: datetime, least: timedelta, *, markdown: bool) -> Iterator[str]:
    strong = "**{}**" if markdown else "{}"
    if not trials:
        yield "no policy is on trial: none has `mode: observe` or a `next:` version"
    for number, trial in enumerate(trials):
        if number:
            yield ""
        yield ("### " if markdown else "") + _shown(trial.policy, markdown) + ": " + _what(trial, now)
        if markdown:
            yield ""
        for grant, count in trial.asked.items():
            yield ("- " if markdown else "  ") + f"{_shown(grant, markdown)}: {_asked(trial, grant, count)}"
        kinds = sorted(trial.kinds.items(), key=lambda item: (item[0].would != "refuse", -item[1].count))
        for kind, jobs in kinds[:MOST_SHOWN]:
            yield from _kind(kind, jobs, markdown)
        if len(kinds) > MOST_SHOWN:
            yield ("- " if markdown else "  ") + f"and {counted(len(kinds) - MOST_SHOWN, 'more kind')} of jobs"
        if markdown:
            yield ""
        yield ("" if markdown else "  ") + strong.format(_verdict(trial, now, least))


def _what(trial: Trial, now: datetime) -> str:
    version = "observed" if trial.observed else "a next version beside the one that decides"
    if trial.since is None:
        return f"{version}; this text was never in force on this broker"
    lasted = timedelta(seconds=max(1, int((now - trial.since).total_seconds())))
    whole = timedelta(days=lasted.days) if lasted.days else lasted
    return f"{version}, since {rfc3339(trial.since)} ({render(whole)})"


def _asked(trial: Trial, grant: str, count: int) -> str:
    differ = sum(jobs.count for kind, jobs in trial.kinds.items() if kind.grant == grant and kind.would == "refuse")
    gain = sum(jobs.count for kind, jobs in trial.kinds.items() if kind.grant == grant and kind.would == "allow")
    if trial.observed:
        return f"asked for {counted(count, 'time')}: {gain} would be allowed, {differ} refused"
    if not differ and not gain:
        return f"asked for {counted(count, 'time')}, and every answer is the same"
    return f"asked for {counted(count, 'time')}: {differ} would be refused that are allowed, {gain} allowed that are refused"


def _kind(kind: Kind, jobs: Jobs, markdown: bool) -> Iterator[str]:
    who = " ".join(f"{name}={value}" for name, value in kind.job) or "a job"
    indent = "  - " if markdown else "    "
    yield f"{indent}would {kind.would} {counted(jobs.count, 'job')}: {_shown(who, markdown)}"
    if kind.why:
        yield f"{indent.replace('-', ' ')}  {_shown(kind.why, markdown)}"
    yield f"{indent.replace('-', ' ')}  the latest: {jobs.event}" + (f", {clean(jobs.run_url)}" if jobs.run_url else "")


def _verdict(trial: Trial, now: datetime, least: timedelta) -> str:
    match trial.standing(now, least=least):
        case Standing.SAFE:
            how = (
                "remove `mode: observe`" if trial.observed else "put what stands under `next:` in the place of today's"
            )
            return f"safe to switch: {how}"
        case Standing.LOOK:
            return (
                "look: jobs would be refused; switch when each of them should be"
                if trial.observed
                else ("look: jobs would come out otherwise; switch when each of them should")
            )
        case Standing.WAIT:
            reasons = [f"nobody asked for {', '.join(trial.silent)}"] if trial.silent else []
            if trial.since is None or now - trial.since < least:
                reasons.append(f"the trial has to last {render(least)}")
            return "wait: " + "; ".join(reasons)


def _shown(text: str, markdown: bool) -> str:
    """Text of a claim or a policy: on a terminal without control characters, in Markdown as code that ends where it should."""
    plain = clean(text)
    if not markdown:
        return plain
    return f"`{plain}`" if "`" not in plain else f"`` {plain.replace('``', '` `')} ``"


def _json(trial: Trial, now: datetime, least: timedelta) -> dict[str, Any]:
    return {
        "policy": trial.policy,
        "trial": "observe" if trial.observed else "next",
        "since": None if trial.since is None else rfc3339(trial.since),
        "standing": trial.standing(now, least=least).value,
        "asked": trial.asked,
        "differ": [
            {
                "grant": kind.grant, "would": kind.would, "job": dict(kind.job), "why": kind.why, "count": jobs.count,
                "latest": jobs.event, "at": None if jobs.at is None else rfc3339(jobs.at), "run_url": jobs.run_url,
            }
            for kind, jobs in trial.kinds.items()
        ],
    }  # fmt: skip
