"""What `policy check` found, in every format: what a consumer reads back is what was found, and nothing forged."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.authoring.checking import Suite, Tried
from broker.authoring.finding import Finding, Fix, Place, Severity
from broker.authoring.fixes import apply
from broker.authoring.report import FORMATS, Counts, Report, RuleInfo, kept
from broker.authoring.report.model import clean, excerpt, harmless, split_lines
from tests.system import find

SCHEMA = json.loads((Path(__file__).parent / "schemas/sarif-2.1.0.json").read_text())
SARIF = jsonschema.Draft202012Validator(SCHEMA)
SOURCE = (
    'policy: payments  # ours\nowners: [a@b]\ntrust:\n  - issuer: github\n    job: {ref: "refs/héads/*"}\ngrants:\n'
)
EVIL = (
    "a\n::error file=x::forged\r\n##[add-mask]x ]]> \x1b[31m\x00\x07\u202e\u200b\ud800 %0A](https://evil.example) {0}"
)
FILE = "policies/payments.yaml"


def finding(rule: str = "mutable-name", **members: Any) -> Finding:
    place = members.pop("place", Place(file=FILE, line=5, column=10))
    values = {"severity": Severity.WARNING, "message": "a name alone", "remedy": "write the id", **members}
    return Finding(rule=rule, place=place, **values)


def report(*findings: Finding, **members: Any) -> Report:
    values: dict[str, Any] = {
        "version": "0.1.0",
        "findings": findings,
        "suites": (),
        "counts": Counts(policies=1, statements=1, grants=1),
        "rules": {"load": RuleInfo(id="load", title="it does not load", page="docs/policy-check.md#load")},
        "sources": {FILE: SOURCE},
        **members,
    }
    return Report(**values)


FIX = Fix(title="write the id out", file=FILE, first=5, last=5, lines=('    job: {project_id: "1"}', "    # both"))
EVERYTHING = report(
    finding(path=("trust", 0, "job", "ref"), policy="payments"),
    finding(fix=FIX, related=((Place(file=FILE, line=1, column=1), "named here"),)),
    finding("load", severity=Severity.ERROR, remedy="", place=Place(file="a b/ü:1:2: x.yaml", line=9, column=9)),
    finding("a-note", severity=Severity.NOTE, place=Place(file=FILE, line=999, column=999)),
    finding("hostile", message=EVIL, remedy=EVIL, policy=EVIL, place=Place(file=EVIL, line=1, column=1)),
    suites=(
        Suite(file=FILE, policy="payments", examples=(
            Tried(number=0, name="a push", expected=("deploy",)),
            Tried(number=1, name=EVIL, expected=(), problems=(EVIL, "and more")),
        )),
        Suite(file=EVIL, policy=None, examples=()),
    ),
    not_checked=("backends",),
    used=(EVIL,),
)  # fmt: skip
REPORTS = {
    "nothing": report(),
    "everything": EVERYTHING,
    "strict": replace(EVERYTHING, strict=True),
    "with an address": replace(EVERYTHING, docs="https://git.acme.example/jobkey/-/blob/main/"),
    "with a commit": replace(EVERYTHING, revision=("https://git.acme.example/policies", "b8a4881a")),
}


@pytest.fixture(params=REPORTS.values(), ids=REPORTS)
def any_report(request: pytest.FixtureRequest) -> Report:
    return request.param


@pytest.mark.parametrize("form", FORMATS)
def test_no_format_lets_anything_reach_a_terminal_as_a_command(form: str, any_report: Report) -> None:
    said = FORMATS[form](any_report)
    assert said.endswith("\n")
    assert all(character == "\n" or character.isprintable() for character in said)
    said.encode("utf-8")


# ---- text


def test_text_shows_each_finding_where_it_stands_with_its_remedy_and_page() -> None:
    assert FORMATS["text"](
        report(finding(fix=FIX, related=((Place(file="g.yaml", line=2, column=3), "said here"),)))
    ) == (
        "policies/payments.yaml:5:10: warning: a name alone [mutable-name]\n"
        '    5 |     job: {ref: "refs/héads/*"}\n'
        "      |          ^\n"
        "      = see g.yaml:2:3: said here\n"
        "      = remedy: write the id\n"
        "      = --fix: write the id out\n"
        "      = why: jobkey-broker policy rule mutable-name\n"
        "good: 1 policy, 1 statement, 1 grant; every example came out as it says; 1 warning\n"
    )


@pytest.mark.parametrize(
    ("found", "strict", "last"),
    [
        ([], False, "good: 1 policy, 1 statement, 1 grant; every example came out as it says"),
        ([("load", "error")], False, "1 problem; nothing would be loaded"),
        ([("load", "error"), ("x", "warning")], False, "1 problem; nothing would be loaded; 1 warning in what loads"),
        ([("x", "error"), ("y", "note")], False, "1 error, 1 note; 1 policy, 1 statement, 1 grant load, and every example comes out"),
        ([("x", "warning")], True, "1 warning (--strict); 1 policy, 1 statement, 1 grant load, and every example comes out"),
        ([("y", "note")], True, "good: 1 policy, 1 statement, 1 grant; every example came out as it says; 1 note"),
    ],
)  # fmt: skip
def test_the_last_line_says_whether_it_is_good(found: list[tuple[str, str]], strict: bool, last: str) -> None:
    shown = report(*(finding(rule, severity=Severity(severity)) for rule, severity in found), strict=strict)
    assert FORMATS["text"](shown).splitlines()[-1] == last
    assert shown.good is last.startswith("good")


def test_a_ci_runner_reads_no_command_in_the_text() -> None:
    for line in FORMATS["text"](EVERYTHING).splitlines():
        assert not line.lstrip().startswith("::")
        assert "##[" not in line
    assert harmless("##[error] ##vso[task ##teamcity[x # #[") == "# #[error] # #vso[task # #teamcity[x # #["


@pytest.mark.parametrize(
    ("line", "column", "shown", "under"),
    [
        ("abc", 2, "abc", "b"),
        ("x" * 500 + "HERE" + "y" * 500, 501, None, "H"),
        ("HERE" + "y" * 500, 1, None, "H"),
        ("y" * 500 + "H", 501, None, "H"),
        ("a\tb", 3, "a b", "b"),
    ],
)
def test_an_excerpt_is_short_and_points_at_the_column(line: str, column: int, shown: str | None, under: str) -> None:
    cut, at = excerpt(line, column)
    assert cut[at] == under
    assert len(cut) <= 168
    assert shown is None or cut == shown


def test_the_caret_stands_under_wide_characters_too() -> None:
    wide = report(finding(place=Place(file=FILE, line=1, column=5)), sources={FILE: "政策: x\n"})
    line, caret = FORMATS["text"](wide).splitlines()[1:3]
    assert line == "    1 | 政策: x"
    assert caret == "      |       ^"  # two cells for each of the two characters


# ---- JSON


def test_json_is_what_its_page_describes(any_report: Report) -> None:
    body = json.loads(FORMATS["json"](any_report))
    page = (Path(__file__).parents[3] / "docs/policy-check.md").read_text()
    members = {*body, *body["summary"], *body["tool"]}
    members |= {key for found in body["findings"] for key in found} | {key for one in body["examples"] for key in one}
    assert not [member for member in members if f"`{member}`" not in page]
    assert body["version"] == 1
    assert body["good"] is any_report.good
    assert [found["message"] for found in body["findings"]] == [one.message for one in any_report.findings]
    assert body["summary"]["examples"] == sum(len(suite.examples) for suite in any_report.suites)


# ---- SARIF


def sarif(shown: Report) -> dict[str, Any]:
    return json.loads(FORMATS["sarif"](shown))


def test_sarif_is_valid_by_its_own_schema(any_report: Report) -> None:
    assert [error.message for error in SARIF.iter_errors(sarif(any_report))] == []


def test_the_schema_would_find_something() -> None:
    log = sarif(EVERYTHING)
    log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["region"]["startLine"] = 0
    assert list(SARIF.iter_errors(log))


def test_sarif_names_its_rules_and_where_their_pages_are(any_report: Report) -> None:
    (run,) = sarif(any_report)["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["message"]["text"].endswith((".", "!", "?"))
        assert "](" not in result["message"]["text"]
    for rule in rules:
        assert urlsplit(rule["helpUri"]).scheme in {"https", "urn"}
        assert rule["name"].casefold() != rule["id"].casefold()
        assert re.fullmatch(r"[A-Z][A-Za-z0-9]+", rule["name"])
        assert rule["shortDescription"]["text"].endswith(".")
    assert urlsplit(run["tool"]["driver"]["informationUri"]).scheme in {"https", "urn"}


def test_sarif_places_lie_inside_the_file_and_its_uris_are_relative(any_report: Report) -> None:
    lines = split_lines(SOURCE)
    for result in sarif(any_report)["runs"][0]["results"]:
        (location,) = result["locations"]
        physical = location["physicalLocation"]
        uri, region = physical["artifactLocation"]["uri"], physical["region"]
        assert physical["artifactLocation"]["uriBaseId"] == "SRCROOT"
        assert re.fullmatch(r"[A-Za-z0-9._~/%-]+", uri)
        assert not urlsplit(uri).scheme
        assert region["endColumn"] >= region["startColumn"]
        if unquote(uri) == FILE:
            assert region["endLine"] <= len(lines)
            snippet = lines[region["startLine"] - 1][region["startColumn"] - 1 : region["endColumn"] - 1]
            assert region["snippet"]["text"] == snippet


def test_a_file_outside_the_repository_has_an_absolute_uri() -> None:
    outside = report(finding(place=Place(file="../x y.yaml", line=1, column=1)), paths={"../x y.yaml": "/srv/x y.yaml"})
    (result,) = sarif(outside)["runs"][0]["results"]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"] == {"uri": "file:///srv/x%20y.yaml"}


@pytest.mark.parametrize(
    "fix",
    [
        FIX,
        replace(FIX, lines=()),
        replace(FIX, first=1, last=2, lines=("policy: payments",)),
        replace(FIX, first=6, last=6, lines=("grants: {}",)),
        replace(FIX, first=6, last=6, lines=()),
    ],
)
@pytest.mark.parametrize("source", [SOURCE, SOURCE.replace("\n", "\r\n"), SOURCE.rstrip("\n")])
def test_a_fix_in_sarif_does_what_ours_does(fix: Fix, source: str) -> None:
    (result,) = sarif(report(finding(fix=fix), sources={FILE: source}))["runs"][0]["results"]
    (change,) = result["fixes"][0]["artifactChanges"]
    (replacement,) = change["replacements"]
    ours = apply(source.encode(), [fix], lambda _: None).data.decode()
    theirs = as_an_editor(source, replacement["deletedRegion"], replacement.get("insertedContent", {}).get("text", ""))
    assert theirs == ours


def as_an_editor(text: str, region: dict[str, int], inserted: str) -> str:
    starts = [0, *(match.end() for match in re.finditer("\r\n|\n", text))]

    def offset(line: int, column: int) -> int:
        return min((starts[line - 1] if line <= len(starts) else len(text)) + column - 1, len(text))

    start, end = offset(region["startLine"], region["startColumn"]), offset(region["endLine"], region["endColumn"])
    return text[:start] + inserted + text[end:]


@pytest.mark.parametrize("program", ["sarif-multitool"])
def test_microsofts_validator_finds_nothing(program: str, any_report: Report, tmp_path: Path) -> None:
    """A bonus where it is installed; docs/policy-check.md says with which version it was last run."""
    import subprocess

    validator = find(program)
    if validator is None:
        return
    log = tmp_path / "check.sarif"
    log.write_text(FORMATS["sarif"](any_report))
    said = subprocess.run([validator, "validate", "--rule-kind", "Sarif;Gh", str(log)], capture_output=True, text=True, check=False)  # fmt: skip
    assert said.returncode == 0, said.stdout + said.stderr
    assert not re.findall(r": (?:error|warning) \S+:", said.stdout), said.stdout


# ---- fingerprints


def prints(shown: Report) -> list[str]:
    return [digest for _, digest in shown.fingerprints()]


def test_a_finding_keeps_its_name_when_lines_move_and_never_shares_it() -> None:
    here = finding(path=("trust", 0, "job", "ref"))
    before = report(here, here, finding(path=("trust", 1)), finding("other"))
    moved = replace(here, place=Place(file=FILE, line=7, column=10))
    after = report(moved, sources={FILE: "# one\n# two\n" + SOURCE})
    assert len(set(prints(before))) == 4
    assert prints(after) == prints(before)[:1]
    assert prints(replace(after, paths={FILE: "elsewhere.yaml"})) != prints(after)


# ---- GitHub


def commands(log: str) -> list[tuple[str, dict[str, str], str]]:
    """As actions/runner's ActionCommand.TryParseV2 reads a log, and as its older form `##[` is looked for."""
    found = []
    for line in log.splitlines():
        assert "##[" not in line or line.startswith("::")  # the older form is not looked for in a newer command
        text = line.lstrip()
        if not text.startswith("::") or (end := text.find("::", 2)) < 0:
            continue
        name, _, properties = text[2:end].partition(" ")
        split = [one.partition("=") for one in properties.split(",") if one]
        found.append((name, {key: unescape(value, "%3A", "%2C") for key, _, value in split}, unescape(text[end + 2 :])))
    return found


