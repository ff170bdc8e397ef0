"""Folders of policies as namespaces, and the guardrails' own examples."""

import json
from typing import Any

import pytest

from broker.errors import ConfigError
from broker.policy import Guardrails, PolicySet
from broker.policy.guardrails import read_guardrails
from broker.policy.load import PolicyText, compile_all
from tests.unit.policy.world import policy_text, world

LIMITS = """\
folders:
  payments:
    owners: ["team-payments@*"]
    issuers: [github]
    backends: [safe]
    longest_ttl: {safe-kind: 15m}
  payments/eu:
    longest_ttl: {safe-kind: 5m}
"""
GOOD = {
    "owners": ["team@acme.example"],
    "trust": [{"issuer": "github", "job": {"project_id": "1"}}],
    "grants": {"deploy": {"backend": "safe", "ttl": "15m"}},
}


def load(guardrails: Guardrails, file: str, text: str) -> PolicySet:
    return compile_all([PolicyText(file, file, text.encode())], world(guardrails), [])


def problems(text: str, guardrails: str = LIMITS, file: str = "payments/eu/p.yaml") -> tuple[str, ...]:
    try:
        load(read_guardrails(guardrails, "guardrails.yaml"), file, text)
    except ConfigError as error:
        return error.problems
    return ()


def policy(owner: str = "team-payments@acme.example", ttl: str = "5m", **names: str) -> str:
    text = policy_text(**names).replace("team@acme.example", owner)
    return text.replace("ttl: 15m", f"ttl: {ttl}")


@pytest.mark.parametrize(
    ("text", "file", "says"),
    [
        (policy(), "payments/eu/p.yaml", None),
        (policy(ttl="15m"), "payments/p.yaml", None),
        (policy("team@acme.example", "1h"), "elsewhere/p.yaml", None),
        (policy("team@acme.example"), "payments/p.yaml", "team@acme.example may not own a policy in 'payments'"),
        (policy("team@acme.example"), "payments/eu/p.yaml", "may not own a policy in 'payments'"),
        (policy(ttl="15m"), "payments/eu/p.yaml", "safe-kind credentials in 'payments/eu' live 5m at most"),
        (policy(ttl="16m"), "payments/p.yaml", "safe-kind credentials in 'payments' live 15m at most"),
        (policy(backend="needy"), "payments/eu/p.yaml", "do not let policies in 'payments' use the backend 'needy'"),
        (policy().replace("issuer: github", "issuer: forgejo"), "payments/p.yaml", "trust the issuer 'forgejo'"),
        (policy(), "payments-eu/p.yaml", None),
    ],
)  # fmt: skip
def test_a_folder_is_a_namespace(text: str, file: str, says: str | None) -> None:
    found = problems(text, file=file)
    assert (not found) if says is None else any(says in problem for problem in found), found


def test_a_folders_limit_on_time_holds_at_decision_time_too() -> None:
    guardrails = read_guardrails(LIMITS, "guardrails.yaml")
    found = load(guardrails, "payments/eu/p.yaml", policy())
    assert found.policies["payments"].grants["deploy"].ttl.total_seconds() == 300
    longest = [
        guardrails.longest("safe-kind", found.policies["payments"].grants["deploy"].ttl * 100, folder).total_seconds()
        for folder in (".", "payments", "payments/eu", "payments/eu/west")
    ]
    assert longest == [30_000, 900, 300, 300]


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ("folders: {payments: {owners: ['***']}}", "*** means nothing"),
        ("folders: {payments: {owners: []}}", "at least 1"),
        ("folders: {payments: {longest_ttl: {safe-kind: soon}}}", "a length of time"),
        ("folders: {payments: {ttl: 5m}}", "unknown key"),
    ],
)
def test_a_mistake_in_a_namespace_has_its_place(limits: str, says: str) -> None:
    (problem,) = problems(policy(), limits)
    assert problem.startswith("guardrails.yaml:1:")
    assert says in problem


def example(expect: str = "refuse", *, folder: str = ".", **changed: Any) -> str:
    written = {"name": "one", "folder": folder, "policy": {**GOOD, **changed}, "expect": expect}
    return LIMITS + "examples: " + json.dumps([written]) + "\n"


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        pytest.param(example("load"), None, id="within the limits"),
        pytest.param(example(trust=[{"issuer": "github", "job": {"project": "a/b"}}]), None, id="a name alone"),
        pytest.param(example(folder="payments"), None, id="an owner of another team"),
        pytest.param(example(), "examples[0].expect: 'one': expected to be refused, but no limit keeps it out", id="let in"),
        pytest.param(
            example("load", folder="payments/eu"),
            "examples[0].expect: 'one': expected to load, but it is refused: examples[0].policy.owners[0]: ", id="kept out",
        ),
        pytest.param(
            example(trust=[{"issuer": "github", "job": {"reff": "x"}}]),
            "examples[0].policy.trust[0].job.reff: a job has no 'reff'", id="a typing error is no limit at work",
        ),
        pytest.param(example("refused"), "examples[0].expect: Input should be 'load' or 'refuse'", id="misspelt"),
        pytest.param(
            LIMITS + "examples: " + json.dumps([{"name": "one", "policy": GOOD, "expect": "load"}] * 2),
            "an example of this name stands above", id="twice",
        ),
    ],
)  # fmt: skip
def test_the_guardrails_own_examples(limits: str, says: str | None) -> None:
    found = problems(policy(), limits)
    assert (not found) if says is None else any(says in problem for problem in found), found
    assert all(problem.startswith("guardrails.yaml:") for problem in found)
