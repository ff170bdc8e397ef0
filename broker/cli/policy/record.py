"""`jobkey-broker policy record`: a real job becomes an example of a policy."""

from pathlib import Path
from typing import Annotated

import typer

from broker.authoring.write.insert import with_examples
from broker.authoring.write.record import outcome, recorded, title
from broker.authoring.write.subject import Subject, knowing
from broker.authoring.write.yamltext import example_lines
from broker.cli.ledger import Data, data_folder
from broker.cli.policy.setting import Config, Setting, read_setting
from broker.cli.policy.subjects import shown_subject, subject_of_event
from broker.cli.policy.writing import rewrite
from broker.cli.tell import clean
from broker.errors import ConfigError
from broker.policy.load import Checked, PolicyText, check_text, read_one


def record(
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            help="A token's claims as JSON, a token, or what `jobkey whoami --json` printed; - or nothing for standard input.",
        ),
    ] = None,
    *,
    event: Annotated[
        str | None, typer.Option("--event", help="An event of the ledger instead: evt_, iss_ or case_.")
    ] = None,
    into: Annotated[Path | None, typer.Option("--into", help="The policy file whose examples it joins.")] = None,
    name: Annotated[str | None, typer.Option("--name", "-n", help="What the example is called.")] = None,
    expect: Annotated[
        str | None,
        typer.Option("--expect", "-e", help="What has to become of it: refuse, or allow:GRANT[,GRANT...]."),
    ] = None,
    issuer: Annotated[
        str | None,
        typer.Option("--issuer", "-i", help="The issuer's name in broker.yaml, where the claims leave it open."),
    ] = None,
    config: Config = None,
    data: Data = None,
) -> None:
    """Turn a real token, or an event of the ledger, into an example: what differs from the issuer's own, and no person's name.

    Without --into the example goes to standard output. With it, the file keeps its comments and layout, and is written
    only where the policy decides as --expect says. Exit code 1: it decides otherwise. 2: the question itself is wrong.
    """
    try:
        setting = read_setting(config, None)
        if event is not None:
            if source is not None:
                raise ConfigError("give --event or a file, not both")  # noqa: TRY301  reported as all of these are
            subject = subject_of_event(event, data_folder(data, config), setting.world, issuer)
        else:
            subject = shown_subject(source or Path("-"), setting.world, issuer)
        grants = _expected(expect, subject)
        checked = None if into is None else _read(into, setting, subject)
        _tell(subject, checked, grants)
        written = _write(subject, setting, checked, grants, name)
    except ConfigError as error:
        for problem in error.problems:
            typer.echo(clean(problem), err=True)
        raise typer.Exit(2) from None
    if checked is None:
        typer.echo("\n".join(example_lines(written, 2)))
    else:
        typer.echo(f"{checked.text.name}: added the example {clean(str(written['name']))!r}", err=True)


def _expected(expect: str | None, subject: Subject) -> tuple[str, ...]:
    """The grants that the example gets. An event says itself what became of it."""
    if expect == "refuse":
        return ()
    if expect is not None:
        how, _, names = expect.partition(":")
        grants = tuple(name.strip() for name in names.split(",") if name.strip())
        if how != "allow" or not grants:
            raise ConfigError("--expect: write refuse, or allow:GRANT[,GRANT...]")
        return grants
    if subject.event == "refused":
        return ()
    if subject.event == "issued":
        return tuple(grant.partition("/")[2] for grant in subject.grants)
    raise ConfigError("--expect: say what has to become of this job: refuse, or allow:GRANT[,GRANT...]")


def _read(into: Path, setting: Setting, subject: Subject) -> Checked:
    problems: list[str] = []
    try:
        file = into.resolve().relative_to(setting.policies.resolve()).as_posix()
    except (ValueError, RuntimeError):  # RuntimeError: a loop of links, before Python 3.13; `read_one` says so
        file = into.name
    text = read_one(into, file, problems)
    if text is None:
        raise ConfigError(*problems)
    return check_text(text, knowing(setting.world, subject))


def _tell(subject: Subject, checked: Checked | None, grants: tuple[str, ...]) -> None:
    """Say where the claims come from; end with 1 where the policy decides otherwise than expected."""
    typer.echo(f"claims: {clean(subject.origin)}", err=True)
    if checked is None:
        return
    policy = checked.policy
    for grant in grants:
        if grant not in policy.grants:
            raise ConfigError(f"--expect: {policy.name} has no grant {grant!r}; it has {', '.join(policy.grants)}")
    found = outcome(policy, subject.token)
    if set(found.allowed) == set(grants):
        return
    wanted = "a refusal of everything" if not grants else f"{', '.join(grants)} and nothing else"
    typer.echo(f"nothing is written: expected {wanted}, but {policy.name} says", err=True)
    for line in found.told():
        typer.echo(f"  {clean(line)}", err=True)
    raise typer.Exit(1)


def _write(
    subject: Subject, setting: Setting, checked: Checked | None, grants: tuple[str, ...], name: str | None
) -> dict[str, object]:
    world = knowing(setting.world, subject)
    taken = set() if checked is None else {example.name for example in checked.written.examples}
    if name is not None and name in taken:
        raise ConfigError(f"--name: an example {name!r} is there already; each says something of its own")
    called = name or title(subject.token, taken.__contains__)
    policy = None if checked is None else checked.policy
    example = recorded(policy, subject.token, subject.kind, world, name=called, expect=grants)
    if checked is not None:
        data = with_examples(checked.text.data, checked.text.name, [example])
        check_text(PolicyText(checked.text.name, checked.text.file, data), world)
        if (why := rewrite(Path(checked.text.name), checked.text.data, data)) is not None:
            raise ConfigError(f"{checked.text.name}:1:1: {why}")
    return example
