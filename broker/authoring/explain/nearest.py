"""Which statements came nearest to trusting a job, and which condition was the first to say no.

* A statement about this job's own project comes before one about somebody else's, however few conditions that has: an
  author looks for their own policy, and an owner is shown a case only where their policy was meant.
* Then the fewest misses. Nothing here decides; `broker.policy.decide` gives every check.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from broker.model import VerifiedToken
from broker.policy.misses import Check, checks
from broker.policy.policyset import Policy, PolicySet, Statement

MOST: Final = 16  # statements in one answer
Rank = tuple[bool, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Near:
    """One statement, tried against one job."""

    policy: Policy
    statement: Statement
    grants: tuple[str, ...]  # policy/grant: of those asked for, or all that the policy has
    checks: tuple[Check, ...] = field(repr=False)  # in the order in which they are written, the issuer first

    @property
    def holds(self) -> bool:
        """Whether the statement trusts the job."""
        return all(check.held for check in self.checks)

    @property
    def misses(self) -> tuple[Check, ...]:
        """The conditions that did not hold."""
        return tuple(check for check in self.checks if not check.held)

    @property
    def first_miss(self) -> Check | None:
        """The first condition that did not hold."""
        return next(iter(self.misses), None)

    @property
    def about_this_job(self) -> bool:
        """Whether every condition on whose job it is holds; false for another issuer's statement."""
        return whose(self.statement, self.checks) == 0


def nearest_statements(
    policies: PolicySet, token: VerifiedToken, grants: Sequence[str], *, most: int = MOST
) -> list[Near]:
    """Statements of the policies of these grants, nearest first; with no grant, of all policies. At most `most`.

    A grant that no policy has adds nothing. Statements that trust the job come first of all.
    """
    asked: dict[str, list[str]] = {}
    if grants:
        for name in dict.fromkeys(grants):
            if name in policies.grants:
                asked.setdefault(policies.grants[name][0].name, []).append(name)
    else:
        asked = {name: [] for name in policies.policies}
    tried = [
        (rank(statement, token), policies.policies[name], statement)
        for name in asked
        for statement in policies.policies[name].statements
    ]
    tried.sort(key=lambda one: (one[0], one[1].name, one[2].number))
    return [
        Near(
            policy=policy,
            statement=statement,
            grants=tuple(asked[policy.name] or sorted(grant.name for grant in policy.grants.values())),
            checks=tuple(checks(statement, token)),
        )
        for _, policy, statement in tried[:most]
    ]


def rank(statement: Statement, token: VerifiedToken) -> Rank:
    """What statements are ordered by, less being nearer. Makes no text: it is asked of every statement of a set."""
    if statement.issuer != token.issuer:
        return (True, 2, 0)
    missed = anchored = lost = 0
    for bound in statement.conditions:
        held = bound.condition.holds(bound.read(token))
        missed += not held
        anchored += bound.anchor
        lost += bound.anchor and not held
    for trigger in token.unsafe_triggers:
        missed += (trigger in statement.never_triggers) + (trigger not in statement.allow_triggers)
    if statement.when is not None and not statement.when.holds(token.job, token.claims):
        missed += 1
    return (False, _whose(anchored, lost), missed)


def whose(statement: Statement, found: Iterable[Check]) -> int:
    """0: every condition on whose job it is holds. 1: some do. 2: none, or it is another issuer's."""
    held = {check.key: check.held for check in found}
    if not held.get("issuer"):
        return 2
    anchors = [held.get(bound.key, False) for bound in statement.conditions if bound.anchor]
    return _whose(len(anchors), anchors.count(False))


def _whose(anchored: int, lost: int) -> int:
    return 0 if not lost else 1 if lost < anchored else 2
