"""Where `policy check` meets the linter: one function for its findings, one for what its rules are called."""

from collections.abc import Iterator, Mapping, Sequence

from broker.authoring.checking import LOAD
from broker.authoring.finding import Finding
from broker.authoring.report import RuleInfo
from broker.policy.compile import World
from broker.policy.load import Checked


def lint(_checked: Sequence[Checked], _world: World) -> Iterator[Finding]:
    """What the linter finds of each policy, of the set, and of the guardrails."""
    yield from ()


def rules() -> Mapping[str, RuleInfo]:
    """Every rule that a finding may name."""
    return {
        LOAD: RuleInfo(
            id=LOAD,
            title="the broker would not load this",
            page="docs/policy-check.md#load",
            description="What a broker refuses to load: with one such problem anywhere, it keeps its last good set.",
        )
    }
