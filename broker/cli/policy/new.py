"""`jobkey-broker policy new`: a first policy from what a job presents."""

from pathlib import Path
from typing import Annotated

import typer

from broker.authoring.write.first import SCHEMA, NoModel, first_policy
from broker.cli.policy.setting import Config, read_setting
from broker.cli.policy.subjects import shown_subject
from broker.cli.tell import clean
from broker.errors import ConfigError


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The policy's name; jobs then ask for NAME/GRANT.")],
    source: Annotated[
        Path,
        typer.Argument(
            metavar="[FILE]",
            help="What `jobkey whoami --json` printed, a token's claims as JSON, or a token; - or nothing for standard input.",
        ),
    ] = Path("-"),
    *,
    owner: Annotated[
        list[str], typer.Option("--owner", "-o", help="Who answers for the policy; give it once for each.")
    ],
    backend: Annotated[
        str, typer.Option("--backend", "-b", help="Where the credential comes from, by its name in broker.yaml.")
    ],
    grant: Annotated[str, typer.Option("--grant", "-g", help="What the grant is called.")] = "deploy",
    issuer: Annotated[
        str | None,
        typer.Option("--issuer", "-i", help="The issuer's name in broker.yaml, where the claims leave it open."),
    ] = None,
    config: Config = None,
    schema: Annotated[str, typer.Option(help="The policy schema, as seen from where the file will stand.")] = SCHEMA,
    folder: Annotated[
        str, typer.Option(help="The folder below the policies that the file will stand in; guardrails differ by it.")
    ] = ".",
) -> None:
    """Write a first trust policy for this job and its like, to standard output.

    Its immutable ids are filled in, triggers that run other people's code stay refused, and two examples prove it. Exit
    code 1: this job should not be trusted. 2: the question itself is wrong.
    """
    try:
        world = read_setting(config, None).world
        subject = shown_subject(source, world, issuer)
        file = name + ".yaml" if folder == "." else f"{folder.strip('/')}/{name}.yaml"
        written = first_policy(
            subject, world, name=name, owners=owner, grant=grant, backend=backend, schema=schema, file=file
        )
    except NoModel as reason:
        typer.echo(f"no policy is written: {clean(str(reason))}", err=True)
        raise typer.Exit(1) from None
    except ConfigError as error:
        for problem in error.problems:
            typer.echo(clean(problem), err=True)
        raise typer.Exit(2) from None
    typer.echo(written.text, nl=False)
    typer.echo(f"claims: {clean(subject.origin)}", err=True)
    for note in written.notes:
        typer.echo(f"note: {clean(note)}", err=True)
