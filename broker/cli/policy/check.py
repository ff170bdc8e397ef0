"""`jobkey-broker policy check`: load policies as the broker would, and show every problem where it stands."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from broker.cli.policy.setting import UNCHECKED, Config, read_setting, read_texts
from broker.cli.policy.show import counted, excerpt
from broker.errors import ConfigError
from broker.policy.load import compile_all


def check(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Policy files, or folders of them.")],
    config: Config = None,
    guardrails: Annotated[Path | None, typer.Option(help="guardrails.yaml, where no --config names it.")] = None,
) -> None:
    """Load policies as the broker would, run their examples, and show every problem where it stands."""
    out = Console(highlight=False, soft_wrap=True)
    problems: list[str] = []
    try:
        setting = read_setting(config, guardrails)
        texts, folders = read_texts(paths, problems)
        found = compile_all(texts, setting.world, problems, folders=folders)
    except ConfigError as error:
        for problem in error.problems:
            for line in excerpt(problem):
                out.print(line)
        count = len(error.problems)
        out.print(f"[red]{count} problem{'' if count == 1 else 's'}[/red]; nothing would be loaded")
        raise typer.Exit(1) from None
    statements = sum(len(policy.statements) for policy in found.policies.values())
    out.print(
        f"[green]good[/green]: {counted(len(found.policies), 'policy', 'policies')}, {counted(statements, 'statement')}, "
        f"{counted(len(found.grants), 'grant')}; every example came out as it says"
    )
    if setting.world.targets is None:
        out.print(UNCHECKED)
