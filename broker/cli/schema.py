"""`jobkey-broker schema`: what an editor needs to complete and check the files that people write."""

from pathlib import Path
from typing import Annotated

import typer

from broker.errors import ConfigError


def schema(
    name: Annotated[str, typer.Argument(metavar="NAME", help="trust-policy, guardrails or broker.")],
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="A broker.yaml: its issuers, its backends and what each of them takes."),
    ] = None,
) -> None:
    """Print a JSON Schema for your editor."""
    from broker.documents import suggestion
    from broker.schemas import SCHEMAS, rendered
    from broker.settings import load_settings

    if name not in SCHEMAS:
        raise ConfigError(f"no schema {name!r}{suggestion(name, SCHEMAS)}")
    typer.echo(rendered(name, None if config is None else load_settings(config)), nl=False)