def unescape(text: str, *more: str) -> str:
    for escaped in ("%0D", "%0A", *more, "%25"):  # the runner's order: `%` last
        text = text.replace(escaped, unquote(escaped))
    return text


def test_github_reads_back_one_annotation_a_finding_failing_ones_first(any_report: Report) -> None:
    found = commands(FORMATS["github"](any_report))
    assert len(found) == len(any_report.findings)
    failing = sum(any_report.fails(one) for one in any_report.findings)
    assert [name for name, _, _ in found].count("error") == failing
    assert all(name == "error" for name, _, _ in found[:failing])
    assert {properties["file"] for _, properties, _ in found} == {clean(one.place.file) for one in any_report.findings}


@settings(max_examples=200)
@given(text=st.text(max_size=60), file=st.text(min_size=1, max_size=20), remedy=st.text(max_size=20))
def test_nothing_in_a_name_or_message_forges_an_annotation(text: str, file: str, remedy: str) -> None:
    shown = report(finding(message=text, remedy=remedy, place=Place(file=file, line=1, column=2)))
    ((name, properties, said),) = commands(FORMATS["github"](shown))
    assert name == "warning"
    assert properties["file"] == shown.path(file)
    assert set(properties) == {"file", "line", "endLine", "col", "endColumn", "title"}
    assert said.split("\n") == [clean(text), *([clean(remedy)] if remedy else []), "docs/rules/mutable-name.md"]
    for form in ("json", "gitlab", "sarif", "junit"):
        assert not commands(FORMATS[form](shown))
    assert not commands(FORMATS["text"](shown))


