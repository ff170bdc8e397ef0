"""Where a broker's policies come from: a folder that is watched, or a git repository that it follows.

Owns reading and noticing. What the texts mean belongs to broker.policy; recording and using them to broker.exchange.

* A look changes nothing: a set is in force only when broker.exchange has recorded it, and `taken` says so to the source.
* A source that cannot be had (`SourceUnavailable`) takes nothing away: the last good policies decide on.
"""

from dataclasses import dataclass, field
from typing import Protocol

from broker.errors import ConfigError
from broker.policy.load import PolicyText


class SourceUnavailable(ConfigError):
    """The source cannot be looked at now. It says nothing about the policies, and the next look may go well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that a source says at one moment."""

    texts: tuple[PolicyText, ...] = field(repr=False)
    problems: tuple[str, ...] = field(default=(), repr=False)  # found while reading, one line each
    guardrails: bytes | None = field(default=None, repr=False)  # None where none are configured
    guardrails_name: str = ""  # as problems name them
    commit: str | None = None  # full object name, where the source has commits


class Source(Protocol):
    """One place. `look`, `kept` and `taken` block and run in a thread, one at a time; the rest belongs to the event loop."""

    @property
    def described(self) -> str:
        """For the ledger and for people, without credentials: `folder`, or a URL with its ref and path."""

    @property
    def seen(self) -> float:
        """Seconds since the epoch of the last look that went well; 0.0 before the first."""

    def look(self, *, anyway: bool = False) -> Snapshot | None:
        """What is there now; None where nothing changed since the last look, unless `anyway`.

        Raises SourceUnavailable, and ConfigError where what is there may not be used.
        """

    def kept(self) -> Snapshot | None:
        """The last that was `taken`, where the source has a memory of its own. Raises ConfigError."""

    def taken(self, snapshot: Snapshot) -> None:
        """These policies are in force and on record."""

    def wake(self) -> None:
        """`wait` returns soon."""

    async def wait(self) -> None:
        """Until a look may find something new. Never raises but CancelledError."""

    def close(self) -> None:
        """A look that is under way ends soon, with SourceUnavailable."""
