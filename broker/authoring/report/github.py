"""For GitHub Actions and its like: one workflow command a finding, which the runner shows beside the line.

https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands: `%`, CR and LF are escaped in
everything, `:` and `,` in properties too. So nothing in a file or a name can end a command or begin another.
"""

from typing import Final

from broker.authoring.checking import LOAD
from broker.authoring.finding import Finding, Severity
from broker.authoring.report.model import Report, clean
from broker.authoring.report.text import counted

_COMMANDS: Final = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "notice"}


def render(report: Report) -> str:
    """The commands, failing ones first since a runner shows only the first ten of a kind; then a line to read."""
    findings = sorted(report.findings, key=lambda finding: not report.fails(finding))
    body = "".join(_command(report, finding) for finding in findings)
    said = ", ".join(counted(number, severity.value) for severity in Severity if (number := report.count(severity)))
    return f"{body}policy check: {'good' if report.good else 'not good'}{': ' if said else ''}{said}\n"


def _command(report: Report, finding: Finding) -> str:
    line, column, end = report.place(finding.place)
    command = _COMMANDS[finding.severity]
    if report.strict and finding.severity is Severity.WARNING:
        command = "error"
    properties = {
        "file": report.path(finding.place.file), "line": str(line), "endLine": str(line),
        "col": str(column), "endColumn": str(end), "title": f"policy check: {finding.rule}",
    }  # fmt: skip
    said = [clean(finding.message)]
    said += [clean(f"see {report.path(place.file)}:{place.line}: {also}") for place, also in finding.related]
    if finding.remedy:
        said.append(clean(finding.remedy))
    if finding.rule != LOAD:
        said.append(clean(report.page(report.rule(finding))))
    shown = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::{command} {shown}::{_data(chr(10).join(said))}\n"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(clean(text)).replace(":", "%3A").replace(",", "%2C")
