"""`jobkey-broker policy explain`: decide, show why it came out so, and what little would change it."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from broker.authoring.explain.edit import Edit, Stays
from broker.authoring.explain.explanation import Explanation, as_json
from broker.authoring.explain.explanation import explain as explained
from broker.authoring.explain.nearest import Near
from broker.authoring.explain.patch import first_line
from broker.cli.ledger import Data
from broker.cli.policy.question import Question, Sources, read_question
from broker.cli.policy.setting import Config, Setting, read_object, read_setting
from broker.cli.policy.show import excerpt
from broker.cli.tell import clean
from broker.errors import ConfigError
from broker.model import GrantRequest
from broker.policy.answers import Allowed, BadParams, Decision, Denied
from broker.policy.load import load_policies
from broker.policy.policyset import PolicySet
from broker.policy.trial import trial

UNCHECKED = "not checked: the backend's options and params, for want of --config broker.yaml"


class Format(StrEnum):
    """What is printed."""

    TEXT = "text"
    JSON = "json"


def explain(
    *,
    claims: Annotated[
        Path | None, typer.Option("--claims", help="A JSON file with a token's claims; - for standard input.")
    ] = None,
    token: Annotated[
        Path | None,
        typer.Option(
            "--token", help="A file with a CI's ID token, which is decoded and not verified; - for standard input."
        ),
    ] = None,
    event: Annotated[str | None, typer.Option("--event", help="An event of the ledger: evt_...")] = None,
    case: Annotated[str | None, typer.Option("--case", help="A refusal's case number: case_...")] = None,
    grant: Annotated[
        str | None,
        typer.Option(
            "--grant", "-g", help="policy/grant; unless given, what the event asked for, or all that is near."
        ),
    ] = None,
    policies: Annotated[Path | None, typer.Option("--policies", "-p", help="The folder of policies.")] = None,
    issuer: Annotated[str | None, typer.Option("--issuer", "-i", help="The issuer's name in broker.yaml.")] = None,
    config: Config = None,
    data: Data = None,
    params: Annotated[str | None, typer.Option("--params", help="What the job sends, as a JSON object.")] = None,
    then: Annotated[
        bool, typer.Option("--then", help="Judge an event or case by the policies that decided it, from the ledger.")
    ] = False,
    format_: Annotated[
        Format, typer.Option("--format", "-f", help="text for people, json for programs.")
    ] = Format.TEXT,
) -> None:
    """Decide one request; show each near statement, each condition, what it expected and what came, and the smallest edit.

    Exit code 0: allowed (or allowed but for what the job sent). 1: refused. 2: the question itself is wrong.
    """
    out = Console(highlight=False, soft_wrap=True, markup=False)
    try:
        setting = read_setting(config, None)
        folder = policies or setting.policies
        found = load_policies(
            folder,
            issuers=setting.world.issuers,
            issuer_urls=setting.world.issuer_urls,
            targets=setting.world.targets,
            guardrails=setting.world.guardrails,
        )
        sources = Sources(claims=claims, token=token, event=event, case=case)
        question = read_question(
            sources, setting, found, issuer=issuer, grant=grant, config=config, data=data, then=then
        )
        sent = read_object(params, "--params") if params else None
    except ConfigError as error:
        for problem in error.problems:
            for line in excerpt(problem):
                out.print(line)
        raise typer.Exit(2) from None
    judged = question.then or found
    answer = explained(
        judged,
        question.token,
        question.grants,
        setting.world,
        params=sent,
        now=datetime.now(UTC),
        edits=question.then is None,
    )
    asked = [GrantRequest(grant=name, params=sent) for name in answer.decisions]
    following = trial(judged, question.token, asked)
    if format_ is Format.JSON:
        about = _about(question, found, setting) | {"next": [change.as_json() for change in following]}
        print(json.dumps({**as_json(answer), **about}, indent=2, ensure_ascii=True))
    else:
        for row in _lines(question, answer, found, folder):
            out.print(row)
        for change in following:
            what = "allowed" if change.would == "allow" else "refused"
            why = f": {clean(change.why)}" if change.why else ""
            out.print(Text(f"its version on trial decides otherwise: {change.grant} would be {what}{why}"))
        if setting.world.targets is None:
            out.print(UNCHECKED)
    if answer.refused:
        raise typer.Exit(1)


def _about(question: Question, found: PolicySet, setting: Setting) -> dict[str, object]:
    about: dict[str, object] = {"origin": question.origin, "backends_checked": setting.world.targets is not None}
    if question.event is not None:
        decided_by = question.event.body.get("policy_set")
        about |= {
            "event": question.event.id, "decided_by": decided_by, "current": found.version,
            "changed_since": decided_by != found.version, "judged_by": "then" if question.then else "now",
        }  # fmt: skip
    return about


def _lines(question: Question, answer: Explanation, found: PolicySet, folder: Path) -> Iterator[Text | str]:
    if question.origin:
        job = question.token.job.present()
        shown = " ".join(f"{name}={clean(str(job[name]))}" for name in ("project", "ref", "environment", "trigger") if name in job)  # fmt: skip
        yield f"{question.token.issuer} job {shown}: {question.origin}"
    if question.event is not None and question.event.body.get("policy_set") != found.version:
        judged = (
            "judged by those of then" if question.then else "judged by those of now; --then judges by those of then"
        )
        yield f"the policies have changed since: {judged}"
    for near in answer.near:
        yield from _statement(near)
    for name, decision in answer.decisions.items():
        yield from _decision(name, decision)
    if not answer.decisions:
        yield Text.assemble(("refused", "red"), ": no policy is near this job")
    yield from _edit(answer, folder)


def _statement(near: Near) -> Iterator[Text]:
    holds = "holds" if near.holds else "does not hold"
    yield Text.assemble((f"{near.policy.name} trust[{near.statement.number}]", "bold"), f": {holds}")
    for check in near.checks:
        mark, style = ("ok  ", "green") if check.held else ("miss", "red")
        pointer = "  <- first miss" if check is near.first_miss else ""
        told = f" {check.key}: expected {clean(check.expected)}, got {clean(check.got)}"
        yield Text.assemble("  ", (mark, style), told, (pointer, "bold red"))


def _decision(name: str, decision: Decision) -> Iterator[Text]:
    match decision:
        case Allowed(grants=grants):
            allowed = grants[0]
            how = "observed: judged and recorded, nothing is minted" if allowed.observed else f"by trust[{allowed.statement}]"  # fmt: skip
            seconds = int(allowed.ttl.total_seconds())
            yield Text.assemble(("allowed", "green"), f": {name}, {how}; {allowed.backend}, {seconds}s at most")
        case BadParams(problems=problems):
            yield Text.assemble(("allowed", "green"), f": {name}, once the job sends what the backend needs")
            for problem in problems:
                yield Text(f"  {clean(problem.param) or 'params'}: {clean(problem.message)}")
        case Denied(code="unknown-grant"):
            yield Text.assemble(("refused", "red"), f": no policy has the grant {name!a}")
        case Denied() as denied:
            yield Text.assemble(("refused", "red"), f": {name} ({denied.code})")
            for miss in denied.misses:
                if miss.code in {"template", "params"}:
                    yield Text(f"  {miss.key}: expected {clean(miss.expected)}, got {clean(miss.got)}")


def _edit(answer: Explanation, folder: Path) -> Iterator[Text | str]:
    if isinstance(answer.edit, Stays):
        yield ""
        yield "no edit is suggested:"
        for reason in answer.edit.reasons:
            yield Text(f"  {clean(reason)}")
    if not isinstance(answer.edit, Edit) or answer.comes_to is None:
        return
    edit, comes_to = answer.edit, answer.comes_to
    yield ""
    yield f"the smallest edit that would allow it, {_near_here(folder / edit.near.policy.file)}:{first_line(edit.patch)}"
    for change in edit.changes:
        yield Text(f"  {clean(change.says)}")
    for line in edit.patch:
        style = "green" if line.startswith("+") else "red" if line.startswith("-") else "dim"
        yield Text("  " + clean(line), style=style)
    yield f"it would give {', '.join(comes_to.grants)} to"
    for words in comes_to.jobs:
        yield Text(f"  {clean(words)}")
    if comes_to.proved:
        yield "and to nobody else who does not have it: proved"
    else:
        yield Text(f"whether to anybody else is not proved: {clean(comes_to.why)}")
    if comes_to.proved and comes_to.why:
        yield Text(f"  {clean(comes_to.why)}")


def _near_here(path: Path) -> str:
    """A path as a person would write it who stands here."""
    try:
        return clean(path.resolve().relative_to(Path.cwd()).as_posix())
    except (OSError, ValueError):
        return clean(str(path))
