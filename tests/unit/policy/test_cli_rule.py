"""`policy rule`: every rule's page without a browser, from a checkout and from what is installed."""

import pytest
from typer.testing import CliRunner

from broker.authoring.lint import RULES
from broker.cli.policy import app
from broker.cli.policy.rule import page
from broker.errors import ConfigError


@pytest.mark.parametrize("name", RULES)
def test_every_rule_has_its_page_at_hand(name: str) -> None:
    text = page(name)
    assert f"`{name}`" in text
    assert CliRunner().invoke(app, ["rule", name]).stdout == text


def test_without_a_name_every_rule_is_a_line() -> None:
    lines = CliRunner().invoke(app, ["rule"]).stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(RULES)
    assert {line.split()[1] for line in lines} <= {"error", "warning", "note"}


def test_a_misspelt_rule_is_told_the_nearest() -> None:
    result = CliRunner().invoke(app, ["rule", "opn-prefix"])
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception) == "no rule 'opn-prefix'; did you mean 'open-prefix'?"
