"""What a lint rule is: some functions beside this file, one line in the table of `broker.authoring.lint`, and one page.

A rule gives Problems: where, what is wrong, what an attacker does with it, what to write instead. It reads and judges;
the rest (its id and severity, file, line and column, whether a comment silences it) is added by whoever runs it.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from broker.authoring.finding import Finding, Fix, Place, Severity
from broker.authoring.lint.jobs import Job, jobs_of
from broker.authoring.lint.stated import Stated
from broker.documents import Document, Path
from broker.policy.guardrails import Guardrails
from broker.policy.load import Checked
from broker.policy.world import World
from broker.proof import Budget

MOST_PROVING: Final = 500_000  # steps for one policy, of about a microsecond
History = Mapping[str, timedelta]  # policy/grant -> the longest that a job was seen to need it for


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A finding before it has a place."""

    path: Path
    message: str = field(repr=False)
    remedy: str = field(repr=False)
    related: tuple[tuple[Place, str], ...] = field(default=(), repr=False)
    fix: Fix | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """One policy on the desk, with all that a rule may ask about it."""

    checked: Checked
    world: World
    history: History | None = None  # None where no ledger is at hand
    people: Collection[str] | None = None  # who there is to own a policy; None where nobody listed them
    statements: tuple[Stated, ...]
    fired: set[tuple[str, Path]] = field(default_factory=set)  # what earlier rules of the table found, and where
    purse: Budget = field(default_factory=lambda: Budget(MOST_PROVING))  # what may be proved of this policy
    unsettled: set[int] = field(default_factory=set)  # statements for which it was too little

    known_jobs: dict[str, tuple[Job, ...]] = field(default_factory=dict)

    @property
    def document(self) -> Document:
        return self.checked.document

    def jobs(self, issuer: str) -> tuple[Job, ...]:
        """The jobs of the policy's examples that come from one issuer; what was made of one is kept."""
        found = self.known_jobs.get(issuer)
        if found is None:
            found = self.known_jobs[issuer] = tuple(jobs_of(self.checked, self.world, issuer))
        return found

    def found(self, number: int, *rules: str) -> bool:
        """Whether one of these rules found something in `trust[number]`: what it explains need not be said twice."""
        return any(rule in rules and path[:2] == ("trust", number) for rule, path in self.fired)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Several policies side by side."""

    all: Sequence[Checked]
    world: World
    guardrails: Guardrails


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Guardrails that were read from a file."""

    guardrails: Guardrails
    document: Document
    world: World


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule. Exactly one of the three functions is there: what it looks at."""

    id: str  # stable: it stands in files, reports and dashboards; its page is docs/rules/<id>.md
    title: str  # a few words, as a heading
    severity: Severity
    summary: str  # one sentence: what it finds
    policy: Callable[[Desk], Iterator[Problem]] | None = None
    together: Callable[[Room], Iterator[tuple[Checked, Problem]]] | None = None
    guardrails: Callable[[Limits], Iterator[Problem]] | None = None
    needs: str = ""  # "history" or "targets": without it the rule cannot judge, and a silence of it is not idle

    @property
    def page(self) -> str:
        return f"docs/rules/{self.id}.md"


def place(document: Document, path: Path) -> Place:
    """Where a path stands, or its nearest ancestor that stands in the file."""
    while path and path not in document.marks:
        path = path[:-1]
    line, column = document.marks.get(path, (1, 1))
    return Place(file=document.name, line=line, column=column)


def finding(rule: Rule, document: Document, problem: Problem, policy: str | None = None) -> Finding:
    """The problem as everybody else sees it."""
    return Finding(
        rule=rule.id,
        severity=rule.severity,
        message=problem.message,
        remedy=problem.remedy,
        place=place(document, problem.path),
        path=problem.path,
        policy=policy,
        related=problem.related,
        fix=problem.fix,
    )
