"""`jobkey-broker policy push --dry-run`: what a running broker would make of a folder of policies."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from broker.cli.signin import address, run
from broker.cli.tell import clean
from broker.errors import ConfigError
from broker.policy.load import read_folder

_NOT_HERE = (
    "policies are changed where they come from: merge into the repository that the broker follows, or change its folder; "
    "--dry-run asks what it would make of these"
)


def push(
    path: Annotated[Path, typer.Argument(metavar="[PATH]", help="The whole folder of policies.")] = Path("policies"),
    *,
    broker: Annotated[
        str, typer.Option("--broker", help="A running broker's URL; sign in first.", envvar="JOBKEY_BROKER")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Judge and change nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The broker's whole answer.")] = False,
) -> None:
    """Ask a running broker what it would make of these policies: its issuers, backends and guardrails, nothing changed."""
    if not dry_run:
        print(f"jobkey-broker: {_NOT_HERE}", file=sys.stderr)
        raise typer.Exit(2)
    from broker.exchange.check_body import encoded
    from broker.people import asking

    problems: list[str] = []
    texts, body = read_folder(path, problems), b""
    try:
        body = encoded(texts)
    except UnicodeError:
        problems.append(
            f"{path}:1:1: some policy, or its name, is not UTF-8; find it with: jobkey-broker policy check {path}"
        )
    if problems:
        raise ConfigError(*problems)
    said = run(asking.ask(address(broker), "/v1/policies/check", body=body))
    if as_json:
        print(json.dumps(said, indent=2))
    else:
        for line in told(said, path):
            print(line)
    raise typer.Exit(0 if said.get("good") is True else 1)


def told(said: dict[str, Any], path: Path) -> list[str]:
    """The broker's answer in lines."""
    if not said.get("good"):
        more = said.get("more_problems") or 0
        found = [clean(f"{path / str(problem)}") for problem in said.get("problems", ())]
        count = len(found) + more
        return [
            *found,
            *([f"and {more} more"] if more else []),
            f"{count} problem{'' if count == 1 else 's'}; the broker would go on with what is in force",
        ]
    lines = []
    for word in ("new", "changed", "removed"):
        lines += [f"{word.ljust(9)}{clean(str(name))}" for name in said.get(word, ())]
    if others := said.get("removed_of_others"):
        lines.append(f"removed  {others} of other owners")
    if said.get("policy_set") == said.get("in_force"):
        lines.append("good: exactly what is in force")
    else:
        lines.append("good: the broker would take these")
    lines.append(f"set       {clean(str(said.get('policy_set')))}")
    lines.append(f"in force  {clean(str(said.get('in_force')))}")
    lines.append(f"source    {clean(str(said.get('source')))}")
    return lines