# ---- GitLab


def test_gitlab_gets_what_its_documentation_asks_for(any_report: Report) -> None:
    found = json.loads(FORMATS["gitlab"](any_report))
    assert len(found) == len(any_report.findings)
    assert len({one["fingerprint"] for one in found}) == len(found)
    for one in found:
        assert set(one) == {"description", "check_name", "fingerprint", "severity", "location"}
        assert one["severity"] in {"info", "minor", "major", "critical", "blocker"}
        assert isinstance(one["location"]["lines"]["begin"], int)
        assert not one["location"]["path"].startswith(("./", "/"))


# ---- JUnit


def test_junit_has_a_case_an_example_and_says_what_did_not_load() -> None:
    root = ET.fromstring(FORMATS["junit"](EVERYTHING))
    assert {name: root.get(name) for name in ("tests", "failures", "errors")} == {
        "tests": "3", "failures": "1", "errors": "1",
    }  # fmt: skip
    payments, hostile, files = root
    assert [case.get("name") for case in payments] == ["a push", clean(EVIL)]
    (failure,) = payments.iter("failure")
    assert (failure.text or "").splitlines()[1:] == ["expected: a refusal", clean(EVIL), "and more"]
    assert len(hostile) == 0
    assert [case.get("file") for case in files] == ["a b/ü:1:2: x.yaml"]


