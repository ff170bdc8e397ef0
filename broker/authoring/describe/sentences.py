"""Whom a statement trusts, as a sentence: who, and under which conditions. Shared by describe, matrix and explain.

The parts come in one order whatever the author's, each with lead words of its own, and values cannot imitate them
(broker.authoring.describe.words): two statements that trust differently never read alike.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from broker.authoring.describe.words import TITLES, condition_words, field_words, listed, value_words
from broker.issuers.seam import IssuerKind
from broker.model import JOB_FIELDS
from broker.policy.policyset import Statement

_HEAD, _TAG = "refs/heads/", "refs/tags/"
_WHOSE: Final = ("project", "project_id", "owner", "owner_id")
_RUN: Final[Mapping[str, str]] = {
    "environment": "in the environment {}",
    "workflow": "by the workflow {}",
    "runner": "on the runner {}",
}
_STARTED: Final[Mapping[str, str]] = {
    "trigger": "they were started by the event {}",
    "actor": "they were started by the user {}",
    "actor_id": "they were started by the user id {}",
}
_YES: Final[Mapping[str, tuple[str, str]]] = {
    "ref_protected": ("their ref is protected", "their ref is unprotected"),
    "environment_protected": ("their environment is protected", "their environment is unprotected"),
    "fork": ("their code is a fork's", "their code is no fork's"),
}
_UNITS: Final = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A statement in words. `who` follows "jobs"; `when` follows "if", and is empty where nothing more is asked."""

    who: str  # "of acme/payments (id 512345678) on GitHub Actions"
    when: str  # "they run from the protected branch main in the environment production"

    def jobs(self) -> str:
        """`jobs of acme/payments on GitHub Actions, if they run from the branch main`."""
        return f"jobs {self.who}, if {self.when}" if self.when else f"jobs {self.who}"


def statement_words(statement: Statement, kind: IssuerKind | None, *, started: str | None = None) -> Said:
    """A compiled statement in words; with `started`, only its jobs that this unsafe trigger started."""
    return said(
        issuer=statement.issuer,
        kind=kind,
        conditions=[(bound.key, bound.condition.spec) for bound in statement.conditions],
        when=None if statement.when is None else statement.when.source,
        triggers=statement.allow_triggers,
        started=started,
    )


def said(
    *,
    issuer: str,
    kind: IssuerKind | None,
    conditions: Iterable[tuple[str, Any]],
    when: str | None = None,
    triggers: Iterable[str] = (),
    started: str | None = None,
) -> Said:
    """Words for conditions by key (`job.ref`, `claims.name`); a key may come more than once."""
    left = sorted(conditions, key=lambda one: _order(one[0]))
    where = f"on {kind.title}" if kind is not None else "on the issuer"
    if kind is None or issuer != kind.name:
        where += f" ({issuer})"
    who = f"{_whose(left)} {where}"
    run = _run(left)
    clauses = [f"they run {' '.join(run)}"] if run else []
    clauses += [_clause(key, spec) for key, spec in left]
    if when is not None:
        clauses.append(f"the expression {json.dumps(when, ensure_ascii=False)} is true")
    if started is not None:
        clauses.append(f"the unsafe trigger {value_words(started, text=True)} started them")
    elif named := sorted(triggers):
        words = listed([value_words(name, text=True) for name in named], "or")
        clauses.append(f"the unsafe trigger {words} may have started them")
    return Said(who=who, when=listed(clauses) if clauses else "")


def duration_words(length: timedelta) -> str:
    """`10 minutes`, `1 hour`, `90 seconds`."""
    seconds = int(length.total_seconds())
    unit, size = next((unit, size) for unit, size in _UNITS if seconds % size == 0)
    count = seconds // size
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"


def _order(key: str) -> tuple[int, int, str]:
    where, _, name = key.partition(".")
    return (0, JOB_FIELDS.index(name), "") if where == "job" else (1, 0, name)


