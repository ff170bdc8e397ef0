"""`policy describe`: by path, by folder, by name; in three forms."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.cli.policy import app
from tests.unit.policy.world import policy_text

CONFIGS = Path(__file__).parents[3] / "configs"
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "300")

    def invoke(*arguments: str | Path) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["describe", *map(str, arguments)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    return invoke


def test_a_file_a_folder_and_a_name(run: Run) -> None:
    code, by_path = run(CONFIGS / "policies/payments.yaml", "--config", CONFIGS / "broker.yaml")
    assert code == 0, by_path
    assert "Jobs of acme/payments (id 512345678) on GitHub Actions may have" in by_path
    assert "an SSH certificate for the principal deploy for at most 10 minutes" in by_path
    code, by_name = run("payments", "--config", CONFIGS / "broker.yaml")
    assert (code, by_name) == (0, by_path)
    code, several = run("payments", "storefront", "payments", "--config", CONFIGS / "broker.yaml")
    assert code == 0
    assert several.startswith(by_path)
    assert several.count("owners: ") == 2
    code, all_of_them = run(CONFIGS / "policies", "--config", CONFIGS / "broker.yaml")
    assert code == 0
    assert all_of_them.count("owners: ") == 4


@pytest.mark.parametrize("form", ["text", "markdown", "html"])
def test_every_form_is_printed(run: Run, form: str) -> None:
    code, out = run(CONFIGS / "policies/payments.yaml", "--config", CONFIGS / "broker.yaml", "--format", form)
    assert code == 0
    assert "an identity token for the audience https://deploy.acme.example" in out
    assert {"text": "| Who", "markdown": "| --- |", "html": "<!DOCTYPE html>"}[form] in out


def test_without_a_broker_the_output_says_what_it_does_not_know(run: Run) -> None:
    code, out = run(CONFIGS / "policies/payments.yaml")
    assert code == 0
    assert "a credential of the backend ssh" in out
    assert "for want of --config" in out


def test_a_name_that_is_not_there_and_a_policy_that_does_not_load(run: Run, tmp_path: Path) -> None:
    code, out = run("paymants", "--config", CONFIGS / "broker.yaml")
    assert code == 2
    assert "did you mean 'payments'?" in out
    (tmp_path / "p.yaml").write_text(policy_text(job="reff: x"))
    code, out = run(tmp_path / "p.yaml")
    assert code == 2
    assert "did you mean 'ref'?" in out
    assert run(tmp_path / "none.yaml")[0] == 2


def test_nothing_in_a_policy_reaches_the_terminal_as_a_command(run: Run, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        policy_text(top='description: "\\e[2J[red]x\\u202e"', job='actor: "[bold]\\u202e"')
    )
    for form in ("text", "markdown", "html"):
        code, out = run(tmp_path / "p.yaml", "-f", form)
        assert code == 0, out
        assert all(char.isprintable() or char == "\n" for char in out)
    assert "[red]x" in run(tmp_path / "p.yaml")[1]
