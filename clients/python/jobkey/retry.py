"""Try again, for as long as a person would still wait.

Only what can help is repeated: 429 (after its Retry-After), 502, 503, 504 and no answer at all. A refusal is an answer,
and so is a problem that says of itself that it is not `retryable`.
Waits grow from a quarter of a second to eight, each drawn from half to whole (jitter: a thousand jobs that lost the
same broker must not come back in the same millisecond).
"""

from __future__ import annotations

import os
import time

from jobkey.errors import RETRIED, ConfigError, Problem
from jobkey.wire import ConnectionFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Callable, TypeVar

    T = TypeVar("T")

FIRST_WAIT, LONGEST_WAIT = 0.25, 8.0
DEFAULT_PATIENCE = 60.0


def patience(env: Mapping[str, str]) -> float:
    """Seconds from JOBKEY_PATIENCE; 0 means one try."""
    text = env.get("JOBKEY_PATIENCE", "")
    if not text:
        return DEFAULT_PATIENCE
    if not (text.isdigit() and text.isascii() and len(text) <= 4):
        raise ConfigError("JOBKEY_PATIENCE is not a whole number of seconds", "Set it to 0 to 9999.")
    return float(text)


def persist(
    call: Callable[[float], T], seconds: float, say: Callable[[str], None], sleep: Callable[[float], None] = time.sleep
) -> T:
    """Call until it answers or `seconds` are over; `call` gets the seconds that are left, at least one.

    Raises:
        Problem: the last one, `status` 0 when there was no answer.
    """
    end = time.monotonic() + seconds
    wait = FIRST_WAIT
    while True:
        try:
            return call(max(1.0, end - time.monotonic()))
        except ConnectionFailed as error:
            problem = Problem(0, {"detail": str(error)})
        except Problem as error:
            if error.status not in RETRIED or error.document.get("retryable") is False:
                raise
            problem = error
        pause = wait * (0.5 + os.urandom(1)[0] / 510)
        if problem.retry_after is not None:
            pause = max(problem.retry_after, pause)
        if time.monotonic() + pause > end:
            raise problem
        say(f"{problem}, next try in {pause:.1f} s")
        sleep(pause)
        wait = min(wait * 2, LONGEST_WAIT)
