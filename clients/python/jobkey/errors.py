"""Everything that can go wrong in the client, each with the exit code that a script can act on (sysexits.h).

JobkeyError
  UsageError      64  the command line, or a request that no grant could take (422)
  Unavailable     69  the broker or the CI's token service did not answer within the patience
  ProtocolError   76  somebody answered with something that is not an answer
  LocalError      74  a file or directory of this machine is not as private as it has to be, or cannot be written
  Refused         77  the broker said no: 401, 403, 409
  ConfigError     78  no broker, no identity token, a setting that makes no sense

`str()` of an error is short, holds nothing secret, and cannot start a line of its own in a log: text of a server is
cleaned of control characters, so that it can carry neither terminal escapes nor a CI's workflow commands.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WIDTH = 600  # characters of server text that are shown


class JobkeyError(Exception):
    """`what` went wrong and the `remedy`: the next thing a person can do. `facts` are shown as a small table."""

    exit_code = 70
    word = "error"

    def __init__(self, what: str, remedy: str = "", facts: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy
        self.facts = facts

    def __str__(self) -> str:
        lines = [f"jobkey: {self.word}: {printable(self.what)}"]
        lines += [f"  {name:<7} {printable(value)}" for name, value in self.facts if value]
        if self.remedy:
            lines.append(f"  {'next':<7} {printable(self.remedy)}")
        return "\n".join(lines)


class UsageError(JobkeyError):
    exit_code = 64
    word = "usage"


class Unavailable(JobkeyError):
    exit_code = 69
    word = "unavailable"


class ProtocolError(JobkeyError):
    exit_code = 76
    word = "bad answer"


class LocalError(JobkeyError):
    exit_code = 74
    word = "local"


class Refused(JobkeyError):
    exit_code = 77
    word = "refused"


class ConfigError(JobkeyError):
    exit_code = 78
    word = "configuration"


class Problem(Exception):
    """An answer of the broker that is not 2xx, before anybody decided what it means.

    `status` 0 means that there was no answer at all; `retry_after` is in seconds.
    """

    def __init__(self, status: int, document: dict[str, Any], retry_after: float | None = None) -> None:
        super().__init__(f"HTTP {status}" if status else "no answer")
        self.status = status
        self.document = document
        self.retry_after = retry_after

    def text(self, member: str) -> str:
        value = self.document.get(member)
        return value if isinstance(value, str) else ""


REMEDIES = {
    401: "Run `jobkey whoami` to see what this job presents; compare issuer and audience with the broker's issuers.",
    403: "Give the case number to the owners of the policy; `jobkey whoami` shows how the broker names this job.",
    409: "A token works once. Let jobkey get its own, and do not hand the same token to two programs.",
    422: "Correct the request; nothing was issued and the token is still good.",
}


def from_problem(problem: Problem, grants: tuple[str, ...] = ()) -> JobkeyError:
    """The error a person sees for a final answer of the broker."""
    status = problem.status
    kind: type[JobkeyError] = ProtocolError
    if status in (401, 403, 404, 409):
        kind = Refused
    elif status in (400, 413, 415, 422):
        kind = UsageError
    elif status == 0 or status in RETRIED or status >= 500:
        kind = Unavailable
    title = problem.text("title") or ("the broker cannot be reached" if not status else "unexpected answer")
    remedy = problem.text("remedy") or REMEDIES.get(status, "")
    if kind is Unavailable and not remedy:
        remedy = "Try again later; JOBKEY_PATIENCE sets for how many seconds jobkey tries by itself."
    facts = (
        ("grants", ", ".join(grants)),
        ("detail", problem.text("detail")),
        ("case", problem.text("case")),
    )
    return kind(f"{title} ({status})" if status else title, remedy, facts)


RETRIED = (429, 502, 503, 504)


def printable(text: str) -> str:
    """One line without control, format or separator characters, of a bounded length."""
    clean = "".join(c if c.isprintable() else " " for c in text[: WIDTH + 1])
    return clean if len(clean) <= WIDTH else clean[:WIDTH] + "..."


def note(text: str) -> None:
    """Tell people something that is no error, where they look for errors."""
    sys.stderr.write(f"jobkey: {printable(text)}\n")
    sys.stderr.flush()
