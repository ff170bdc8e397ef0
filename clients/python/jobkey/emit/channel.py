"""Where a log command can be said: a descriptor that goes to the CI's log, not to somebody's file."""

from __future__ import annotations

import os
import stat


def say(lines: list[str]) -> bool:
    """Write command lines to standard error if a CI can be reading it.

    Standard error, because standard output may be captured (`x=$(jobkey get ...)`) and the CI would not see the
    command; runners read both. If it was redirected to a file, the command would *be* the leak: nothing is written.
    """
    try:
        mode = os.fstat(2).st_mode
        if stat.S_ISREG(mode) or (stat.S_ISCHR(mode) and not os.isatty(2)):  # a file, /dev/null
            return False
        data = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
        while data:
            data = data[os.write(2, data) :]
    except OSError:
        return False
    return True
