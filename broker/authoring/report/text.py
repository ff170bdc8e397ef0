"""For people: each finding where it stands, with the line it is about, what to write instead, and where its page is.

One line of a terminal is one line here: whatever comes from a file loses its control characters.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from rich.cells import cell_len

from broker.authoring.checking import LOAD
from broker.authoring.finding import Finding, Severity
from broker.authoring.report.model import Report, excerpt, harmless, shown_file

Span = tuple[str, str]  # text, and a style of rich; "" for none
_STYLES: Final = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}
_INDENT: Final = " " * 5


def render(report: Report) -> str:
    """The report as plain text."""
    return "".join("".join(text for text, _ in line) + "\n" for line in lines(report))


def lines(report: Report) -> Iterator[Sequence[Span]]:
    """The report line by line, with styles for a terminal."""
    for finding in report.findings:
        yield from _finding(report, finding)
    yield from _summary(report)
    for note in report.used:
        yield [(f"used: {harmless(note)}", "")]
    for note in report.not_checked:
        yield [(f"not checked: {note}", "")]


def _finding(report: Report, finding: Finding) -> Iterator[Sequence[Span]]:
    place = f"{shown_file(finding.place.file)}:{finding.place.line}:{finding.place.column}"
    head: list[Span] = [(place, "bold"), (": ", "")]
    if finding.rule != LOAD:  # what does not load is worded as the broker words it
        head += [(finding.severity.value, _STYLES[finding.severity]), (": ", "")]
    head.append((harmless(finding.message), ""))
    if finding.rule != LOAD:
        head.append((f" [{harmless(finding.rule)}]", "dim"))
    yield head
    source = report.lines(finding.place.file)
    if 0 < finding.place.line <= len(source):
        shown, at = excerpt(source[finding.place.line - 1], finding.place.column)
        shown = harmless(shown)
        yield [(f"{finding.place.line:>5} | ", "dim"), (shown, "")]
        yield [(f"{_INDENT} | ", "dim"), (" " * cell_len(shown[:at]), ""), ("^", "bold red")]
    for other, said in finding.related:
        where = f"{shown_file(other.file)}:{other.line}:{other.column}"
        yield [(f"{_INDENT} = see ", "dim"), (where, "bold"), (f": {harmless(said)}", "")]
    if finding.remedy:
        yield [(f"{_INDENT} = remedy: ", "dim"), (harmless(finding.remedy), "")]
    if finding.fix is not None:
        yield [(f"{_INDENT} = --fix: ", "dim"), (harmless(finding.fix.title), "")]
    if finding.rule != LOAD:
        rule = report.rule(finding)
        why = report.page(rule) if report.docs else f"jobkey-broker policy rule {rule.id}"
        yield [(f"{_INDENT} = why: ", "dim"), (harmless(why), "")]


def _summary(report: Report) -> Iterator[Sequence[Span]]:
    counts = [
        counted(report.counts.policies, "policy", "policies"),
        counted(report.counts.statements, "statement"),
        counted(report.counts.grants, "grant"),
    ]
    loaded = sum(finding.rule == LOAD for finding in report.findings)
    others = [
        counted(number, severity.value)
        for severity in Severity
        if (number := report.count(severity) - (loaded if severity is Severity.ERROR else 0))
    ]
    if loaded:
        linted = f"; {', '.join(others)} in what loads" if others else ""
        yield [(counted(loaded, "problem"), "red"), (f"; nothing would be loaded{linted}", "")]
    elif not report.good:
        strict = " (--strict)" if report.strict and not report.count(Severity.ERROR) else ""
        yield [(", ".join(others), "red"), (f"{strict}; {', '.join(counts)} load, and every example comes out", "")]
    else:
        more = f"; {', '.join(others)}" if others else ""
        yield [("good", "green"), (f": {', '.join(counts)}; every example came out as it says{more}", "")]


def counted(number: int, one: str, many: str = "") -> str:
    """`1 problem`, `2 problems`."""
    return f"{number} {one if number == 1 else many or one + 's'}"
