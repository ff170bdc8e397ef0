"""The root of the command tree."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from broker import __version__
from broker.cli.lazily import LazyGroup


class _Root(LazyGroup):
    later: ClassVar[Mapping[str, str]] = {
        "policy": "broker.cli.policy:app",
        "case": "broker.cli.case:app",
        "audit": "broker.cli.audit:app",
        "keys": "broker.cli.keys:app",
        "schema": "broker.cli.schema:schema",
        "signin": "broker.cli.signin:signin",
        "signout": "broker.cli.signin:signout",
        "whoami": "broker.cli.signin:whoami",
    }


app = typer.Typer(
    name="jobkey-broker", cls=_Root, no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False,
    help="Keys that live as long as the job: CI ID tokens in, short-lived credentials out, a ledger that proves it.",
)  # fmt: skip

Config = Annotated[Path, typer.Option("--config", "-c", help="The service's own file.", envvar="JOBKEY_CONFIG")]


def counted(number: int, one: str, many: str = "") -> str:
    """`1 issuer`, `2 issuers`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"jobkey-broker {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Keys that live as long as the job."""


@app.command()
def serve(config: Config = Path("broker.yaml")) -> None:
    """Run the broker. SIGHUP loads policies and certificates again, SIGTERM ends it cleanly."""
    from broker.serve import run
    from broker.settings import load_settings

    run(load_settings(config))


@app.command()
def check(config: Config = Path("broker.yaml")) -> None:
    """Load broker.yaml, the guardrails and every policy as `serve` would, and say what is wrong."""
    from broker.catalog import policy_inputs, policy_source
    from broker.exchange.policies import Policies
    from broker.settings import load_settings

    settings = load_settings(config)
    issuers, urls, targets = policy_inputs(settings)
    policies = Policies(policy_source(settings), issuers=issuers, issuer_urls=urls, targets=targets)
    policies.load()
    told = [
        counted(len(settings.issuers), "issuer"),
        counted(len(settings.backends), "backend"),
        counted(len(policies.current.policies), "policy", "policies"),
    ]
    typer.echo(f"{config}: good. {', '.join(told)}.")


@app.command()
def health(
    url: Annotated[str, typer.Option(help="The broker's own address.")] = "http://127.0.0.1:8400",
    ready: Annotated[
        bool, typer.Option("--ready", help="Ask whether it can issue, not only whether it answers.")
    ] = False,
) -> None:
    """Ask a running broker whether it is well: exit code 0 or 1. For container health checks."""
    import urllib.error
    import urllib.request

    target = url.rstrip("/") + ("/readyz" if ready else "/healthz")
    if not target.startswith(("http://", "https://")):
        raise typer.BadParameter("an http or https URL is expected")
    try:
        with urllib.request.urlopen(target, timeout=3) as response:  # noqa: S310  checked above
            typer.echo(response.read(4096).decode(errors="replace"))
    except urllib.error.HTTPError as error:
        typer.echo(error.read(4096).decode(errors="replace"))
        raise typer.Exit(1) from None
    except OSError as error:
        typer.echo(f"{target}: no answer: {error}", err=True)
        raise typer.Exit(1) from None


@app.command()
def dev(
    port: Annotated[int, typer.Option(help="Where to listen on 127.0.0.1; 0 takes a free port.")] = 8400,
    folder: Annotated[Path | None, typer.Option(help="Where to put it; a temporary folder if not given.")] = None,
) -> None:
    """A broker with a practice CI issuer and a policy, kept running for you to play with."""
    from broker.demo.play import play

    play(port=port, folder=folder)


@app.command()
def demo() -> None:
    """The whole story in a minute: a job gets keys, a fork is refused, the ledger proves it."""
    from broker.demo.story import tell

    raise typer.Exit(tell())
