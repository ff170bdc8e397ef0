"""What a check found: the one shape that every rule gives and every output shows."""

from dataclasses import dataclass, field
from enum import StrEnum

from broker.documents import Path


class Severity(StrEnum):
    """How much it matters: an error fails a check, a warning fails it where the caller says so, a note never does."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where something stands; line and column from 1, the column in characters."""

    file: str  # as the caller named it
    line: int
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """Whole lines of one file, `first` to `last` from 1 and inclusive, replaced by `lines`; it never widens a policy."""

    title: str
    file: str
    first: int
    last: int
    lines: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One problem at one place. `message` says what is wrong and what follows; `remedy` what to write instead."""

    rule: str  # a stable id with a page of its own, docs/rules/<rule>.md; "load" for what does not load at all
    severity: Severity
    message: str = field(repr=False)
    remedy: str = field(default="", repr=False)
    place: Place
    path: Path = ()  # in the document: ("trust", 0, "job", "ref")
    policy: str | None = None
    related: tuple[tuple[Place, str], ...] = field(default=(), repr=False)  # other places, and what stands there
    fix: Fix | None = field(default=None, repr=False)
