"""Who can reach what, over a whole set of policies: one entry for each statement and grant, filtered and sorted.

* A filter never hides what could be meant: a template in an option may be filled with anything, a statement that names no
  project may be about any. What a filter cannot tell is counted, not dropped in silence.
* The order depends on the words alone: the same set gives the same matrix, whatever its files are called.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from broker.authoring.describe.description import grant_words, statement_part_words
from broker.authoring.describe.words import field_words
from broker.durations import render
from broker.errors import ConfigError
from broker.policy.conditions import Condition, compile_condition
from broker.policy.document import PolicyFile, StatementPart
from broker.policy.world import World

_TEMPLATE: Final = re.compile(r"\{\{[^{}]*\}\}")
_SHOWN: Final[tuple[str, ...]] = ("project", "project_id", "ref", "environment")
COLUMNS: Final = ("issuer", "jobs", "conditions", "project", "project_id", "ref", "environment", "backend", "kind", "gives", "options", "ttl_seconds", "grant", "policy", "owners", "mode", "file", "statement")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """One statement and one grant: these jobs can reach this."""

    issuer: str
    who: str  # "jobs of acme/payments (id 512345678) on GitHub Actions"
    when: str  # empty where nothing more is asked
    backend: str
    kind: str  # of the backend; empty where it is not known
    what: str
    ttl_seconds: int
    ttl: str  # 10m
    grant: str
    policy: str
    owners: tuple[str, ...]
    observed: bool
    file: str
    statement: int
    job: Mapping[str, str]  # project, ref, ...: the condition's words, where there is one
    options: Mapping[str, Any] = field(repr=False)  # as written

    @property
    def jobs(self) -> str:
        """Who and when, in one."""
        return f"{self.who}, if {self.when}" if self.when else self.who

    @property
    def cell(self) -> str:
        """What is reached, for how long, by which grant."""
        trial = ", on trial: nothing is given" if self.observed else ""
        return f"{self.what} for {self.ttl} ({self.grant}{trial})"

    def record(self) -> dict[str, Any]:
        """By COLUMNS, for programs and spreadsheets."""
        return {
            "issuer": self.issuer, "jobs": self.who, "conditions": self.when, "project": self.job.get("project", ""),
            "project_id": self.job.get("project_id", ""), "ref": self.job.get("ref", ""),
            "environment": self.job.get("environment", ""), "backend": self.backend, "kind": self.kind,
            "gives": self.what, "options": json.dumps(self.options, ensure_ascii=False, sort_keys=True),
            "ttl_seconds": self.ttl_seconds, "grant": self.grant, "policy": self.policy,
            "owners": " ".join(self.owners), "mode": "observe" if self.observed else "enforce", "file": self.file,
            "statement": self.statement,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which entries are asked for; every one that is given has to fit."""

    backend: str | None = None
    issuer: str | None = None
    owner: str | None = None
    project: str | None = None  # a name or an id
    options: tuple[tuple[str, str], ...] = ()  # (path below `with:`, value)
    reaches: str | None = None  # a part of what is reached


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """The entries, and what a filter could not tell."""

    entries: tuple[Reach, ...]
    by_id_alone: int  # statements left out by `project` that pin a project by its id and not its name

    @property
    def backends(self) -> tuple[str, ...]:
        """The columns."""
        return tuple(sorted({entry.backend for entry in self.entries}))

    def rows(self) -> Iterator[tuple[str, Mapping[str, tuple[Reach, ...]]]]:
        """Each group of jobs once, with what it reaches by backend."""
        grouped: dict[str, dict[str, list[Reach]]] = {}
        for entry in self.entries:
            grouped.setdefault(entry.jobs, {}).setdefault(entry.backend, []).append(entry)
        for jobs, by_backend in grouped.items():
            yield jobs, {backend: tuple(entries) for backend, entries in sorted(by_backend.items())}


def matrix(policies: Iterable[tuple[str, PolicyFile]], world: World, filters: Filters | None = None) -> Matrix:
    """The matrix of these files (each with its name), by the filters. Raises ConfigError for what cannot be said."""
    filters = filters or Filters()
    entries: list[Reach] = []
    problems: list[str] = []
    by_id_alone = 0
    for file, written in policies:
        if filters.owner is not None and filters.owner not in written.owners:
            continue
        try:
            more, left = _of_policy(file, written, world, filters)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            problems.append(f"{file}:1:1: this does not load; `jobkey-broker policy check` says why")
            continue
        entries += more
        by_id_alone += left
    if problems:
        raise ConfigError(*problems)
    entries.sort(key=lambda one: (one.who, one.when, one.backend, one.grant, one.statement))
    return Matrix(entries=tuple(entries), by_id_alone=by_id_alone)