def test_junit_has_only_what_its_readers_know(any_report: Report) -> None:
    known = {  # junit-10.xsd of Jenkins' xUnit plugin, and GitLab's `file`
        "testsuites": {"name", "tests", "failures", "errors"},
        "testsuite": {"name", "tests", "failures", "errors", "file"},
        "testcase": {"name", "classname", "file"},
        "failure": {"message", "type"},
        "error": {"message", "type"},
    }
    for element in ET.fromstring(FORMATS["junit"](any_report)).iter():
        assert set(element.attrib) <= known[element.tag]


def test_a_file_that_does_not_load_is_an_error_and_not_an_empty_suite() -> None:
    problem = finding("load", severity=Severity.ERROR, message="not YAML", remedy="")
    root = ET.fromstring(FORMATS["junit"](report(problem, suites=(Suite(file=FILE, policy=None, examples=()),))))
    (suite,) = root
    assert (suite.get("tests"), suite.get("errors")) == ("1", "1")
    (error,) = suite.iter("error")
    assert (error.get("message"), error.text) == ("not YAML", f"{FILE}:5:10: not YAML")


def test_an_example_that_came_out_otherwise_is_told_once() -> None:
    tried = Tried(number=0, name="x", expected=(), problems=("'x': expected a refusal",))
    problem = finding("load", severity=Severity.ERROR, message="examples[0].expect: 'x': expected a refusal")
    shown = report(problem, suites=(Suite(file=FILE, policy="p", examples=(tried,)),))
    root = ET.fromstring(FORMATS["junit"](shown))
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("1", "1", "0")


@given(text=st.text())
def test_whatever_stands_in_a_file_xml_can_be_read(text: str) -> None:
    tried = Tried(number=0, name=text, expected=(text,), problems=(text,))
    problem = finding("load", severity=Severity.ERROR, message=text)
    ET.fromstring(
        FORMATS["junit"](report(problem, suites=(Suite(file=FILE, policy=text, examples=(tried,)),))).encode()
    )


# ---- which findings


def test_rules_can_be_chosen_and_left_out_but_what_does_not_load_stays() -> None:
    found = (finding("load"), finding("a"), finding("b"))

    def left(only: set[str], ignored: set[str]) -> list[str]:
        return [one.rule for one in kept(found, only=frozenset(only), ignored=frozenset(ignored))]

    assert left(set(), set()) == ["load", "a", "b"]
    assert left({"a"}, set()) == ["load", "a"]
    assert left(set(), {"a", "load"}) == ["load", "b"]
