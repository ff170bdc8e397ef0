"""Where `policy check` meets the linter: one function for its findings, one for what its rules are called."""

from collections.abc import Iterator, Mapping, Sequence

from broker.authoring.checking import LOAD
from broker.authoring.finding import Finding
from broker.authoring.lint import RULES, SILENCE_WITHOUT_EFFECT, lint_guardrails, lint_policy, lint_set
from broker.authoring.report import RuleInfo
from broker.policy.compile import World
from broker.policy.load import Checked


def lint(checked: Sequence[Checked], world: World) -> Iterator[Finding]:
    """What the linter finds of each policy, of the set, and of the guardrails; of versions on trial too.

    A comment that silences something in one version of a policy is not without effect because the other has none of it.
    """
    yield from lint_guardrails(world.guardrails, world)
    today = list(_linted(checked, world))
    if all(one.next is None for one in checked):
        yield from today
        return
    tomorrow = list(_linted([one.next or one for one in checked], world))
    idle = {one for one in today if one.rule == SILENCE_WITHOUT_EFFECT} & set(tomorrow)
    yield from (one for one in (*today, *tomorrow) if one.rule != SILENCE_WITHOUT_EFFECT or one in idle)


def _linted(checked: Sequence[Checked], world: World) -> Iterator[Finding]:
    for one in checked:
        yield from lint_policy(one, world)
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
