"""Fixes: whole lines, made only where the file's own layout leaves one way to write them."""

from broker.authoring.finding import Fix
from broker.documents import Path
from broker.policy.load import Checked


def beside(checked: Checked, path: Path, lines: tuple[str, ...], title: str) -> Fix | None:
    """New keys above the key at `path`, in the same mapping. None where that mapping is not in block style."""
    mark = checked.document.marks.get(path)
    if mark is None:
        return None
    number, column = mark
    source = _line(checked, number)
    if source[: column - 1].strip() or "\t" in source[: column - 1]:
        return None  # in braces, or behind a dash: a new line would be something else
    indent = source[: column - 1]
    return Fix(
        title=title,
        file=checked.document.name,
        first=number,
        last=number,
        lines=(*(indent + line for line in lines), source),
    )


def value(checked: Checked, path: Path, written: str, new: str, title: str) -> Fix | None:
    """Another plain value for the key at `path`, which has to stand alone on its line with exactly `written`."""
    mark = checked.document.marks.get(path)
    if mark is None:
        return None
    number, column = mark
    source = _line(checked, number)
    before, _, rest = source.partition(f"{path[-1]}:")
    comment = rest.partition(" #")
    if before.strip() or len(before) != column - 1 or comment[0].strip().strip("\"'") != written:
        return None
    line = f"{before}{path[-1]}: {new}" + (f"  #{comment[2]}" if comment[1] else "")
    return Fix(title=title, file=checked.document.name, first=number, last=number, lines=(line,))


def _line(checked: Checked, number: int) -> str:
    return checked.text.data.decode("utf-8-sig").splitlines()[number - 1]
