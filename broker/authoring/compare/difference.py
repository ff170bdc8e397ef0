"""What a change of policies does, proved: for each grant, who is newly allowed and who is newly refused.

* The two sets are those that a broker would load; guardrails are part of them.
* "No identity is newly allowed" is said only where it is proved for every job there could be. Whatever is called newly
  allowed comes with a job that was put to `decide` with both sets.
* What cannot be decided (a CEL expression, a template) counts as what it could be, and says so.
* A policy whose text and limits are the same is not asked about: it decides the same.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Final

from broker.authoring.compare.grants import PROVED, Compared, Version, compare_grant
from broker.authoring.compare.guardrails import Limit, compare_guardrails
from broker.authoring.compare.reach import Part
from broker.documents import parse, validated
from broker.policy import Policy, PolicySet
from broker.policy.document import GrantPart, PolicyFile
from broker.policy.world import World
from broker.proof import Verdict

_WORST: Final = (Verdict.NONE, Verdict.UNKNOWN, Verdict.SOME)


class Change(StrEnum):
    """What became of a policy or a grant."""

    NEW = "new"
    REMOVED = "removed"
    CHANGED = "changed"
    SAME = "same"


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantDifference:
    """One grant of a policy that is not the same in both sets."""

    name: str  # policy/grant
    change: Change
    compared: Compared

    @property
    def wider(self) -> Verdict:
        """Whether a job gets something by the new set that it does not get by the old one."""
        return worst(self.compared.allowed.verdict, *(one.gives for one in self.compared.reach))

    @property
    def narrower(self) -> Verdict:
        """Whether a job loses something."""
        return worst(self.compared.refused.verdict, *(one.takes for one in self.compared.reach))


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyDifference:
    """One policy file that is not the same in both sets, apart from its grants."""

    name: str
    change: Change
    mode: tuple[str, str] | None = None  # before and after, where it changed
    owners_added: tuple[str, ...] = ()
    owners_removed: tuple[str, ...] = ()
    file: tuple[str, str] | None = None  # before and after, where it moved
    examples_added: tuple[str, ...] = ()
    examples_removed: tuple[str, ...] = ()  # by name; one that says something else now is both
    trial: Change | None = None  # what became of its `next:`
    switched: bool = False  # it decides now
    version: tuple[str | None, str | None] = (None, None)  # sha256:<hex> of its text


@dataclass(frozen=True)
class Difference:
    """All of it."""

    policies: tuple[PolicyDifference, ...]
    grants: tuple[GrantDifference, ...]
    limits: tuple[Limit, ...]
    same: int  # grants of policies that are the same in both sets
    versions: tuple[str, str]  # of the two sets, as events name them
    checked: bool = field(default=True)  # against the backends; else options and the params' own shape are not

    @cached_property
    def wider(self) -> Verdict:
        """The answer to: is anything newly allowed? Guardrails that give more room are told apart, by `looser`."""
        return worst(*(grant.wider for grant in self.grants))

    @cached_property
    def looser(self) -> bool:
        """Whether the guardrails let policies say more than before."""
        return any(limit.gives for limit in self.limits)


def worst(*verdicts: Verdict) -> Verdict:
    """SOME before UNKNOWN before NONE."""
    return max((Verdict.NONE, *verdicts), key=_WORST.index)


def compare(old: PolicySet, new: PolicySet, world: World) -> Difference:
    """Two sets that load in `world`, each with its own guardrails (those of `world` are not looked at)."""
    policies: list[PolicyDifference] = []
    grants: list[GrantDifference] = []
    same = 0
    for name in sorted(old.policies.keys() | new.policies.keys()):
        before, after = old.policies.get(name), new.policies.get(name)
        if before is not None and after is not None and _decide_alike(before, after, old, new):
            same += len(after.grants)
            if before.file != after.file:
                policies.append(_policy(name, before, after))
            continue
        policies.append(_policy(name, before, after))
        grants.extend(_grants(name, (old, _written(before)), (new, _written(after)), world))
    return Difference(
        policies=tuple(policies),
        grants=tuple(grants),
        limits=tuple(compare_guardrails(old, new, world)),
        same=same,
        versions=(old.version, new.version),
        checked=world.targets is not None,
    )


def _decide_alike(before: Policy, after: Policy, old: PolicySet, new: PolicySet) -> bool:
    """The same text under guardrails that are asked the same at decision time."""
    if before.version != after.version:
        return False
    return old.guardrails == new.guardrails or _limited(before) == _limited(after)


def _limited(policy: Policy) -> tuple[object, ...]:
    """What guardrails leave in a compiled policy."""
    triggers = tuple(statement.never_triggers for statement in policy.statements)
    return triggers, {name: grant.ttl for name, grant in policy.grants.items()}


@dataclass(frozen=True, slots=True)
class _Written:
    policy: Policy
    file: PolicyFile


def _written(policy: Policy | None) -> _Written | None:
    """The file again as it is written: it loaded before, so it does now."""
    return None if policy is None else _Written(policy, validated(PolicyFile, parse(policy.text, policy.file)))


def _grants(
    policy: str, before: tuple[PolicySet, _Written | None], after: tuple[PolicySet, _Written | None], world: World
) -> Iterator[GrantDifference]:
    (old, was), (new, now) = ((policies, _parts(written, world)) for policies, written in (before, after))
    for name in [*was, *(name for name in now if name not in was)]:
        full = f"{policy}/{name}"
        earlier = Version(policies=old, name=full, part=was.get(name))
        later = Version(policies=new, name=full, part=now.get(name))
        compared = compare_grant(earlier, later, world)
        yield GrantDifference(name=full, change=_change(earlier, later, compared), compared=compared)


def _parts(written: _Written | None, world: World) -> Mapping[str, Part]:
    if written is None:
        return {}
    return {
        name: Part(
            policy=written.policy, grant=grant, written=written.file.grants[name],
            powers=tuple(_powers(written.file.grants[name], world)),
        )
        for name, grant in written.policy.grants.items()
    }  # fmt: skip


def _powers(grant: GrantPart, world: World) -> Iterator[str]:
    target = (world.targets or {}).get(grant.backend)
    if target is not None:
        yield from dict.fromkeys(f"{power.deed} {power.object}" for power in target.writes(grant.options))


def _change(before: Version, after: Version, compared: Compared) -> Change:
    if before.part is None:
        return Change.NEW
    if after.part is None:
        return Change.REMOVED
    if compared == Compared(allowed=PROVED, refused=PROVED):
        return Change.SAME
    return Change.CHANGED


def _policy(name: str, before: Policy | None, after: Policy | None) -> PolicyDifference:
    was, now = (_written(one) for one in (before, after))
    version = (None if before is None else before.version, None if after is None else after.version)
    if was is None or now is None:
        return PolicyDifference(name=name, change=Change.NEW if was is None else Change.REMOVED, version=version)
    old_examples, new_examples = (
        {example.model_dump_json(): example.name for example in one.file.examples} for one in (was, now)
    )
    return PolicyDifference(
        name=name,
        change=Change.CHANGED,
        mode=(was.file.mode, now.file.mode) if was.file.mode != now.file.mode else None,
        owners_added=tuple(owner for owner in now.file.owners if owner not in was.file.owners),
        owners_removed=tuple(owner for owner in was.file.owners if owner not in now.file.owners),
        file=(was.policy.file, now.policy.file) if was.policy.file != now.policy.file else None,
        examples_added=tuple(called for key, called in new_examples.items() if key not in old_examples),
        examples_removed=tuple(called for key, called in old_examples.items() if key not in new_examples),
        trial=_trial(was.file, now.file),
        switched=_is_switched(was.file, now.file),
        version=version,
    )


def _is_switched(before: PolicyFile, after: PolicyFile) -> bool:
    """Whether what was on trial is what the file says now."""
    trial = before.next
    if trial is None or after.next == trial or after.trust != trial.trust:
        return False
    return after.grants == (before.grants if trial.grants is None else trial.grants)


def _trial(before: PolicyFile, after: PolicyFile) -> Change | None:
    if before.next == after.next:
        return None
    if before.next is None:
        return Change.NEW
    return Change.REMOVED if after.next is None else Change.CHANGED
