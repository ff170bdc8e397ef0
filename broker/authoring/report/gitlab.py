"""For GitLab: a Code Quality report, shown in the merge request's widget and beside its lines.

https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format. GitLab's `artifacts:reports` takes no
SARIF, and its `annotations` are links on the job's page without a place in a file: this is what reaches a reviewer.
"""

import json
from typing import Any, Final

from broker.authoring.finding import Finding, Severity
from broker.authoring.report.model import Report, clean

_SEVERITIES: Final = {Severity.ERROR: "critical", Severity.WARNING: "major", Severity.NOTE: "info"}


def render(report: Report) -> str:
    """A JSON list, empty where nothing was found."""
    found = [_finding(report, finding, fingerprint) for finding, fingerprint in report.fingerprints()]
    return json.dumps(found, indent=2) + "\n"


def _finding(report: Report, finding: Finding, fingerprint: str) -> dict[str, Any]:
    line, _, _ = report.place(finding.place)
    said = clean(finding.message)
    if finding.remedy:
        said += f" ({clean(finding.remedy)})"
    return {
        "description": said,
        "check_name": finding.rule,
        "fingerprint": fingerprint,
        "severity": "blocker" if report.fails(finding) and finding.rule == "load" else _SEVERITIES[finding.severity],
        "location": {"path": report.path(finding.place.file), "lines": {"begin": line}},
    }
