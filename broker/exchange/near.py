"""What stood nearest in the way of a refused job, as the event of its case keeps it. Pure, and bounded in bytes.

An entry is {policy, statement, key, code, expected, got}; `statement` is left out where none is meant. Entries of one
statement stand together, its first miss first; the nearest statement is first of all. The first entry of a statement also
lists the conditions that `held`. It is policy content: for owners of that policy, auditors and the platform's people.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import orjson

from broker.model import VerifiedToken
from broker.policy import BadParams, Miss, PolicySet
from broker.policy.misses import checks

MOST_BYTES: Final = 6_144  # a leaf holds the claims, the reason and more within 65,535
LONGEST: Final = 200  # characters of a value
FEWEST: Final = 24  # characters of a value that has to be there though there is little room

Entry = dict[str, Any]


def near_misses(misses: Iterable[Miss], policies: PolicySet, token: VerifiedToken) -> list[Entry]:
    """Of a Denied's misses. A grant that a policy does not have is near that policy; one of no policy is near none."""
    groups: dict[tuple[str, int | None], list[Entry]] = {}
    for miss in misses:
        entry = _unknown(miss, policies) if miss.policy is None else _entry(miss.policy, miss.statement, miss)
        if entry is not None:
            of_statement = groups.setdefault((entry["policy"], miss.statement), [])
            if entry not in of_statement:  # two grants of one policy miss the same
                of_statement.append(entry)
    for (name, number), entries in groups.items():
        _add_held(entries[0], name, number, policies, token)
    return bounded(sorted(groups.values(), key=lambda entries: (entries[0]["key"] == "issuer", len(entries))))


def near_grants(
    grants: Iterable[str], policies: PolicySet, *, key: str, code: str, expected: str, got: str
) -> list[Entry]:
    """One entry for each policy of these grants: what was in the way is no condition of a statement."""
    named = dict.fromkeys(grant.partition("/")[0] for grant in grants)
    about = {"key": key, "code": code, "expected": expected[:LONGEST], "got": got[:LONGEST]}
    return bounded([[{"policy": name, **about}] for name in named if name in policies.policies])


def near_params(bad: BadParams, policies: PolicySet) -> list[Entry]:
    """What a trusted job sent wrongly, for the owners of the policy that trusts it."""
    return bounded([
        near_grants(
            [problem.grant], policies, key=f"params.{problem.param}" if problem.param else "params", code="params",
            expected=problem.message, got="as the job sent it",
        )
        for problem in bad.problems
    ])  # fmt: skip


def bounded(groups: Sequence[Sequence[Entry]]) -> list[Entry]:
    """As many entries as fit, in their order.

    The first one of each policy always does, shortened where all of those are too much: its owners find the case by it.
    """
    entries = [entry for group in groups for entry in group]
    firsts: dict[str, int] = {}
    for at, entry in enumerate(entries):
        firsts.setdefault(entry["policy"], at)
    kept = {at: entries[at] for at in firsts.values()}
    if sum(map(_size, kept.values())) > MOST_BYTES:
        kept = {at: _short(entry) for at, entry in kept.items()}
    room = MOST_BYTES - sum(map(_size, kept.values()))
    for at, entry in enumerate(entries):
        if at not in kept and (size := _size(entry)) <= room:
            kept[at] = entry
            room -= size
    return [kept[at] for at in sorted(kept)]


def _size(entry: Entry) -> int:
    return len(orjson.dumps(entry))


def _entry(policy: str, statement: int | None, miss: Miss) -> Entry:
    where = {} if statement is None else {"statement": statement}
    about = {"key": miss.key, "code": miss.code, "expected": miss.expected[:LONGEST], "got": miss.got[:LONGEST]}
    return {"policy": policy, **where, **about}


def _unknown(miss: Miss, policies: PolicySet) -> Entry | None:
    name, _, asked = miss.grant.partition("/")
    policy = policies.policies.get(name)
    if policy is None:
        return None
    there = ", ".join(sorted(policy.grants))[:LONGEST]
    return {"policy": name, "key": "grant", "code": miss.code, "expected": there, "got": asked[:LONGEST]}


def _add_held(entry: Entry, name: str, number: int | None, policies: PolicySet, token: VerifiedToken) -> None:
    statements = policies.policies[name].statements
    found = next((statement for statement in statements if statement.number == number), None)
    if found is not None and entry["key"] != "issuer":
        entry["held"] = [check.key for check in checks(found, token) if check.held]


def _short(entry: Entry) -> Entry:
    return {
        name: value[:FEWEST] if name in {"key", "expected", "got"} else value
        for name, value in entry.items()
        if name != "held"
    }
