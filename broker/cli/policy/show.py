"""How the commands of `jobkey-broker policy` show what they found."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rich.text import Text

from broker.cli.policy.setting import LARGEST_CLAIMS

_PLACE: Final = re.compile(r"(?P<file>.+?):(?P<line>[0-9]+):(?P<column>[0-9]+): (?P<message>.*)", re.DOTALL)


def excerpt(problem: str) -> Iterator[Text | str]:
    """The problem, and the line it is about with a caret below it."""
    match = _PLACE.fullmatch(problem)
    if match is None:
        yield Text(problem)
        return
    place = f"{match['file']}:{match['line']}:{match['column']}"
    yield Text.assemble((place, "bold"), ": ", match["message"])
    try:
        with Path(match["file"]).open(encoding="utf-8", errors="replace") as file:
            lines = file.read(LARGEST_CLAIMS).splitlines()
        source = lines[int(match["line"]) - 1]
    except (OSError, IndexError):
        return
    column = int(match["column"])
    shown = "".join(character if character.isprintable() else " " for character in source)
    gutter = f"{match['line']:>5} | "
    yield Text.assemble((gutter, "dim"), shown)
    yield Text.assemble((" " * 5 + " | ", "dim"), " " * (column - 1), ("^", "bold red"))


def counted(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
