"""Runs `jobkey-broker` commands, each in a process of its own with limits on memory and CPU time, and says how it ended.

A fork server: what is imported once serves every command, so that some hundred of them take seconds. Reads one JSON
object a line: `argv`, `cwd`, `stdin` (a file or null), `patience` (seconds). Answers with one: `code` (None where it had
to be killed), `out`, `err`, `cpu` (seconds), `memory` (bytes, the most it held).
"""

import gc
import json
import os
import resource
import signal
import sys
import tempfile
import traceback
from typing import Any

import typer
from typer import Context

from broker.cli import main as command  # before broker.cli.main hides it

MEMORY = 2 << 30  # of address space: the interpreter and its libraries map half a GiB of it
CPU = 60


def main() -> None:
    import broker.authoring.checking
    import broker.catalog
    import broker.cli.main
    import broker.cli.policy
    import broker.policy.load
    import broker.settings

    commands = typer.main.get_group(broker.cli.policy.app)
    for name in commands.list_commands(Context(commands)):
        commands.get_command(Context(commands), name)
    gc.collect()
    gc.freeze()  # or each child's first collection would copy every page
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)


def run(task: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if pid == 0:
            child(task, out.fileno(), err.fileno())
        signal.signal(signal.SIGALRM, lambda *_: os.kill(pid, signal.SIGKILL))
        signal.alarm(task["patience"])
        _, status, used = os.wait4(pid, 0)
        signal.alarm(0)
        said = [whole.read(1 << 22).decode("utf-8", "replace") for whole in (out, err) if whole.seek(0) == 0]
    return {
        "code": os.waitstatus_to_exitcode(status),
        "out": said[0],
        "err": said[1],
        "cpu": used.ru_utime + used.ru_stime,
        "memory": used.ru_maxrss << 10,
    }


def child(task: dict[str, Any], out: int, err: int) -> None:
    code = 99
    try:
        os.chdir(task["cwd"])
        os.dup2(os.open(task["stdin"] or os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False, errors="backslashreplace")
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU, CPU))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sys.argv = ["jobkey-broker", *task["argv"]]
        command()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


if __name__ == "__main__":
    main()
