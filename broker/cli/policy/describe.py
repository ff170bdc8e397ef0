"""`jobkey-broker policy describe`: policies in plain words, for people who do not write them."""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from broker.authoring.describe.description import Description
from broker.authoring.describe.description import describe as described
from broker.cli.policy.setting import Config, Setting, read_setting, read_texts
from broker.cli.policy.show import excerpt
from broker.documents import suggestion
from broker.errors import ConfigError
from broker.policy.load import Checked, check_text


class Format(StrEnum):
    """What is printed."""

    TEXT = "text"
    MARKDOWN = "markdown"
    HTML = "html"


def describe(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH|NAME...", help="Policy files, folders of them, or names of policies that are loaded."
        ),
    ],
    config: Config = None,
    guardrails: Annotated[Path | None, typer.Option(help="guardrails.yaml, where no --config names it.")] = None,
    policies: Annotated[
        Path | None, typer.Option("--policies", "-p", help="The folder in which names are looked for.")
    ] = None,
    format_: Annotated[Format, typer.Option("--format", "-f", help="The same words in each.")] = Format.TEXT,
) -> None:
    """Say in sentences, and as a table of who, what, when and how long, what policies give to whom.

    Exit code 0: described. 2: a policy does not load, or there is none of that name.
    """
    out = Console(highlight=False, soft_wrap=True, markup=False)
    try:
        setting = read_setting(config, guardrails)
        found = [_described(one, setting) for one in _wanted(names, policies or setting.policies, setting)]
    except ConfigError as error:
        for problem in error.problems:
            for line in excerpt(problem):
                out.print(line)
        raise typer.Exit(2) from None
    from broker.authoring.describe.render import html, markdown

    match format_:
        case Format.MARKDOWN:
            print(markdown(found), end="")
        case Format.HTML:
            print(html(found), end="")
        case Format.TEXT:
            wide = Console(highlight=False, markup=False)
            for row in _text(found, setting):
                wide.print(row)


def _wanted(names: Sequence[str], folder: Path, setting: Setting) -> list[Checked]:
    """Every policy that is named, once, in the order of the arguments. Raises ConfigError."""
    found: dict[str, Checked] = {}
    loaded: dict[str, Checked] | None = None
    for name in names:
        if Path(name).exists() or "/" in name or Path(name).suffix:
            for checked in read_checked([Path(name)], setting):
                found.setdefault(checked.policy.name, checked)
            continue
        if loaded is None:
            loaded = {checked.policy.name: checked for checked in read_checked([folder], setting)}
        if name not in loaded:
            raise ConfigError(f"{folder}:1:1: no policy {name!r} here{suggestion(name, loaded)}")
        found.setdefault(name, loaded[name])
    return list(found.values())


def read_checked(paths: list[Path], setting: Setting) -> list[Checked]:
    """Every policy below these paths, compiled, its examples run. Raises ConfigError with every problem."""
    problems: list[str] = []
    texts, _ = read_texts(paths, problems)
    found = []
    for text in texts:
        try:
            found.append(check_text(text, setting.world))
        except ConfigError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigError(*problems)
    return found


def _described(checked: Checked, setting: Setting) -> Description:
    following = None
    if checked.next is not None:
        following = described(checked.next.written, setting.world, file=checked.policy.file)
    return described(checked.written, setting.world, file=checked.policy.file, following=following)


def _text(found: Sequence[Description], setting: Setting) -> Iterator[RenderableType]:
    from broker.authoring.describe.render import GRANT_HEADINGS, HEADINGS, clean, facts_of, grants_of, rows_of, whole

    for number, description in enumerate(found):
        for heading, one in whole(description):
            yield Text(("\n" if number else "") + heading, style="bold")
            if one.title:
                yield Text(clean(one.title))
            for label, text in facts_of(one):
                yield Text(f"{label.lower()}: {text}")
            yield ""
            for sentence in one.sentences:
                yield Text(clean(sentence))
            for note in one.notes:
                yield Text(note)
            yield table(HEADINGS, rows_of(one))
            yield table(GRANT_HEADINGS, grants_of(one))
    if setting.world.targets is None:
        yield Text("not known: what backends make of their options, for want of --config broker.yaml")


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table as wide as the terminal, its cells wrapped."""
    made = Table(*headings, box=box.ASCII2, show_lines=True, expand=False, header_style="bold")
    for row in rows:
        made.add_row(*(Text(cell, overflow="fold") for cell in row))
    return made
