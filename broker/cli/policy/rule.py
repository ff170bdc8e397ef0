"""`jobkey-broker policy rule`: a lint rule's page, where there is no browser: the attack, a bad policy and a good one."""

import sys
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markdown import Markdown

from broker.authoring import lint
from broker.authoring.lint import RULES
from broker.documents import suggestion
from broker.errors import ConfigError

# Beside the package in what is installed, in docs/ of a checkout.
_PAGES: Final = (Path(lint.__file__).parent / "pages", Path(lint.__file__).parents[3] / "docs/rules")


def rule(
    name: Annotated[
        str | None, typer.Argument(metavar="[RULE]", help="Its id; every rule in a line unless given.")
    ] = None,
) -> None:
    """Show what a lint rule finds and why: the attack, a bad policy and a good one."""
    out = Console(highlight=False, soft_wrap=True)
    if name is None:
        widest = max(map(len, RULES))
        for one in RULES.values():
            out.print(f"{one.id.ljust(widest)}  {one.severity.value.ljust(7)}  {one.summary}", markup=False)
        return
    if name not in RULES:
        raise ConfigError(f"no rule {name!r}{suggestion(name, RULES)}")
    text = page(name)
    if sys.stdout.isatty():
        Console().print(Markdown(text))
    else:
        typer.echo(text, nl=False)


def page(name: str) -> str:
    """The page of a rule, as Markdown."""
    for folder in _PAGES:
        path = folder / f"{name}.md"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise ConfigError(f"the page of {name!r} was not installed; it is docs/rules/{name}.md of the project")