def _take(left: list[tuple[str, Any]], name: str) -> Any:
    """The one condition on this field of the job, taken away from what is left to say; None where there is not one."""
    found = [one for one in left if one[0] == f"job.{name}"]
    if len(found) != 1:
        return None
    left.remove(found[0])
    return found[0][1]


def _peek(left: list[tuple[str, Any]], name: str) -> Any:
    found = [spec for key, spec in left if key == f"job.{name}"]
    return found[0] if len(found) == 1 else None


def _plain(spec: Any) -> bool:
    """Values and globs, which read well after "of" or "in"."""
    if isinstance(spec, list):
        return all(_plain(item) for item in spec)
    return not isinstance(spec, Mapping) or set(spec) == {"glob"}


def _whose(left: list[tuple[str, Any]]) -> str:
    given = {name: spec for name in _WHOSE if (spec := _peek(left, name)) is not None and _plain(spec)}
    name, id_ = ("project", "project_id") if {"project", "project_id"} & given.keys() else ("owner", "owner_id")
    words = {field: field_words(field, _take(left, field)) for field in (name, id_) if field in given}
    before = "of " if name == "project" else "of any project of "
    label = "id" if name == "project" else "owner id"
    if name in words:
        return f"{before}{words[name]}" + (f" ({label} {words[id_]})" if id_ in words else "")
    if id_ in words:
        return f"{before}the {name} with id {words[id_]}"
    return "of any project"


def _run(left: list[tuple[str, Any]]) -> list[str]:
    parts = []
    if (ref := _ref(left)) is not None:
        parts.append(ref)
    for name, form in _RUN.items():
        spec = _peek(left, name)
        if spec is None or not _plain(spec):
            continue
        _take(left, name)
        if name == "environment" and _peek(left, "environment_protected") is True:
            _take(left, "environment_protected")
            form = "in the protected environment {}"  # noqa: PLW2901  one of two forms
        parts.append(form.format(field_words(name, spec)))
    return parts


def _ref(left: list[tuple[str, Any]]) -> str | None:
    """`from the protected branch main`; None where the condition on the ref is of no such simple form."""
    spec = _peek(left, "ref")
    protected = (
        {True: "protected ", False: "unprotected "}.get(_peek(left, "ref_protected"), "") if _is_bool(left) else ""
    )
    if spec is None or not _plain(spec):
        return None
    _take(left, "ref")
    if protected:
        _take(left, "ref_protected")
    items = spec if isinstance(spec, list) else [spec]
    for prefix, noun in ((_HEAD, "branch"), (_TAG, "tag")):
        texts = [item["glob"] if isinstance(item, Mapping) else item for item in items]
        if all(isinstance(text, str) and text.startswith(prefix) and len(text) > len(prefix) for text in texts):
            short = [
                {"glob": item["glob"].removeprefix(prefix)} if isinstance(item, Mapping) else item.removeprefix(prefix)
                for item in items
            ]
            return f"from {_article(items)} {protected}{noun} {condition_words(short, text=True)}"
    return f"from {_article(items)} {protected}ref {condition_words(items, text=True)}"


def _article(items: list[Any]) -> str:
    return "any" if all(isinstance(item, Mapping) for item in items) else "the"


def _is_bool(left: list[tuple[str, Any]]) -> bool:
    return isinstance(_peek(left, "ref_protected"), bool)


def _clause(key: str, spec: Any) -> str:
    where, _, name = key.partition(".")
    if where == "claims":
        return f"their claim {value_words(name, text=True)} {_verb(spec, condition_words(spec))}"
    if name in _YES and isinstance(spec, bool):
        return _YES[name][0 if spec else 1]
    if name in _STARTED and _plain(spec):
        return _STARTED[name].format(field_words(name, spec))
    return f"their {TITLES[name]} {_verb(spec, field_words(name, spec))}"


def _verb(spec: Any, words: str) -> str:
    """`is main`, `matches v*`."""
    if isinstance(spec, Mapping) and set(spec) <= {"glob", "regex"}:
        return f"matches {words.removeprefix('matching ')}"
    return f"is {words}"
