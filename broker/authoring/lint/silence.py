"""Silencing one finding on purpose, with a reason that stays in the file.

    # jobkey: allow unprotected-branch because the repository's ruleset covers release/*
    ref: {glob: "refs/heads/release/*"}

* The comment stands at the end of the line that the finding points at, or on lines of its own right above it.
* It names one rule. Without `because` and a reason it silences nothing, and is a finding; so is one that silences nothing.
* Only a comment counts: the same words inside a text do not.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml

from broker.authoring.finding import Fix

_MARK: Final = re.compile(r"(?:^|(?<=\s))#\s*jobkey:")
_ALLOW: Final = re.compile(r"#\s*jobkey:\s*allow\s+(?P<rule>[^\s]+)(?:\s+because\s+(?P<reason>.*?))?\s*")
_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
FORM: Final = "# jobkey: allow RULE because REASON"


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """One comment. `covers` is the line whose findings it silences; all lines and columns from 1."""

    line: int
    column: int
    covers: int
    rule: str | None  # None where it cannot be read
    reason: str

    @property
    def good(self) -> bool:
        return self.rule is not None and any(character.isalnum() for character in self.reason)


def silences(text: str) -> tuple[Silence, ...]:
    """Every such comment of a file that is known to be YAML."""
    if "jobkey:" not in text:
        return ()
    lines = text.splitlines()
    inside = _texts(text)
    found = []
    for number, line in enumerate(lines, 1):
        for match in _MARK.finditer(line):
            if any(first <= (number, match.start() + 1) < last for first, last in inside):
                continue
            said = _ALLOW.fullmatch(line, match.start())
            alone = not line[: match.start()].strip()
            found.append(
                Silence(
                    line=number,
                    column=match.start() + 1,
                    covers=_next(lines, number) if alone else number,
                    rule=said["rule"] if said else None,
                    reason=(said["reason"] or "") if said else "",
                )
            )
            break
    return tuple(found)


def removal(text: str, file: str, silence: Silence) -> Fix:
    """The file without the comment: nothing but the comment changes."""
    kept = text.splitlines()[silence.line - 1][: silence.column - 1].rstrip()
    return Fix(
        title="remove the comment", file=file, first=silence.line, last=silence.line, lines=(kept,) if kept else ()
    )


def _next(lines: list[str], number: int) -> int:
    """The first line after `number` that holds more than a comment."""
    for later in range(number, len(lines)):
        if (bare := lines[later].strip()) and not bare.startswith("#"):
            return later + 1
    return number


def _texts(text: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where scalars begin and end. `#` inside one is no comment."""
    return list(_scalars(text.removeprefix("\ufeff")))


def _scalars(text: str) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    loader = _Loader(text)
    try:
        while not isinstance(event := loader.get_event(), yaml.StreamEndEvent):
            if isinstance(event, yaml.ScalarEvent):
                start: Any = event.start_mark  # the parser always sets both
                end: Any = event.end_mark
                yield (start.line + 1, start.column + 1), (end.line + 1, end.column + 1)
    except yaml.YAMLError:  # it was parsed before, so this is not reached; a rule that fails must not end a check
        return
    finally:
        loader.dispose()
