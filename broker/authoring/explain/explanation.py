"""Why a job got what it got: the decision, the nearest statements, and the smallest edit with what it comes to.

One structure for every output. Nothing here decides: it asks `decide` and puts the answer beside what it came from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from broker.authoring.explain.consequence import Consequence, consequence
from broker.authoring.explain.edit import Edit, Stays, suggest
from broker.authoring.explain.nearest import Near, nearest_statements
from broker.authoring.explain.patch import first_line
from broker.model import GrantRequest, VerifiedToken
from broker.policy.answers import Allowed, BadParams, Decision, Denied
from broker.policy.decide import decide
from broker.policy.policyset import PolicySet
from broker.policy.world import World

MOST_NEAR: Final = 3  # statements shown where nobody says which grant is meant


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Everything there is to say to an author about one job and some grants."""

    token: VerifiedToken
    decisions: Mapping[str, Decision]  # by grant, each asked for alone
    near: tuple[Near, ...]  # nearest first
    edit: Edit | Stays | None  # None where nothing was refused, or no edit of a statement is what is missing
    comes_to: Consequence | None  # of the edit
    named: bool  # whether the grants were named, and not tried because nobody said which

    @property
    def refused(self) -> bool:
        """Whether the answer is no: one of the grants that were named, or every one that was tried."""
        return any(isinstance(one, Denied) for one in self.decisions.values()) if self.named else not self.got

    @property
    def got(self) -> tuple[str, ...]:
        """Grants that the job gets, some of them once it sends what the backend needs."""
        return tuple(name for name, one in self.decisions.items() if not isinstance(one, Denied))


def explain(
    policies: PolicySet,
    token: VerifiedToken,
    grants: Sequence[str],
    world: World,
    *,
    params: Mapping[str, Any] | None = None,
    now: datetime,
    edits: bool = True,
) -> Explanation:
    """Judge and explain. Without grants, every grant of the nearest policies is tried. `edits` looks for one, too."""
    near = nearest_statements(policies, token, grants)
    if not grants:
        own = [one for one in near if one.about_this_job or one.holds]
        near = own[:MOST_NEAR] or near[:1]
    asked = list(grants) or list(dict.fromkeys(name for one in near for name in one.grants))
    decisions = {name: decide(policies, token, [GrantRequest(grant=name, params=params)], now=now) for name in asked}
    edit = None
    missed = [name for name, one in decisions.items() if isinstance(one, Denied)]
    untrusted = [one for one in near if not any(_trusted(near, name) for name in one.grants)]
    if edits and missed and untrusted:
        edit = suggest(untrusted, token, world)
    comes_to = consequence(edit, world) if isinstance(edit, Edit) else None
    return Explanation(
        token=token, decisions=decisions, near=tuple(near), edit=edit, comes_to=comes_to, named=bool(grants)
    )


def _trusted(near: Sequence[Near], grant: str) -> bool:
    """Whether some statement trusts the job with this grant: what then refuses it is no condition of a statement."""
    return any(one.holds and grant in one.grants for one in near)


def as_json(found: Explanation) -> dict[str, Any]:
    """For programs; holds claims and policy content, so it is for the policies' people."""
    return {
        "issuer": found.token.issuer,
        "kind": found.token.kind,
        "job": found.token.job.present(),
        "unsafe_triggers": list(found.token.unsafe_triggers),
        "allowed": not found.refused,
        "grants": [_decision_json(name, one) for name, one in found.decisions.items()],
        "statements": [_near_json(one) for one in found.near],
        **_edit_json(found),
    }


def _decision_json(name: str, decision: Decision) -> dict[str, Any]:
    match decision:
        case Allowed(grants=(grant, *_)):
            return {
                "grant": name, "outcome": "observed" if grant.observed else "allowed", "policy": grant.policy,
                "statement": grant.statement, "backend": grant.backend, "ttl_seconds": int(grant.ttl.total_seconds()),
            }  # fmt: skip
        case BadParams(problems=problems):
            told = [{"param": problem.param, "message": problem.message} for problem in problems]
            return {"grant": name, "outcome": "params", "problems": told}
        case Denied() as denied:
            return {
                "grant": name, "outcome": "refused", "code": denied.code,
                "misses": [miss.as_json() for miss in denied.near(name)],
            }  # fmt: skip
        case _:
            raise AssertionError(decision)


def _near_json(near: Near) -> dict[str, Any]:
    first = near.first_miss
    return {
        "policy": near.policy.name,
        "file": near.policy.file,
        "version": near.policy.version,
        "statement": near.statement.number,
        "grants": list(near.grants),
        "holds": near.holds,
        "first_miss": None if first is None else first.key,
        "checks": [
            {"key": check.key, "held": check.held, "expected": check.expected, "got": check.got}
            for check in near.checks
        ],
    }


def _edit_json(found: Explanation) -> dict[str, Any]:
    if isinstance(found.edit, Stays):
        return {"edit": None, "stays_refused": list(found.edit.reasons)}
    if found.edit is None or found.comes_to is None:
        return {"edit": None}
    return {
        "edit": {
            "policy": found.edit.near.policy.name,
            "file": found.edit.near.policy.file,
            "statement": found.edit.near.statement.number,
            "line": first_line(found.edit.patch),
            "changes": [{"key": change.key, "says": change.says} for change in found.edit.changes],
            "patch": list(found.edit.patch),
            "also_lets_in": list(found.comes_to.jobs),
            "grants": list(found.comes_to.grants),
            "proved": found.comes_to.proved,
            "open": found.comes_to.why,
            "example": found.comes_to.example,
        }
    }
