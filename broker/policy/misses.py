"""Why not: every condition of a statement tried, with what it expected and what came. Asked only after a no."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

from broker.model import VerifiedToken
from broker.policy.answers import Code, Miss
from broker.policy.claims import absent
from broker.policy.policyset import Grant, Policy, Statement

LONGEST_SHOWN: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One condition of a statement, tried. Every statement gives at least one, its issuer."""

    key: str
    code: Code
    expected: str = field(repr=False)
    got: str = field(repr=False)
    held: bool = False


def checks(statement: Statement, token: VerifiedToken) -> Iterator[Check]:
    """Every condition of a statement with what came. A statement for another issuer is asked nothing more."""
    own = token.issuer == statement.issuer
    yield Check(key="issuer", code="no-statement", expected=statement.issuer, got=token.issuer, held=own)
    if not own:
        return
    for bound in statement.conditions:
        value = bound.read(token)
        held = bound.condition.holds(value)
        yield Check(key=bound.key, code="no-statement", expected=bound.condition.shown, got=shown(value), held=held)
    for trigger in token.unsafe_triggers:
        if trigger in statement.never_triggers:
            yield Check(key="guardrails", code="guardrail", expected="never this trigger", got=trigger, held=False)
        named = ", ".join(sorted(statement.allow_triggers)) or "none"
        yield Check(
            key="allow_triggers", code="trigger", expected=named, got=trigger, held=trigger in statement.allow_triggers
        )
    if statement.when is not None:
        verdict = statement.when.verdict(token.job, token.claims)
        yield Check(
            key="when", code="no-statement", expected=statement.when.source, got=verdict, held=verdict == "true"
        )


def every_miss(policy: Policy, grant: Grant, token: VerifiedToken) -> Iterator[Miss]:
    for statement in policy.statements:
        yield from _misses(policy, grant, statement, token)


def _misses(policy: Policy, grant: Grant, statement: Statement, token: VerifiedToken) -> Iterator[Miss]:
    missed = [check for check in checks(statement, token) if not check.held]
    plain = any(check.code == "no-statement" for check in missed)
    for check in missed:
        # The class of a refusal is that of what alone stood in the way.
        code: Code = "no-statement" if plain else check.code
        yield miss_of(policy, grant, statement, replace(check, code=code))


def miss_of(policy: Policy, grant: Grant, statement: Statement, check: Check) -> Miss:
    return Miss(
        grant=grant.name,
        policy=policy.name,
        statement=statement.number,
        key=check.key,
        code=check.code,
        expected=check.expected,
        got=check.got,
    )


def unknown_grant(name: str) -> tuple[Miss, ...]:
    miss = Miss(
        grant=shown(name), policy=None, statement=None, key="grant", code="unknown-grant",
        expected="a grant of some policy", got=shown(name),
    )  # fmt: skip
    return (miss,)


def shown(value: Any) -> str:
    """A value on one bounded line: text as it is where that is safe to print, JSON where not."""
    if absent(value):
        return "absent"
    try:
        text = value if isinstance(value, str) and value.isprintable() else json.dumps(value, default=str)
    except (RecursionError, ValueError):
        text = f"a {type(value).__name__} nested too deeply to show"
    return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "..."
