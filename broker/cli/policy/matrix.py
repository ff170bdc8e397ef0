"""`jobkey-broker policy matrix`: over all policies, which jobs can reach this backend, this role, this database."""

import csv
import json
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from broker.authoring.describe.matrix import COLUMNS, Filters, Matrix, table
from broker.authoring.describe.matrix import matrix as made
from broker.cli.audit import harmless
from broker.cli.policy.setting import Config, Setting, read_setting, read_texts
from broker.cli.policy.show import counted, excerpt
from broker.cli.tell import clean
from broker.documents import parse, suggestion, validated
from broker.errors import ConfigError
from broker.policy.document import PolicyFile

MOST_NAMED: Final = 5  # policies


class Format(StrEnum):
    """What is printed."""

    TEXT = "text"
    MARKDOWN = "markdown"
    HTML = "html"
    CSV = "csv"
    JSON = "json"


def matrix(
    *,
    path: Annotated[
        Path | None, typer.Argument(metavar="[PATH]", help="A policy file or a folder; the broker's own unless given.")
    ] = None,
    config: Config = None,
    guardrails: Annotated[Path | None, typer.Option(help="guardrails.yaml, where no --config names it.")] = None,
    backend: Annotated[str | None, typer.Option("--backend", "-b", help="A backend's name in broker.yaml.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option", "-o", help="NAME=VALUE of a grant's `with:`; a template there may be filled with VALUE."
        ),
    ] = None,
    reaches: Annotated[str | None, typer.Option("--reaches", help="A part of what is reached: a role, a path.")] = None,
    project: Annotated[str | None, typer.Option("--project", help="A project's name or id.")] = None,
    issuer: Annotated[str | None, typer.Option("--issuer", "-i", help="The issuer's name in broker.yaml.")] = None,
    owner: Annotated[str | None, typer.Option("--owner", help="An owner of the policy.")] = None,
    format_: Annotated[
        Format,
        typer.Option("--format", "-f", help="A line each for csv and json; a row for each group of jobs otherwise."),
    ] = Format.TEXT,
) -> None:
    """Show which jobs can reach what, as the policies are written; `policy check` says whether they load.

    Exit code 0, also where nobody can. 2: the question is wrong, or a file is no policy.
    """
    try:
        setting = read_setting(config, guardrails)
        filters = Filters(
            backend=_known("backend", backend, setting), issuer=_known("issuer", issuer, setting), owner=owner,
            project=project, options=tuple(map(_option, option or ())), reaches=reaches,
        )  # fmt: skip
        written = list(_written(path or setting.policies))
        found = made(written, setting.world, filters)
    except ConfigError as error:
        out = Console(highlight=False, soft_wrap=True, markup=False)
        for problem in error.problems:
            for line in excerpt(problem):
                out.print(line)
        raise typer.Exit(2) from None
    _write(found, format_)
    if trials := [file.policy for _, file in written if file.next is not None]:
        named = ", ".join(trials[:MOST_NAMED]) + (", ..." if trials[MOST_NAMED:] else "")
        print(
            f"not shown: the versions on trial (`next:`) of {clean(named)}, which mint nothing; `policy describe` shows them",
            file=sys.stderr,
        )
    if found.by_id_alone:
        left = counted(found.by_id_alone, "statement names its project", "statements name their project")
        print(
            f"{left} by id alone, and --project {clean(project or '')} is no id of theirs; ask by the id too",
            file=sys.stderr,
        )


def _written(path: Path) -> Iterator[tuple[str, PolicyFile]]:
    """Shapes only: what ten thousand files mean takes no compiling. Raises ConfigError with every problem."""
    problems: list[str] = []
    texts, _ = read_texts([path], problems)
    for text in texts:
        try:
            yield text.file, validated(PolicyFile, parse(text.data, text.name))
        except ConfigError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigError(*problems)


def _option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ConfigError(f"--option {text}: write NAME=VALUE, such as role_arn=arn:aws:iam::111122223333:role/deploy")
    return name, value


def _known(what: str, name: str | None, setting: Setting) -> str | None:
    known = setting.world.issuers if what == "issuer" else setting.world.targets
    if name is not None and known is not None and name not in known:
        raise ConfigError(f"--{what} {name}: there is none of this name in broker.yaml{suggestion(name, known)}")
    return name


def _write(found: Matrix, format_: Format) -> None:
    match format_:
        case Format.JSON:
            for entry in found.entries:
                print(json.dumps({**entry.record(), "options": entry.options, "owners": entry.owners}))
        case Format.CSV:
            rows = csv.writer(sys.stdout, lineterminator="\n")
            rows.writerow(COLUMNS)
            for entry in found.entries:
                record = entry.record()
                rows.writerow([harmless(clean(str(record[column]))) for column in COLUMNS])
        case Format.TEXT:
            _text(found)
        case _:
            from broker.authoring.describe.render import clean as plain
            from broker.authoring.describe.render import html_table, markdown_table

            headings, cells = table(found)
            shown = [[plain(cell) for cell in row] for row in cells]
            print(
                markdown_table(headings, shown)
                if format_ is Format.MARKDOWN
                else html_table("Who can reach what", _count(found), headings, shown)
            )


def _text(found: Matrix) -> None:
    width = max((len(name) for name in found.backends), default=0)
    for jobs, by_backend in found.rows():
        print(clean(jobs))
        for name, entries in by_backend.items():
            for entry in entries:
                print(f"  {clean(name).ljust(width)}  {clean(entry.cell)}")
    print(_count(found))


def _count(found: Matrix) -> str:
    if not found.entries:
        return "nobody, by these policies"
    groups = len({entry.jobs for entry in found.entries})
    policies = len({entry.policy for entry in found.entries})
    return f"{counted(groups, 'group')} of jobs, by {counted(policies, 'policy', 'policies')}"
