"""The command line, from the words typed to an exit code.

Exit codes: the child's own from `jobkey exec` (128 + n when a signal ended it, 126 and 127 when it cannot start);
otherwise those of `jobkey.errors`: 0, 64 usage, 69 unavailable, 70 a bug, 74 local files, 76 bad answer, 77 refused,
78 configuration.
"""

from __future__ import annotations

import os
import sys

from jobkey.arguments import USAGE, parse
from jobkey.errors import JobkeyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def main(argv: list[str], env: Mapping[str, str]) -> int:
    """Run one command; the exit code. Never raises for what a user, a CI or a broker can cause."""
    before = argv[: argv.index("--")] if "--" in argv else argv
    if "--help" in before or "-h" in before or before == ["help"]:
        sys.stdout.write(USAGE)
        return 0
    if before == ["--version"]:
        from jobkey import __version__

        sys.stdout.write(f"jobkey {__version__}\n")
        return 0
    try:
        arguments = parse(argv)
        from jobkey import commands

        run = {
            "exec": commands.exec_,
            "get": commands.get,
            "whoami": commands.whoami,
            "revoke": commands.revoke,
        }[arguments.name]
        return run(arguments, env)
    except JobkeyError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # a bug: say where, and nothing that was in the variables or in the message
        sys.stderr.write(
            f"jobkey: internal error: {type(error).__name__} at {_where(error)}\n  next    Please report it.\n"
        )
        return 70


def _where(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}" if trace else "?"


def entry() -> None:
    """The console script."""
    if os.name != "posix":
        sys.exit("jobkey: runs on Linux and macOS (private files and signals need POSIX); on Windows use WSL")
    for fd in (0, 1, 2):  # a closed standard descriptor would be given to the next socket or pipe
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.exit(main(sys.argv[1:], os.environ))


if __name__ == "__main__":
    entry()
