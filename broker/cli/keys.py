"""`jobkey-broker keys`: which keys there are, and a new one for a role."""

from pathlib import Path
from typing import Annotated

import typer

from broker.keys.files import ALGORITHMS, FileKeyStore

app = typer.Typer(no_args_is_help=True, help="List the broker's keys, and rotate them.")

Data = Annotated[Path, typer.Option("--data", help="The broker's data folder.")]


@app.command("list")
def list_(data: Data = Path("data")) -> None:
    """The public half of every key, the signing one of each role first."""
    keys = _open(data)
    for role in sorted(ALGORITHMS):
        if not keys.exists(role):
            continue
        for number, key in enumerate(keys.public(role)):
            typer.echo(f"{role:<10} {key.algorithm:<6} {key.kid}  {'signs' if number == 0 else 'verifies'}")


@app.command()
def rotate(role: Annotated[str, typer.Argument(help="identity or ssh-ca")], data: Data = Path("data")) -> None:
    """Make a new signing key for a role; the old one stays published until its file is removed. Restart the broker to use it."""
    if role not in ALGORITHMS or role == "log":
        raise typer.BadParameter("identity and ssh-ca can be rotated; the log keeps its key, which is its name")
    key = _open(data).rotate(role)
    typer.echo(f"{role} will sign with {key.kid} from the broker's next start; the ledger records it then")


def _open(data: Path) -> FileKeyStore:
    folder = data / "keys"
    if not folder.is_dir():
        raise typer.BadParameter(f"{folder} is not there; name the broker's data folder with --data")
    return FileKeyStore(folder)
