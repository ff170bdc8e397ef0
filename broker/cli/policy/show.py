"""How the commands of `jobkey-broker policy` show what they found."""

import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from rich.cells import cell_len
from rich.text import Text

from broker.authoring.report.model import excerpt as cut
from broker.authoring.report.model import harmless, shown_file, split_lines
from broker.cli.policy.setting import LARGEST_CLAIMS

_PLACE: Final = re.compile(r"(?P<file>.+?):(?P<line>[0-9]{1,9}):(?P<column>[0-9]{1,9}): (?P<message>.*)", re.DOTALL)


def excerpt(problem: str, sources: Mapping[str, bytes] | None = None) -> Iterator[Text]:
    """The problem, and the line it is about with a caret below it. One line of a file is one line here.

    `sources` are files that are not on the disk, or not as they are there: those of a git revision.
    """
    match = _PLACE.fullmatch(problem)
    if match is None:
        yield Text(harmless(problem))
        return
    place = f"{shown_file(match['file'])}:{match['line']}:{match['column']}"
    yield Text.assemble((place, "bold"), ": ", harmless(match["message"]))
    known = (sources or {}).get(match["file"])
    lines = split_lines(
        known.decode("utf-8", "replace") if known is not None else read_source(Path(match["file"])) or ""
    )
    line = int(match["line"])
    if not 0 < line <= len(lines):
        return
    shown, at = cut(lines[line - 1], int(match["column"]))
    shown = harmless(shown)
    yield Text.assemble((f"{line:>5} | ", "dim"), shown)
    yield Text.assemble((" " * 5 + " | ", "dim"), " " * cell_len(shown[:at]), ("^", "bold red"))


def read_source(path: Path) -> str | None:
    """The beginning of a file for an excerpt; None for what is no regular file: opening a FIFO would wait for ever."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None
        with path.open("rb") as file:
            return file.read(LARGEST_CLAIMS).decode("utf-8", "replace")
    except (OSError, ValueError, RuntimeError):  # ValueError: a NUL in a name; RuntimeError: a loop of links
        return None


def counted(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
