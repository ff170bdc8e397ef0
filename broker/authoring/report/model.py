"""What a report shows, whatever its format: findings, examples, and the lines of the files they are about."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from broker.authoring.checking import LOAD, Suite
from broker.authoring.finding import Finding, Fix, Place, Severity
from broker.documents import dotted

WIDEST: Final = 160  # characters of a source line in an excerpt
_RUNNERS: Final = re.compile(r"##(?=\[|vso\[|teamcity\[)")
_BREAKS: Final = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")  # YAML's; str.splitlines knows some more


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleInfo:
    """What a format says of a rule beside its findings."""

    id: str
    title: str  # one line, without a final period
    page: str  # below the documentation's address: "docs/rules/<id>.md"
    severity: Severity = Severity.ERROR
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What loads."""

    policies: int
    statements: int
    grants: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run of `policy check`, ready to be shown. Pure data: a format turns it into text."""

    version: str  # of jobkey-broker
    findings: tuple[Finding, ...]
    suites: tuple[Suite, ...]
    counts: Counts
    rules: Mapping[str, RuleInfo]
    sources: Mapping[str, str] = field(default_factory=dict, repr=False)  # file -> its text, where it is known
    paths: Mapping[str, str] = field(default_factory=dict)  # file -> relative to the repository's root, with /
    not_checked: tuple[str, ...] = ()
    used: tuple[str, ...] = ()  # what was known beside the files, in words
    strict: bool = False
    revision: tuple[str, str] | None = None  # the repository's address and the commit, where a CI says them
    docs: str = ""  # the documentation's address, ending in /; "" where nobody said

    def fails(self, finding: Finding) -> bool:
        """Whether this finding makes the check fail."""
        return finding.severity is Severity.ERROR or (self.strict and finding.severity is Severity.WARNING)

    @property
    def good(self) -> bool:
        """Whether nothing fails."""
        return not any(self.fails(finding) for finding in self.findings)

    @property
    def loads(self) -> bool:
        """Whether a broker would take the set."""
        return not any(finding.rule == LOAD for finding in self.findings)

    def count(self, severity: Severity) -> int:
        return sum(finding.severity is severity for finding in self.findings)

    def rule(self, finding: Finding) -> RuleInfo:
        """What is known of its rule; a rule that nobody lists is still shown."""
        return self.rules.get(finding.rule) or RuleInfo(
            id=finding.rule,
            title=f"Rule {finding.rule}",
            page=f"docs/rules/{finding.rule}.md",
            severity=finding.severity,
        )

    def page(self, rule: RuleInfo) -> str:
        """Where the rule's page is: a link where the documentation's address is known."""
        return self.docs + rule.page

    def uri(self, file: str) -> tuple[str, bool]:
        """The file for a machine: (URI reference, whether it is relative to the repository's root)."""
        path = self.paths.get(file, file)
        encoded = quote(_bytes(path), safe="/-._~")
        absolute = path.startswith("/")
        if not absolute and ":" in path.partition("/")[0]:
            encoded = "./" + encoded  # RFC 3986 section 4.2: or it would begin with a scheme
        return ("file://" + encoded if absolute else encoded), not absolute

    def path(self, file: str) -> str:
        """The file for annotations: as its path below the repository's root."""
        return clean(self.paths.get(file, file)).removeprefix("./")

    def lines(self, file: str) -> Sequence[str]:
        """The file's lines without their ends; none where its text is not known."""
        return split_lines(self.sources[file]) if file in self.sources else ()

    def place(self, place: Place) -> tuple[int, int, int]:
        """(line, column, column after the last to mark), inside the file even where a parser stopped behind its end."""
        lines = self.lines(place.file)
        if not lines:
            return max(place.line, 1), max(place.column, 1), max(place.column, 1) + 1
        line = min(max(place.line, 1), len(lines))
        text = lines[line - 1]
        column = min(max(place.column, 1), len(text) + 1) if line == place.line else len(text) + 1
        return line, column, max(len(text.rstrip()) + 1, column + 1 if column <= len(text) else column)

    def fingerprints(self) -> Iterator[tuple[Finding, str]]:
        """Each finding with a name that stays when lines move: rule, file, path in the document, and the marked text."""
        seen: dict[str, int] = {}
        for finding in self.findings:
            line, _, _ = self.place(finding.place)
            lines = self.lines(finding.place.file)
            text = " ".join(lines[line - 1].split()) if lines else ""
            parts = [finding.rule, self.path(finding.place.file), dotted(finding.path) or finding.message, text]
            digest = hashlib.sha256("\0".join(clean(part) for part in parts).encode()).hexdigest()
            seen[digest] = number = seen.get(digest, -1) + 1
            yield finding, digest if number == 0 else hashlib.sha256(f"{digest}:{number}".encode()).hexdigest()


def _bytes(path: str) -> bytes:
    try:
        return path.encode("utf-8", "surrogateescape")  # a file's name as the system holds it
    except UnicodeEncodeError:
        return path.encode("utf-8", "replace")


def fix_text(report: Report, fix: Fix) -> str:
    """The lines of a fix as they would stand in the file, the last one without its end."""
    ends = _BREAKS.findall(report.sources.get(fix.file, ""))
    return (ends[0] if ends else "\n").join(fix.lines)


@lru_cache(maxsize=16)  # a file with many findings is asked for its lines many times
def split_lines(text: str) -> tuple[str, ...]:
    """Lines as YAML counts them, without their ends; no empty one after the last end."""
    lines = _BREAKS.split(text.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}"))
    return tuple(lines[:-1] if not lines[-1] else lines)


def clean(text: str) -> str:
    """One line without control, format, separator or surrogate characters: nothing that moves a cursor or turns text."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "\ufffd" for char in text)


def harmless(text: str) -> str:
    """The same for a log that a CI runner reads: no `##[command]` either, which some look for anywhere in a line."""
    return _RUNNERS.sub("# #", clean(text))


def shown_file(file: str) -> str:
    """A file's name for the beginning of a line; `::error::x.yaml` would be a runner's command there."""
    name = harmless(file)
    return f"./{name}" if name.lstrip().startswith("::") else name


def excerpt(line: str, column: int, *, widest: int = WIDEST) -> tuple[str, int]:
    """A source line to be shown and where in it the column (from 1) stands (from 0); long lines are cut around it."""
    at = min(column - 1, len(line))
    start = 0 if len(line) <= widest else max(0, min(at - widest // 2, len(line) - widest))
    end = min(len(line), start + widest)
    before, after = ("... " if start else ""), (" ..." if end < len(line) else "")
    cut = "".join(char if char.isprintable() else " " for char in line[start:end])
    return before + cut + after, len(before) + at - start


def kept(findings: Iterable[Finding], *, only: frozenset[str], ignored: frozenset[str]) -> tuple[Finding, ...]:
    """Without the rules that somebody leaves out; what does not load always stays."""
    return tuple(
        finding
        for finding in findings
        if finding.rule == LOAD or ((not only or finding.rule in only) and finding.rule not in ignored)
    )
