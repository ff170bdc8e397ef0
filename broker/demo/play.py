"""`jobkey-broker dev`: the demo's broker and practice CI, kept running for a person.

`<folder>/<event>.env` makes a shell into a job of that kind: `. ./push.env`. They name the practice CI's request token, which opens
nothing but this broker, and are mode 0600 all the same.
"""

import asyncio
import contextlib
import os
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console

from broker.demo.ground import lay
from broker.demo.practice_ci import EVENTS, PracticeCi
from broker.demo.story import free_port
from broker.logs import configure
from broker.serve import serve
from broker.settings import load_settings

TITLES: Final = {"push": "a job on main", "fork-pull-request": "a fork's pull request"}


def play(*, port: int, folder: Path | None) -> None:
    """Serve until SIGINT or SIGTERM. Raises ConfigError."""
    configure()
    with contextlib.ExitStack() as stack:
        ground = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jobkey-dev-")))
        uvloop.run(_play(ground.resolve(), port or free_port()))


async def _play(folder: Path, port: int) -> None:
    ci = PracticeCi()
    await ci.start()
    try:
        url = f"http://127.0.0.1:{port}"
        config = lay(folder, url=url, port=port, issuer=ci.url)
        runner = folder / "runner"
        runner.mkdir(mode=0o700, exist_ok=True)
        for event in EVENTS:
            write_environment(
                folder / f"{event}.env",
                {"JOBKEY_URL": url, "RUNNER_TEMP": str(runner), **ci.environment(event)},
            )
        _tell(folder, url)
        await asyncio.gather(serve(load_settings(config)))
    finally:
        await ci.close()


def write_environment(path: Path, variables: Mapping[str, str]) -> None:
    """Lines that a shell reads with `. path`. Replaces the file whole, so that nobody reads half of one."""
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()]
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    with os.fdopen(descriptor, "w") as file:
        file.writelines(lines)
    Path(temporary).replace(path)


def _tell(folder: Path, url: str) -> None:
    out = Console(highlight=False, soft_wrap=True)
    out.print(f"A practice broker is coming up at {url}. Its files, its ledger and its policy are in\n", markup=False)
    out.print(f"  {folder}\n", style="bold", markup=False)
    out.print("In another shell:\n", markup=False)
    steps = [(f"cd {shlex.quote(str(folder))}", "")]
    for event, title in TITLES.items():
        steps.append((f". ./{event}.env", f"now this shell is {title}"))
        if event == "push":
            steps.append(("jobkey whoami", "how the broker names it"))
            steps.append(("jobkey exec payments/deploy payments/ssh -- env", "two credentials for one command"))
        else:
            steps.append(("jobkey exec payments/deploy -- true", "refused, with a case number"))
    steps.append(("jobkey-broker audit show CASE --data data", "why"))
    steps.append(("jobkey-broker audit list --data data", "all that happened"))
    width = max(len(command) for command, _ in steps[1:])
    for command, says in steps:
        out.print(f"  {command.ljust(width)}  # {says}" if says else f"  {command}", markup=False)
    out.print(
        "\nLines that begin with ::add-mask:: are for a CI's runner, which acts on them and takes them out of the log.",
        markup=False,
    )
    out.print("policies/payments.yaml is read again whenever it is saved. Ctrl-C ends it all.\n", markup=False)
