"""`jobkey-broker policy test`: run the examples, and find out what they prove."""

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from broker.authoring.mutation.coverage import Examined, example_line, hole_lines, noticed_lines, summary
from broker.authoring.mutation.mutate import coverage, percent
from broker.authoring.write.insert import with_examples
from broker.cli.policy.setting import Config, read_setting, read_texts
from broker.cli.policy.show import counted
from broker.cli.policy.writing import rewrite
from broker.cli.tell import clean
from broker.documents import parse
from broker.errors import ConfigError
from broker.policy.compile import compile_policy
from broker.policy.examples import example_outcomes
from broker.policy.load import Checked, PolicyText
from broker.policy.trial import next_document
from broker.policy.world import World


class Format(StrEnum):
    """What the report is written as."""

    TEXT = "text"
    JSON = "json"


def try_examples(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Policy files, or folders of them.")],
    *,
    mutate: Annotated[
        bool, typer.Option("--mutate", help="Loosen each condition in turn, and report those that no example notices.")
    ] = False,
    least: Annotated[
        float | None, typer.Option("--min", min=0, max=100, help="With --mutate: fail below this percentage.")
    ] = None,
    add: Annotated[
        bool, typer.Option("--add", help="With --mutate: write the suggested examples into the policies' files.")
    ] = False,
    form: Annotated[Format, typer.Option("--format", "-f", help="text or json.")] = Format.TEXT,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="A line for each example, and for each loosening.")
    ] = False,
    config: Config = None,
    guardrails: Annotated[Path | None, typer.Option(help="guardrails.yaml, where no --config names it.")] = None,
) -> None:
    """Run the policies' examples; with --mutate, find the conditions that no refusal example proves.

    Exit code 0: good. 1: an example came out otherwise, or too little is proved. 2: the question itself is wrong.
    """
    problems: list[str] = []
    try:
        if (least is not None or add) and not mutate:
            raise ConfigError("--min and --add go with --mutate")  # noqa: TRY301  reported as all of these are
        world = read_setting(config, guardrails).world
        texts, _ = read_texts(paths, problems)
        if not texts and not problems:
            raise ConfigError("no policies there: give *.yaml files, or folders of them")  # noqa: TRY301
    except ConfigError as error:
        _refuse(error.problems)
        raise typer.Exit(2) from None
    tested: list[Examined] = []
    for text in texts:
        try:
            tested.extend(_tested(text, world, mutate=mutate))
        except ConfigError as error:
            problems.extend(error.problems)
    _refuse(problems)
    if form is Format.JSON:
        print(json.dumps(summary(tested), indent=2, ensure_ascii=True))
    else:
        _tell(tested, mutate=mutate, verbose=verbose)
    if add:
        _add(tested)
    failed = [one for one in tested if any(outcome.problems for outcome in one.outcomes)]
    if problems or failed or not _enough(tested, least):
        raise typer.Exit(1)


def _tested(text: PolicyText, world: World, *, mutate: bool) -> list[Examined]:
    """A file's policy, and its next version where it has one. Raises ConfigError where it does not load at all."""
    document = parse(text.data, text.name)
    found: list[Examined] = []
    for version in [
        document,
        *([next_document(document)] if isinstance(document.value, Mapping) and document.value.get("next") else []),
    ]:
        policy, written = compile_policy(version, text.data.decode(), folder=text.folder, file=text.file, world=world)
        checked = Checked(text, version, written, policy)
        outcomes = tuple(example_outcomes(policy, written, world))
        good = not any(outcome.problems for outcome in outcomes)  # what is wrong already proves nothing
        found.append(
            Examined(checked=checked, outcomes=outcomes, coverage=coverage(checked, world) if mutate and good else None)
        )
    return found


def _tell(tested: Sequence[Examined], *, mutate: bool, verbose: bool) -> None:
    ran = failed = 0
    for one in tested:
        if verbose:
            print(f"{clean(one.name)} ({clean(one.checked.text.name)})")
        for outcome in one.outcomes:
            ran, failed = ran + 1, failed + bool(outcome.problems)
            if verbose:
                print(clean(example_line(outcome)))
            for path, problem in outcome.problems:
                print(clean(one.checked.document.problem(("examples", outcome.number, *path), problem)))
        if one.coverage is not None:
            for line in noticed_lines(one) if verbose else ():
                print(clean(line))
            for line in hole_lines(one):
                print(clean(line))
    good = f"{counted(ran, 'example')} in {counted(len(tested), 'policy', 'policies')}"
    print(f"{good}: " + (f"{failed} came out otherwise" if failed else "every one came out as it says"))
    if mutate:
        _tell_coverage(tested)


def _tell_coverage(tested: Sequence[Examined]) -> None:
    rows = [(clean(one.name), one.coverage.killed, one.coverage.total) for one in tested if one.coverage is not None]
    if not rows:
        return
    rows.append(("in total", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    width = max(len(name) for name, _, _ in rows)
    for name, killed, total in rows if len(rows) > 2 else rows[:1]:  # noqa: PLR2004  a total of one policy says nothing new
        print(f"{name.ljust(width)}  {killed:>4} of {total} loosenings noticed, {percent(killed, total):g} %")


def _enough(tested: Sequence[Examined], least: float | None) -> bool:
    found = [one.coverage for one in tested if one.coverage is not None]
    share = percent(sum(one.killed for one in found), sum(one.total for one in found))
    if least is None or share >= least:
        return True
    typer.echo(f"{share:g} % is less than --min {least:g}", err=True)
    return False


def _add(tested: Sequence[Examined]) -> None:
    """Put the suggestions into the files, those for a next version under its `next:`."""
    versions: dict[str, list[Examined]] = {}
    for one in tested:
        versions.setdefault(one.checked.text.name, []).append(one)
    for several in versions.values():
        text = several[0].checked.text
        data, added = text.data, 0
        for one in several:
            found: dict[str, Mapping[str, Any]] = {}
            for mutant in one.coverage.holes if one.coverage is not None else ():
                if mutant.example is not None:
                    found[mutant.example["name"]] = mutant.example
            try:
                data = with_examples(data, text.name, list(found.values()), under=one.checked.document.under)
            except ConfigError as error:
                _refuse(error.problems)
            else:
                added += len(found)
        if not added:
            continue
        why = rewrite(Path(text.name), text.data, data)
        said = f"added {counted(added, 'example')}" if why is None else f"nothing added: {why}"
        typer.echo(f"{clean(text.name)}: {said}", err=True)


def _refuse(problems: Sequence[str]) -> None:
    for problem in problems:
        typer.echo(clean(problem), err=True)
