"""The tables of what one claim tells, held against every kind's own functions over claims of any type."""

from random import Random
from typing import Any

import pytest

from broker.issuers import ISSUERS
from broker.policy.claims import reader
from broker.proof.carries import CARRIES, SIGNALS, carries_of, known
from broker.proof.sources import sources_of
from tests.unit.proof.statements import KINDS, ODD, Near, write

TEXTS = [
    "refs/heads/main", "refs/tags/v1", "refs/pull/7/merge", "refs/pull-requests/1", "refs/merge-requests/1/head", "refs/", "refs/notes/x", "main", "True",
    "refs/heads/\x00", "refs/pull/\n", "\ud800", "push", "pull_request", "webhook", "apply", "TRACKED", "pipeline_job", "unknown-source", "x/y", "1",
]  # fmt: skip


def mutated(kind: str, rounds: int) -> Any:
    """Claims of a kind with some of them replaced by values of any type, or taken away."""
    rng = Random(kind)
    examples = list(ISSUERS[kind].examples.values())
    names = sorted(
        {name for claims in examples for name in claims}
        | {c.claim.removeprefix("claims.") for c in CARRIES.get(kind, {}).values()}
    )
    names += sorted({s.claim.removeprefix("claims.") for signals in SIGNALS.get(kind, {}).values() for s in signals})
    triggers = list(ISSUERS[kind].trigger_names)
    for _ in range(rounds):
        claims = dict(rng.choice(examples))
        for name in rng.sample(names, min(len(names), rng.randint(0, 5))):
            value = rng.choice([*ODD, *TEXTS, *triggers, ...])
            if value is ...:
                claims.pop(name, None)
            else:
                claims[name] = value
        yield claims


@pytest.mark.parametrize("kind", sorted(CARRIES))
def test_a_field_is_what_its_claim_tells(kind: str) -> None:
    seen: dict[str, set[Any]] = {field: set() for field in CARRIES[kind]}
    for claims in mutated(kind, 3_000):
        job = ISSUERS[kind].identity(claims)
        for field, carry in CARRIES[kind].items():
            value = reader(carry.claim.removeprefix("claims."))(claims)
            assert carry.told(value) == getattr(job, field), (field, value)
            seen[field].add(getattr(job, field))
    assert all(len(values) > 1 for values in seen.values())


@pytest.mark.parametrize("kind", sorted(SIGNALS))
def test_a_trigger_is_there_when_its_claim_shows_it(kind: str) -> None:
    assert set(SIGNALS[kind]) <= set(ISSUERS[kind].trigger_names)
    there: dict[str, set[bool]] = {trigger: set() for trigger in SIGNALS[kind]}
    for claims in mutated(kind, 6_000):
        triggers = ISSUERS[kind].unsafe_triggers(claims)
        for trigger, signals in SIGNALS[kind].items():
            for signal in signals:
                shown = reader(signal.claim.removeprefix("claims."))(claims) in signal.values
                assert not shown or trigger in triggers, (trigger, claims)
                assert not signal.exact or shown == (trigger in triggers), (trigger, claims)
            there[trigger].add(trigger in triggers)
    assert all(outcomes == {True, False} for outcomes in there.values()), there


def test_a_kind_with_functions_of_its_own_is_not_in_the_tables() -> None:
    assert known(KINDS["inhouse"]) == "generic"[:0] or not carries_of(KINDS["inhouse"])
    assert known(None) == ""
    assert carries_of(ISSUERS["github"])["job.ref"].claim == "claims.ref"


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_is_found_to_tell_a_field_does(kind: str) -> None:
    near = Near(Random(kind), kind)
    found = sources_of(near.kind)
    assert found.get("project_id") or found.get("project") or kind in {"generic", "jenkins"}
    for field, sources in found.items():
        for source in sources:
            claims: dict[str, Any] = dict(near.examples[0])
            change = source.write(source.before + "refs/heads/other" + source.behind)
            if change is not None and field != "run_url":
                for path, value in change:
                    write(claims, path, value)
                assert near.kind.identity(claims) is not None
