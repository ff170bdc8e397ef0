"""The smallest edit that would let a refused job in: what it is, whether anybody may make it, and who else comes in with it.

* Smallest: the statement that misses fewest, and for each miss the one value that came, never a wider pattern where a value
  does. Nothing is ever dropped.
* An edit is suggested only after the whole file was compiled with it, guardrails and the policy's own examples included,
  the linter found nothing in it that it had not found before, and `decide` let this job in by it.
* Some refusals should stay: another party's project under a known name, a pull request's code, a protection that is
  missing. Then there is no edit but the reason, and what to do instead.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, product
from typing import Final

from broker.authoring.explain.change import Change, changes
from broker.authoring.explain.nearest import Near
from broker.authoring.explain.patch import NotEditable, added, replaced, unified
from broker.authoring.finding import Severity
from broker.authoring.lint import lint_policy
from broker.documents import parse
from broker.errors import ConfigError
from broker.model import GrantRequest, VerifiedToken
from broker.policy.decide import judge
from broker.policy.load import Checked, PolicyText, check_text
from broker.policy.policyset import Policy, Statement
from broker.policy.world import World

UNSAFE_TRIGGER: Final = "unsafe-trigger"  # the linter's name for what a change of allow_triggers says by itself
MOST_TRIED: Final = 16  # combinations of changes of one statement
MOST_STATEMENTS: Final = 4
MOST_CHANGES: Final = 8  # who misses more is not near; and each change is a parse of the file, each try a lint


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Jobs that an edit lets in: `statement` trusts them, `before` did not; with `trigger`, that unsafe trigger started them."""

    statement: Statement
    before: Statement
    trigger: str | None = None

    def holds(self, token: VerifiedToken) -> bool:
        """Whether a job is one of them."""
        started = self.trigger is None or self.trigger in token.unsafe_triggers
        return started and self.statement.trusts(token) and not self.before.trusts(token)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One edit of one file, compiled and tried."""

    near: Near
    changes: tuple[Change, ...]
    text: str = field(repr=False)  # the whole file with it
    patch: tuple[str, ...]  # lines of a unified diff
    statement: Statement  # with it
    regions: tuple[Region, ...]  # together exactly what it lets in that the statement did not trust
    also: tuple[str, ...]  # other grants of the policy that all of these jobs get with it


@dataclass(frozen=True, slots=True, kw_only=True)
class Stays:
    """No edit; each reason says what to do instead."""

    reasons: tuple[str, ...]


def suggest(near: Sequence[Near], token: VerifiedToken, world: World) -> Edit | Stays:
    """The smallest edit of one of these statements, nearest first, that lets the job in; or why there is none."""
    refused = [one for one in near if not one.holds]
    # Statements about others' projects say nothing to this job's owners, where there are some about its own.
    own = [one for one in refused if one.about_this_job] or refused[:1]
    reasons: dict[str, None] = {}
    for one in own[:MOST_STATEMENTS]:
        found = _edit(one, token, world)
        if isinstance(found, Edit):
            return found
        reasons |= dict.fromkeys(found.reasons)
    return Stays(reasons=tuple(reasons) or ("no policy is about this job; its owners would write one: jobkey-broker policy new",))  # fmt: skip


def _edit(near: Near, token: VerifiedToken, world: World) -> Edit | Stays:
    choices: list[tuple[Change, ...]] = []
    reasons: list[str] = []
    for miss in near.misses:
        found = changes(near, miss, token, world)
        if isinstance(found, str):
            reasons.append(found)
        else:
            choices.append(found)
    if reasons:
        return Stays(reasons=tuple(reasons))
    if len(choices) > MOST_CHANGES:
        return Stays(reasons=(f"it misses {len(choices)} conditions of trust[{near.statement.number}], which is about other jobs; write a statement of its own",))  # fmt: skip
    for made in islice(product(*choices), MOST_TRIED):
        result = _tried(near, made, token, world)
        if isinstance(result, Edit):
            return result
        reasons += [reason for reason in result.reasons if reason not in reasons]
    return Stays(reasons=tuple(reasons))


def _tried(near: Near, made: tuple[Change, ...], token: VerifiedToken, world: World) -> Edit | Stays:
    before = near.policy
    try:
        text = before.text
        for change in made:
            here = ("trust", near.statement.number, *change.path)
            text = added(text, here[:-1], str(here[-1]), change.value) if change.fresh else replaced(text, here, change.value)  # fmt: skip
        checked = check_text(PolicyText(before.file, before.file, text.encode()), world)
    except NotEditable as error:
        return Stays(reasons=(f"the file cannot be edited in one place: {error}",))
    except ConfigError as error:
        return Stays(reasons=tuple(f"with the edit the policy would not load: {one}" for one in error.problems[:4]))
    after = checked.policy
    statement = after.statements[near.statement.number]
    if not _as_meant(before, after, near.statement.number) or not statement.trusts(token):
        return Stays(reasons=("the file cannot be edited in one place",))
    for name in near.grants:
        short = name.rpartition("/")[2]
        outcome = judge(after, after.grants[short], token, GrantRequest(grant=name), trust_only=True)
        if isinstance(outcome, list):
            return Stays(reasons=tuple(f"{miss.key}: expected {miss.expected}, got {miss.got}" for miss in outcome))
    if warned := _warned(before, checked, made, world):
        return Stays(reasons=warned)
    return Edit(
        near=near,
        changes=made,
        text=text,
        patch=unified(before.text, text, before.file),
        statement=statement,
        regions=tuple(_regions(near.statement, statement, made)),
        also=tuple(sorted(grant.name for grant in after.grants.values() if grant.name not in near.grants)),
    )


def _warned(before: Policy, after: Checked, made: Sequence[Change], world: World) -> tuple[str, ...]:
    """What the linter finds with the edit and did not find without. A trigger's danger is told by its change already."""
    told = {UNSAFE_TRIGGER} if any(change.trigger is not None for change in made) else set()
    known = Counter(
        one.rule
        for one in lint_policy(check_text(PolicyText(before.file, before.file, before.text.encode()), world), world)
    )
    reasons = []
    for one in lint_policy(after, world):
        known[one.rule] -= 1
        if known[one.rule] < 0 and one.severity is not Severity.NOTE and one.rule not in told:
            reasons.append(f"with the edit the linter would say ({one.rule}): {one.message}")
    return tuple(reasons)


def _as_meant(before: Policy, after: Policy, number: int) -> bool:
    """Whether the text's edit changed nothing but this one statement: read from both files, not from what was intended."""
    old, new = (parse(policy.text, "").value for policy in (before, after))
    for document in (old, new):
        document["trust"] = [*document["trust"]]
        document["trust"][number] = None
    return bool(old == new)


def _regions(old: Statement, new: Statement, made: Sequence[Change]) -> Iterator[Region]:
    """What `new` trusts and `old` does not: for each change, the jobs that need it, whatever the other changes let in."""
    for change in made:
        if change.trigger is not None:
            yield Region(statement=new, before=old, trigger=change.trigger)
            continue
        kept = tuple(bound for bound in new.conditions if bound.key != change.key)
        yield Region(statement=new.changed(conditions=(*kept, *change.newly)), before=old)