def _of_policy(file: str, written: PolicyFile, world: World, filters: Filters) -> tuple[list[Reach], int]:
    """The entries of one file, and how many statements `project` left out for want of a name."""
    grants = [
        (part, grant_words(f"{written.policy}/{name}", part, world))
        for name, part in written.grants.items()
        if _gives(part.backend, part.options, filters)
    ]
    if filters.reaches is not None:
        grants = [one for one in grants if _reaches(one[1].what, one[0].options, filters.reaches)]
    entries, left = [], 0
    for number, statement in enumerate(written.trust if grants else ()):
        if filters.issuer is not None and filters.issuer != statement.issuer:
            continue
        if filters.project is not None and not _may_be(statement, filters.project):
            left += "project" not in statement.job and "project_id" in statement.job
            continue
        said = statement_part_words(statement, world.issuers)
        job = {name: field_words(name, statement.job[name]) for name in _SHOWN if name in statement.job}
        entries += [
            Reach(
                issuer=statement.issuer,
                who=f"jobs {said.who}",
                when=said.when,
                backend=part.backend,
                kind=world.targets[part.backend].kind if world.targets and part.backend in world.targets else "",
                what=words.what,
                ttl_seconds=int(part.ttl.total_seconds()),
                ttl=render(part.ttl),
                grant=words.name,
                policy=written.policy,
                owners=tuple(written.owners),
                observed=written.mode == "observe",
                file=file,
                statement=number,
                job=job,
                options=part.options,
            )
            for part, words in grants
        ]
    return entries, left


def _gives(backend: str, options: Mapping[str, Any], filters: Filters) -> bool:
    if filters.backend is not None and backend != filters.backend:
        return False
    return all(any(_could_be(value, wanted) for value in _values(options, path)) for path, wanted in filters.options)


def _values(options: Any, path: str) -> list[Any]:
    """What stands at a dotted path; items of a list each for themselves."""
    found = [options]
    for step in path.split("."):
        found = [
            value
            for one in found
            for part in (one if isinstance(one, list) else [one])
            if isinstance(part, Mapping) and step in part
            for value in [part[step]]
        ]
    return [item for value in found for item in (value if isinstance(value, list) else [value])]


def _could_be(value: Any, wanted: str) -> bool:
    """Whether an option is this text, or is once its templates are filled in."""
    if not isinstance(value, str):
        return json.dumps(value) == wanted
    return _pattern(value).fullmatch(wanted) is not None


@lru_cache(maxsize=1024)
def _pattern(value: str) -> re.Pattern[str]:
    """An option as a pattern: what is written, and anything where a template stands."""
    return re.compile("(?s:.+?)".join(re.escape(part) for part in _TEMPLATE.split(value)))


def _reaches(what: str, options: Any, wanted: str) -> bool:
    """Whether the words or a value hold this text, without regard to case; or are it, once templates are filled in."""
    folded = wanted.casefold()
    return folded in what.casefold() or any(
        folded in text.casefold() or ("{{" in text and _could_be(text, wanted)) for text in _texts(options)
    )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield key
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    else:
        yield value if isinstance(value, str) else json.dumps(value)


def _may_be(statement: StatementPart, project: str) -> bool:
    """Whether a job of this project, by its name or by its id, could be meant."""
    asked = [statement.job[name] for name in ("project", "project_id") if name in statement.job]
    if asked:
        return any(_holds(spec)(project) for spec in asked)
    if "owner" in statement.job and "/" in project:
        return _holds(statement.job["owner"])(project.partition("/")[0]) or _holds(statement.job["owner"])(
            project.rpartition("/")[0]
        )
    return True


def _holds(spec: Any) -> Callable[[Any], bool]:
    return _compiled(json.dumps(spec, sort_keys=True)).holds


@lru_cache(maxsize=4096)
def _compiled(spec: str) -> Condition:
    condition = compile_condition(json.loads(spec), lambda *_: None)
    if condition is None:
        raise ValueError("a condition that does not load")
    return condition


def table(found: Matrix) -> tuple[tuple[str, ...], list[Sequence[str]]]:
    """Headings and rows: jobs first, then a column for each backend."""
    headings = ("Jobs", *found.backends)
    rows: list[Sequence[str]] = [
        (jobs, *("; ".join(one.cell for one in by_backend.get(name, ())) for name in found.backends))
        for jobs, by_backend in found.rows()
    ]
    return headings, rows
