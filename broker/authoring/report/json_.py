"""For programs: JSON whose members are described in docs/policy-check.md and only ever added to.

ASCII only, every other character escaped: a terminal that shows it does nothing.
"""

import json
from typing import Any, Final

from broker.authoring.checking import Suite
from broker.authoring.finding import Finding, Place, Severity
from broker.authoring.report.model import Report
from broker.documents import dotted

VERSION: Final = 1  # a new one would be a new shape; members may be added to this one


def render(report: Report) -> str:
    """One JSON object, two spaces of indent, a final newline."""
    examples = [outcome for suite in report.suites for outcome in suite.examples]
    body = {
        "version": VERSION,
        "tool": {"name": "jobkey-broker", "version": report.version},
        "good": report.good,
        "loads": report.loads,
        "summary": {
            "files": len(report.suites),
            "policies": report.counts.policies,
            "statements": report.counts.statements,
            "grants": report.counts.grants,
            "examples": len(examples),
            "examples_otherwise": sum(bool(outcome.problems) for outcome in examples),
            **{f"{severity.value}s": report.count(severity) for severity in Severity},
        },
        "not_checked": list(report.not_checked),
        "used": list(report.used),
        "findings": [_finding(report, finding, fingerprint) for finding, fingerprint in report.fingerprints()],
        "examples": [example for suite in report.suites for example in _examples(suite)],
    }
    return json.dumps(body, indent=2) + "\n"


def _finding(report: Report, finding: Finding, fingerprint: str) -> dict[str, Any]:
    fix = finding.fix
    return {
        "rule": finding.rule,
        "severity": finding.severity.value,
        "fails": report.fails(finding),
        **_place(finding.place),
        "path": dotted(finding.path),
        "policy": finding.policy,
        "message": finding.message,
        "remedy": finding.remedy,
        "page": report.page(report.rule(finding)),
        "related": [{**_place(place), "message": said} for place, said in finding.related],
        "fix": fix and {"title": fix.title, "file": fix.file, "first": fix.first, "last": fix.last, "lines": fix.lines},
        "fingerprint": fingerprint,
    }


def _place(place: Place) -> dict[str, Any]:
    return {"file": place.file, "line": place.line, "column": place.column}


def _examples(suite: Suite) -> list[dict[str, Any]]:
    return [
        {
            "file": suite.file,
            "policy": suite.policy,
            "version": suite.version or "today",
            "number": outcome.number,
            "name": outcome.name,
            "expect": list(outcome.expected) or "refuse",
            "as_expected": not outcome.problems,
            "problems": list(outcome.problems),
        }
        for outcome in suite.examples
    ]
