"""For test reports: JUnit XML as Jenkins, GitLab and GitHub's reporters read it. A suite a policy, a test case an example.

The elements and attributes are those of junit-10.xsd of Jenkins' xUnit plugin, and `file`, which GitLab documents.

A file that does not load has a case in error, so that a broken policy never looks like one without examples.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final
from xml.etree import ElementTree as ET

from broker.authoring.checking import LOAD, Suite
from broker.authoring.finding import Finding
from broker.authoring.report.model import Report, clean

LOADS: Final = "the file loads"


def render(report: Report) -> str:
    """The XML document, to be written as UTF-8."""
    unloaded: dict[str, list[Finding]] = defaultdict(list)
    for finding in report.findings:
        if finding.rule == LOAD:
            unloaded[finding.place.file].append(finding)
    root = ET.Element("testsuites", name="jobkey-broker policy check")
    for suite in report.suites:
        _suite(report, suite, unloaded.pop(suite.file, []), ET.SubElement(root, "testsuite"))
    if unloaded:  # what is no policy file: guardrails, a link, a folder that cannot be read
        element = ET.SubElement(root, "testsuite", name="files")
        for file, findings in unloaded.items():
            _error(report, findings, _case(element, "files", LOADS, report.path(file)))
    for element in root:
        _count(element, [*element])
    _count(root, [case for element in root for case in element])
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(report: Report, suite: Suite, unloaded: Sequence[Finding], element: ET.Element) -> None:
    file = report.path(suite.file)
    name = " ".join(part for part in (clean(suite.policy or file), suite.version) if part)
    element.set("name", name)
    element.set("file", file)
    for outcome in suite.examples:
        case = _case(element, name, clean(outcome.name), file)
        if outcome.problems:
            said = [clean(problem) for problem in outcome.problems]
            wanted = f"expected: {clean(', '.join(outcome.expected)) or 'a refusal'}"
            failure = ET.SubElement(case, "failure", message=said[0], type="example")
            failure.text = "\n".join([f"{file}: examples[{outcome.number}]", wanted, *said])
    told = tuple(problem for outcome in suite.examples for problem in outcome.problems)
    others = [finding for finding in unloaded if not (told and finding.message.endswith(told))]
    if others:
        _error(report, others, _case(element, name, LOADS, file))


def _error(report: Report, findings: Sequence[Finding], case: ET.Element) -> None:
    error = ET.SubElement(case, "error", message=clean(findings[0].message), type=LOAD)
    error.text = "\n".join(
        f"{report.path(finding.place.file)}:{finding.place.line}:{finding.place.column}: {clean(finding.message)}"
        for finding in findings
    )


def _case(suite: ET.Element, classname: str, name: str, file: str) -> ET.Element:
    return ET.SubElement(suite, "testcase", classname=classname, name=name, file=file)


def _count(element: ET.Element, cases: list[ET.Element]) -> None:
    element.set("tests", str(len(cases)))
    element.set("failures", str(sum(case.find("failure") is not None for case in cases)))
    element.set("errors", str(sum(case.find("error") is not None for case in cases)))
