"""Every rule has a page and every page a rule; the bad policies on it are found by this rule, the good ones by none."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from broker.authoring.finding import Finding
from broker.authoring.lint import RULES
from tests.unit.lint.world import lint
from tools.pages import blocks

ROOT = Path(__file__).parents[3]
PAGES = ROOT / "docs/rules"
HISTORY = {"payments/shell": timedelta(minutes=2)}  # what docs/rules/ttl-beyond-history.md says of its ledger


def on_page(rule: str, role: str) -> tuple[list[str], str | None]:
    """The policies and the guardrails that a page shows in one role."""
    found = [block.text for block in blocks((ROOT / RULES[rule].page).read_text()) if block.info == f"yaml {role}"]
    policies = [text for text in found if text.startswith("policy:")]
    (guardrails,) = [text for text in found if text not in policies][:1] or [None]
    return policies, guardrails


def linted(rule: str, role: str) -> list[Finding]:
    policies, guardrails = on_page(rule, role)
    assert policies or guardrails
    history = HISTORY if rule == "ttl-beyond-history" else None
    if role == "good" and len({text.split("\n")[0] for text in policies}) < len(policies):
        return [one for text in policies for one in lint(text, guardrails=guardrails, history=history)]
    return lint(*policies, guardrails=guardrails, history=history)


def test_every_rule_has_a_page_and_every_page_a_rule() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} - {"README"} == set(RULES)


@pytest.mark.parametrize("rule", RULES)
def test_a_page_says_what_its_rule_is(rule: str) -> None:
    text = (ROOT / RULES[rule].page).read_text()
    assert text.startswith(f"# {RULES[rule].title}\n\n`{rule}` ({RULES[rule].severity.value}). {RULES[rule].summary}\n")
    assert "## The attack" in text


@pytest.mark.parametrize("rule", RULES)
def test_the_bad_policy_is_found_by_this_rule_alone(rule: str) -> None:
    assert {one.rule for one in linted(rule, "bad")} == {rule}


@pytest.mark.parametrize("rule", RULES)
def test_the_good_policy_is_found_by_none(rule: str) -> None:
    assert not [(one.rule, one.message) for one in linted(rule, "good")]


def test_the_index_lists_every_rule() -> None:
    text = (PAGES / "README.md").read_text()
    listed = re.findall(r"^\| \[([a-z-]+)\]\(\1\.md\) \| (error|warning|note) \| (.+) \|$", text, re.MULTILINE)
    assert listed == [(rule.id, rule.severity.value, rule.summary.replace("||", r"\|\|")) for rule in RULES.values()]
