"""`jobkey-broker`: the operator's and the auditor's command. One file a group of commands."""

import io
import sys
from typing import Final

EXIT_CONFIG: Final = 78  # sysexits.h EX_CONFIG


def main() -> None:
    """The console script: every ConfigError is printed as it is, one problem a line."""
    from broker.cli.main import app
    from broker.cli.tell import clean
    from broker.errors import BrokerError, ConfigError

    for stream in (sys.stdout, sys.stderr):  # a terminal that knows no such letter is shown its number
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except ConfigError as error:
        for problem in error.problems:
            print(clean(problem), file=sys.stderr)
        raise SystemExit(EXIT_CONFIG) from None
    except BrokerError as error:
        print(f"jobkey-broker: {error.detail}", file=sys.stderr)
        raise SystemExit(1) from None
