"""The path of a self-escalation, step by step, with a backend that writes repositories."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from broker.authoring.lint import lint_set
from broker.backends.seam import Power
from broker.policy.guardrails import read_guardrails
from broker.policy.world import World
from tests.unit.lint.samples import ID, MAIN, policy, ssh
from tests.unit.lint.world import check, lint, under, world

PROTECTS = 'protects:\n  policies: ["github:acme/policies"]\n  workflows: ["github:acme/ci"]\n'


def writing(*objects: str) -> World:
    """A world whose ssh backend gives access to these, as a backend for repositories will."""

    def writes(_options: Mapping[str, Any]) -> Iterator[Power]:
        for name in objects:
            yield Power(object=name, deed="push to")

    here = under(read_guardrails(PROTECTS, "guardrails.yaml"))
    assert here.targets is not None
    return replace(here, targets={**here.targets, "ssh": replace(here.targets["ssh"], writes=writes)})


def found(here: World, *texts: str) -> list[str]:
    checked = [check(text, here, f"{number}.yaml") for number, text in enumerate(texts)]
    return [one.message for one in lint_set(checked, here, guardrails=here.guardrails) if one.rule == "self-escalation"]


WRITER = policy(f"job: {{{ID}, {MAIN}}}", name="writer", grants=ssh("x"))
TRUSTING = policy(f'job: {{project: acme/web, project_id: "2", {MAIN}}}', name="web")
SHARED = policy(
    f'job: {{project_id: "2", {MAIN}}}\nclaims: {{job_workflow_ref: acme/tools/.github/workflows/d.yml@refs/tags/v1}}',
    name="web",
)


@pytest.mark.parametrize(
    ("objects", "texts", "ends"),
    [
        (["github:acme/policies"], [WRITER], "protects.policies"),
        (["github:acme/*"], [WRITER], "protects.policies"),
        (["github:acme/ci"], [WRITER], "protects.workflows"),
        (["github:acme/web"], [WRITER, TRUSTING], "github:acme/web, whose workflow web trusts -> gets web/deploy"),
        (["github:acme/tools"], [WRITER, SHARED], "github:acme/tools, whose workflow web trusts -> gets web/deploy"),
        (["github:acme/web/contents"], [WRITER, TRUSTING], "whose workflow web trusts"),
    ],
)
def test_the_path_is_printed(objects: list[str], texts: list[str], ends: str) -> None:
    (message,) = found(writing(*objects), *texts)
    assert message.startswith(f"writer/g -> may push to {objects[0]} (backend ssh) -> which is ")
    assert ends in message


@pytest.mark.parametrize(
    ("objects", "texts"),
    [
        (["github:acme/other"], [WRITER, TRUSTING]),
        (["gitlab:acme/web"], [WRITER, TRUSTING]),
        (["github:acme/webb"], [WRITER, TRUSTING]),
        ([], [WRITER, TRUSTING]),
    ],
)
def test_what_leads_nowhere_is_not_found(objects: list[str], texts: list[str]) -> None:
    assert not found(writing(*objects), *texts)


def test_the_protected_object_is_shown_beside_it() -> None:
    (one,) = [
        one
        for one in lint(
            policy(f"job: {{{ID}, {MAIN}}}", grants=ssh("root")), guardrails="protects: {broker: ['ssh:r*']}"
        )
        if one.rule == "self-escalation"
    ]
    ((place, words),) = one.related
    assert (place.file, words) == ("guardrails.yaml", "protects.broker: ssh:r*")


def test_ten_grants_of_one_policy_are_ten_findings_and_none_twice() -> None:
    grants = "\n".join(ssh("root").replace("g:", f"g{number}:") for number in range(10))
    text = policy(f"job: {{{ID}, {MAIN}}}", grants=grants)
    messages = [
        one.message
        for one in lint(text, guardrails="protects: {broker: ['ssh:root']}")
        if one.rule == "self-escalation"
    ]
    assert len(messages) == len(set(messages)) == 10


def test_without_guardrails_what_needs_no_declaration_is_known() -> None:
    assert world().guardrails.protects == {}
