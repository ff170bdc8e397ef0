"""`jobkey-broker dev`: the demo's broker and practice CI, kept running for a person."""

import asyncio
import contextlib
import shlex
import tempfile
from pathlib import Path

import uvloop
from rich.console import Console

from broker.demo.ground import lay
from broker.demo.practice_ci import PracticeCi
from broker.demo.story import free_port
from broker.logs import configure
from broker.serve import serve
from broker.settings import load_settings


def play(*, port: int, folder: Path | None) -> None:
    """Serve until SIGINT or SIGTERM. Raises ConfigError."""
    configure()
    with contextlib.ExitStack() as stack:
        ground = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jobkey-dev-")))
        uvloop.run(_play(ground, port or free_port()))


async def _play(folder: Path, port: int) -> None:
    ci = PracticeCi()
    await ci.start()
    try:
        config = lay(folder, url=f"http://127.0.0.1:{port}", port=port, issuer=ci.url)
        _tell(folder, port, ci)
        await asyncio.gather(serve(load_settings(config)))
    finally:
        await ci.close()


def _tell(folder: Path, port: int, ci: PracticeCi) -> None:
    out = Console(highlight=False, soft_wrap=True)
    out.print(
        f"A practice broker at http://127.0.0.1:{port}, in {folder}. Edit {folder}/policies/payments.yaml: it is read again by itself.\n",
        markup=False,
    )
    for title, event in (("Be a job on main", "push"), ("Be a fork's pull request", "fork-pull-request")):
        out.print(f"# {title}: paste this into another shell, then try `jobkey whoami`, or", style="bold", markup=False)
        out.print("# `jobkey exec payments/deploy payments/ssh -- env`", style="bold", markup=False)
        for name, value in {"JOBKEY_URL": f"http://127.0.0.1:{port}", **ci.environment(event)}.items():
            out.print(f"export {name}={shlex.quote(value)}", markup=False)
        out.print()
    out.print(f"# Read the ledger: jobkey-broker audit list --data {folder}/data\n", style="bold", markup=False)
