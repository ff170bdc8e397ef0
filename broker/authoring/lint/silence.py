"""Silencing one finding on purpose, with a reason that stays in the file.

    # jobkey: allow unprotected-branch because the repository's ruleset covers release/*
    ref: {glob: "refs/heads/release/*"}

* The comment stands at the end of the line that the finding points at, or on lines of its own right above it.
* It names one rule. Without `because` and a reason it silences nothing, and is a finding; so is one that silences nothing.
* Only a comment counts: the same words inside a text do not.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml

from broker.authoring.finding import Fix

_MARK: Final = re.compile(r"(?:^|(?<=\s))#\s*jobkey:")
_ALLOW: Final = re.compile(r"#\s*jobkey:\s*allow\s+(?P<rule>[^\s]+)(?:\s+because\s+(?P<reason>\S.*))?")
_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_LAST: Final = (1 << 62, 0)  # later than any place in a file
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
    inside = list(_scalars(text.removeprefix("\ufeff")))
    covered = _covered(lines)
    found = []
    for number, line in enumerate(lines, 1):
        for match in _MARK.finditer(line):
            at = bisect_right(inside, ((number, match.start() + 1), _LAST)) - 1
            if at >= 0 and (number, match.start() + 1) < inside[at][1]:
                continue
            said = _ALLOW.fullmatch(line.rstrip(), match.start())
            found.append(
                Silence(
                    line=number,
                    column=match.start() + 1,
                    covers=number if line[: match.start()].strip() else covered[number - 1],
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


def _covered(lines: list[str]) -> list[int]:
    """For each line, the first one after it that holds more than a comment; itself where there is none. From 1."""
    covered: list[int] = []
    below = 0
    for number in range(len(lines), 0, -1):
        covered.append(below or number)
        bare = lines[number - 1].strip()
        if bare and not bare.startswith("#"):
            below = number
    return covered[::-1]


def _scalars(text: str) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Where texts begin and end, in order. A `#` inside one is no comment."""
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
