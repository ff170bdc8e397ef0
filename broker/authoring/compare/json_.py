"""A difference as JSON of a stable shape, for programs. docs/policy-diff.md says what each member is.

New members may come; none changes its meaning without another number in `format`.
"""

from collections.abc import Mapping
from typing import Any, Final

from broker.authoring.compare.difference import Difference, GrantDifference, PolicyDifference
from broker.authoring.compare.grants import Direction, Job
from broker.authoring.compare.guardrails import Limit
from broker.authoring.compare.replay import Changed, Replayed
from broker.authoring.compare.words import grant_lines, headline, limit_lines, notes, plain, policy_lines

FORMAT: Final = "jobkey-policy-diff/1"


def as_json(
    difference: Difference, *, old: str, new: str, commits: tuple[str | None, str | None], switched: bool = False
) -> dict[str, Any]:
    """The whole of it. `old` and `new` are what was asked for; a folder has no commit. `switched`: NEW's trials decide."""
    return {
        "format": FORMAT,
        "headline": headline(difference),
        "newly_allowed": difference.wider.value,
        "guardrails_looser": difference.looser,
        "old": {"name": old, "commit": commits[0], "policy_set": difference.versions[0]},
        "new": {"name": new, "commit": commits[1], "policy_set": difference.versions[1], "next": switched},
        "grants": [_grant(one) for one in difference.grants],
        "same": difference.same,
        "policies": [_policy(one) for one in difference.policies],
        "guardrails": [_limit(one) for one in difference.limits],
        "not_checked": list(notes(difference)),
        "replay": None,
    }


def _grant(grant: GrantDifference) -> dict[str, Any]:
    compared = grant.compared
    return {
        "grant": grant.name,
        "change": grant.change.value,
        "newly_allowed": _direction(compared.allowed),
        "newly_refused": _direction(compared.refused),
        "reach": [
            {"what": one.what, "path": one.path, "before": one.before, "after": one.after,
             "gives": one.gives.value, "takes": one.takes.value}
            for one in compared.reach
        ],
        "sends": None if compared.sends is None else _job(compared.sends),
        "says": [plain(line.words) for line in grant_lines(grant)],
    }  # fmt: skip


def _direction(found: Direction) -> dict[str, Any]:
    return {"verdict": found.verdict.value, "why": found.why, "job": None if found.job is None else _job(found.job)}


def _job(job: Job) -> dict[str, Any]:
    return {
        "issuer": job.issuer,
        "claims": dict(job.claims),
        "params": dict(job.params),
        "needs": list(job.needs),
        "statement": job.statement,
        "missed": [{"key": key, "expected": expected, "got": got} for key, expected, got in job.missed],
        "refusal": job.refusal,
    }


def _policy(policy: PolicyDifference) -> dict[str, Any]:
    return {
        "policy": policy.name,
        "change": policy.change.value,
        "mode": policy.mode and list(policy.mode),
        "owners_added": list(policy.owners_added),
        "owners_removed": list(policy.owners_removed),
        "file": policy.file and list(policy.file),
        "next": policy.trial and policy.trial.value,
        "next_decides": policy.switched,
        "examples_added": list(policy.examples_added),
        "examples_removed": list(policy.examples_removed),
        "version": list(policy.version),
        "says": [plain(line.words) for line in policy_lines(policy)],
    }


def _limit(limit: Limit) -> dict[str, Any]:
    return {
        "key": limit.key,
        "before": limit.before,
        "after": limit.after,
        "gives": limit.gives,
        "takes": limit.takes,
        "advice": limit.advice,
        "used_by": [one._asdict() for one in limit.used_by],
        "lost_by": [one._asdict() for one in limit.lost_by],
        "says": [plain(line.words) for line in limit_lines(limit)],
    }


def replay_as_json(replayed: Replayed, *, days: int, says: list[str]) -> dict[str, Any]:
    """What `replay` holds, where the past was judged again."""
    unused = replayed.unused
    return {
        "days": days,
        "events": replayed.events,
        "requests": replayed.requests,
        "changed": [
            {"before": before.value, "after": after.value, "requests": count}
            for (before, after), count in sorted(replayed.changed.items())
        ],
        "jobs": replayed.jobs,
        "groups": [{"requests": group.requests, "first": _changed(group.first)} for group in replayed.groups],
        "left_out": replayed.left_out,
        "shown": [_changed(one) for one in replayed.shown],
        "otherwise": replayed.otherwise,
        "not_judged": dict(replayed.not_judged),
        "unused": {
            "policies": list(unused.policies),
            "grants": list(unused.grants),
            "statements": [{"policy": policy, "statement": number} for policy, number in unused.statements],
        },
        "says": says,
    }


def _changed(one: Changed) -> Mapping[str, Any]:
    return {
        "event": one.event, "time": one.time, "issuer": one.issuer, "project": one.project, "run": one.run,
        "run_url": one.run_url, "grants": list(one.grants), "before": one.before.value, "after": one.after.value,
        "requests": one.requests,
    }  # fmt: skip
