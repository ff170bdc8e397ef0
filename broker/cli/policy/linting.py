"""Where `policy check` meets the linter: its findings, what its rules are called, and what it may know beside the files.

A ledger and lists of owners are only read, and only where somebody names them.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from broker.authoring.checking import LOAD
from broker.authoring.finding import Finding
from broker.authoring.history import ENOUGH, TYPES, Past, Uses
from broker.authoring.lint import RULES, SILENCE_WITHOUT_EFFECT, lint_guardrails, lint_policy, lint_set
from broker.authoring.owners import CODEOWNERS, read_owners
from broker.authoring.report import RuleInfo
from broker.authoring.report.text import counted
from broker.documents import read_file
from broker.errors import ConfigError
from broker.policy.load import Checked
from broker.policy.world import World

LONGEST: Final = timedelta(days=90)  # of the past that is looked at
RULE_OF_OWNERS: Final = "unresolved-owner"
RULE_OF_HISTORY: Final = "ttl-beyond-history"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the linter knows beside the files. None: nobody named any."""

    history: Past | None = None
    owners: Collection[str] | None = field(default=None, repr=False)
    used: tuple[str, ...] = ()  # in words


def known(ledger: Path | None, owners: Sequence[Path]) -> Known:
    """Read what was named. Raises ConfigError."""
    listed: set[str] = set()
    used = []
    for path in owners:
        found = _listed(path)
        listed |= found
        used.append(f"{counted(len(found), 'owner')} of {path} ({RULE_OF_OWNERS})")
    history = None if ledger is None else _history(ledger)
    if history is not None:
        used.insert(0, _used(history, ledger))
    return Known(history=history, owners=frozenset(listed) if owners else None, used=tuple(used))


def _listed(path: Path) -> frozenset[str]:
    try:
        text = read_file(path).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}:1:1: cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None
    found = read_owners(text, codeowners=path.name == CODEOWNERS)
    if not found:
        raise ConfigError(f"{path}:1:1: this names nobody; write one owner a line, or name the file {CODEOWNERS}")
    return found


def _history(ledger: Path) -> Past:
    from broker.cli.ledger import DATABASE, PAGE, every
    from broker.ledger.reader import open_reader
    from broker.ledger.records import EventQuery

    uses, now = Uses(), datetime.now(UTC)
    with open_reader(ledger / DATABASE if ledger.is_dir() else ledger) as reader:
        for event in every(reader, EventQuery(since=now - LONGEST, newest_first=False, limit=PAGE)):
            if event.type in TYPES:
                try:
                    uses.take(event.time, event.body)
                except (AttributeError, KeyError, TypeError, ValueError):  # a copy that somebody damaged
                    raise ConfigError(f"{ledger}: {event.id} is no event of a broker; run `audit verify`") from None
    return uses.result(now)


def _used(history: Past, ledger: Path | None) -> str:
    seen = f"the ledger {ledger}, its last {LONGEST.days} days ({RULE_OF_HISTORY}): "
    if history.since is None:
        return seen + "nothing was issued"
    return seen + (
        f"{counted(history.credentials, 'credential')} of {counted(history.grants, 'grant')} since "
        f"{history.since:%Y-%m-%d}, {ENOUGH} or more of {counted(len(history.longest), 'grant')}"
    )


def lint(checked: Sequence[Checked], world: World, more: Known = Known()) -> Iterator[Finding]:
    """What the linter finds of each policy, of the set, and of the guardrails; of versions on trial too.

    A comment that silences something in one version of a policy is not without effect because the other has none of it.
    """
    yield from lint_guardrails(world.guardrails, world)
    today = list(_linted(checked, world, more))
    if all(one.next is None for one in checked):
        yield from today
        return
    tomorrow = _on_trial(checked, _linted([one.next or one for one in checked], world, more))
    idle = {one for one in today if one.rule == SILENCE_WITHOUT_EFFECT} & set(tomorrow)
    yield from (one for one in (*today, *tomorrow) if one.rule != SILENCE_WITHOUT_EFFECT or one in idle)


def _on_trial(checked: Sequence[Checked], found: Iterable[Finding]) -> list[Finding]:
    """The findings of next versions, with their paths in the file; what a version has of today's stays where it is."""
    files = {one.text.name: one.document for one in checked if one.next is not None}
    return [
        replace(one, path=("next", *one.path))
        if one.path
        and (file := files.get(one.place.file)) is not None
        and file.marks.get(("next", *one.path)) == (one.place.line, one.place.column)
        else one
        for one in found
    ]


def _linted(checked: Sequence[Checked], world: World, more: Known) -> Iterator[Finding]:
    history = None if more.history is None else more.history.longest
    for one in checked:
        yield from lint_policy(one, world, history=history, people=more.owners)
    yield from lint_set(checked, world, guardrails=world.guardrails)


def rules() -> Mapping[str, RuleInfo]:
    """Every rule that a finding may name."""
    load = RuleInfo(
        id=LOAD,
        title="the broker would not load this",
        page="docs/policy-check.md#load",
        description="What a broker refuses to load: with one such problem anywhere, it keeps its last good set.",
    )
    known = [
        RuleInfo(id=rule.id, title=rule.title, page=rule.page, severity=rule.severity, description=rule.summary)
        for rule in RULES.values()
    ]
    return {rule.id: rule for rule in (load, *known)}
