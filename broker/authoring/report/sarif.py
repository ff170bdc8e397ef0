"""SARIF 2.1.0 (OASIS), for code scanning: findings with their rules, places, fixes, and a name that survives moved lines.

Messages are plain text: no link that a policy's text could smuggle in (section 3.11.6) is left in them.
"""

import json
import re
from typing import Any, Final

from broker.authoring.checking import LOAD
from broker.authoring.finding import Finding, Fix, Place, Severity
from broker.authoring.report.model import Report, RuleInfo, clean, fix_text

SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"
ROOT: Final = "SRCROOT"
FINGERPRINT: Final = "jobkeyFinding/v1"
URN: Final = "urn:jobkey:"  # where nobody said at which address the documentation is
_LEVELS: Final = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "note"}


def render(report: Report) -> str:
    """One log with one run."""
    found = list(report.fingerprints())
    rules = sorted({**report.rules, **{finding.rule: report.rule(finding) for finding, _ in found}}.items())
    index = {rule: number for number, (rule, _) in enumerate(rules)}
    driver: dict[str, Any] = {
        "name": "jobkey-broker policy check",
        "organization": "Jobkey",
        "version": report.version,
        "semanticVersion": report.version,
        "informationUri": f"{report.docs}docs/policy-check.md" if report.docs else f"{URN}docs:policy-check",
        "rules": [_rule(report, rule) for _, rule in rules],
    }
    run: dict[str, Any] = {
        "tool": {"driver": driver},
        "automationDetails": {"id": "jobkey-policy-check/"},
        "invocations": [{"executionSuccessful": True}],
        "originalUriBaseIds": {ROOT: {"description": {"text": "The root of the repository that holds the policies."}}},
        "columnKind": "unicodeCodePoints",
        "newlineSequences": ["\r\n", "\n", "\r", "\u0085", "\u2028", "\u2029"],
        "results": [_result(report, finding, fingerprint, index) for finding, fingerprint in found],
    }
    if report.revision is not None:
        uri, commit = report.revision
        run["versionControlProvenance"] = [
            {"repositoryUri": uri, "revisionId": commit, "mappedTo": {"uriBaseId": ROOT}}
        ]
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _rule(report: Report, rule: RuleInfo) -> dict[str, Any]:
    where = report.page(rule)
    name = _pascal(rule.id)
    if name.casefold() == rule.id.casefold():  # SARIF1001 of the validator: a name says more than its id
        name = _pascal(rule.title)
    described = clean(rule.description or rule.title)
    return {
        "id": rule.id,
        "name": name,
        "shortDescription": {"text": _sentence(rule.title)},
        "fullDescription": {"text": _sentence(described)},
        "helpUri": where if report.docs else f"{URN}rule:{rule.id}",
        "help": {
            "text": f"{_sentence(described)} The attack, the bad policy and the good one: {where}",
            "markdown": f"{_sentence(described)}\n\nThe attack, the bad policy and the good one: `{where}`",
        },
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
        "properties": {"tags": ["security", "trust-policy"], "precision": "very-high" if rule.id == LOAD else "high"},
    }


def _result(report: Report, finding: Finding, fingerprint: str, index: dict[str, int]) -> dict[str, Any]:
    said = [_plain(finding.message)] + ([_plain(finding.remedy)] if finding.remedy else [])
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": index[finding.rule],
        "level": "error" if report.fails(finding) else _LEVELS[finding.severity],
        "message": {"text": " ".join(_sentence(part) for part in said)},
        "locations": [{"physicalLocation": _physical(report, finding.place)}],
        "partialFingerprints": {FINGERPRINT: fingerprint},
    }
    if finding.policy:
        logical = {"fullyQualifiedName": clean(finding.policy), "kind": "resource"}
        result["locations"][0]["logicalLocations"] = [logical]
    if finding.related:
        result["relatedLocations"] = [
            {"id": number, "physicalLocation": _physical(report, place), "message": {"text": _sentence(_plain(also))}}
            for number, (place, also) in enumerate(finding.related)
        ]
    if finding.fix is not None:
        result["fixes"] = [_fix(report, finding.fix)]
    return result


def _physical(report: Report, place: Place) -> dict[str, Any]:
    line, column, end = report.place(place)
    region: dict[str, Any] = {"startLine": line, "startColumn": column, "endLine": line, "endColumn": end}
    lines = report.lines(place.file)
    if lines:
        region["snippet"] = {"text": lines[line - 1][column - 1 : end - 1]}
        first, last = max(1, line - 1), min(len(lines), line + 1)
        context = {"startLine": first, "endLine": last, "snippet": {"text": "\n".join(lines[first - 1 : last])}}
        return {"artifactLocation": _artifact(report, place.file), "region": region, "contextRegion": context}
    return {"artifactLocation": _artifact(report, place.file), "region": region}


def _artifact(report: Report, file: str) -> dict[str, Any]:
    uri, relative = report.uri(file)
    return {"uri": uri, "uriBaseId": ROOT} if relative else {"uri": uri}


def _fix(report: Report, fix: Fix) -> dict[str, Any]:
    lines = report.lines(fix.file)
    region: dict[str, Any] = {"startLine": fix.first, "startColumn": 1, "endLine": fix.last}
    region["endColumn"] = len(lines[fix.last - 1]) + 1 if fix.last <= len(lines) else 1
    if not fix.lines:  # the lines go, with their ends
        region |= {"endLine": fix.last + 1, "endColumn": 1}
    replacement: dict[str, Any] = {"deletedRegion": region}
    if fix.lines:
        replacement["insertedContent"] = {"text": fix_text(report, fix)}
    return {
        "description": {"text": _sentence(_plain(fix.title))},
        "artifactChanges": [{"artifactLocation": _artifact(report, fix.file), "replacements": [replacement]}],
    }


def _plain(text: str) -> str:
    return clean(text).replace("](", "] (")


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _pascal(text: str) -> str:
    return "".join(word.capitalize() for word in re.findall(r"[A-Za-z0-9]+", text))
