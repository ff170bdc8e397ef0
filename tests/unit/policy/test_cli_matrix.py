"""`policy matrix`: over a folder, filtered, in five forms."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.authoring.describe.matrix import COLUMNS
from broker.cli.policy import app
from tests.unit.policy.world import policy_text

CONFIGS = Path(__file__).parents[3] / "configs"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run() -> Run:
    def invoke(*arguments: str | Path) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, ["matrix", *map(str, arguments)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    return invoke


CONFIG = ("--config", CONFIGS / "broker.yaml")


def test_the_brokers_own_policies_are_taken_where_no_path_is_given(run: Run) -> None:
    code, out, _ = run(*CONFIG)
    assert code == 0
    assert "  ssh    an SSH certificate for the principal deploy for 10m (payments/shell)\n" in out
    assert out.splitlines()[-1] == "5 groups of jobs, by 4 policies"
    assert run(CONFIGS / "policies", *CONFIG)[:2] == (code, out)


def test_who_can_reach_a_principal(run: Run) -> None:
    code, out, _ = run(*CONFIG, "--backend", "ssh", "--option", "principals=builder")
    assert code == 0
    assert out.splitlines()[-1] == "1 group of jobs, by 1 policy"
    assert "release/runner" in out
    assert run(*CONFIG, "--option", "principals=root")[:2] == (0, "nobody, by these policies\n")


def test_what_a_project_filter_cannot_tell_is_said_beside_the_output(run: Run) -> None:
    code, out, err = run(*CONFIG, "--project", "acme/payments", "--issuer", "gitlab")
    assert (code, out) == (0, "nobody, by these policies\n")
    assert "2 statements name their project by id alone" in err


def test_programs_get_a_line_for_each_statement_and_grant(run: Run) -> None:
    lines = [json.loads(line) for line in run(*CONFIG, "-f", "json")[1].splitlines()]
    table = list(csv.DictReader(io.StringIO(run(*CONFIG, "-f", "csv")[1])))
    assert tuple(table[0]) == COLUMNS
    assert [line["grant"] for line in lines] == [row["grant"] for row in table]
    assert lines[0]["options"] == {"principals": ["deploy"]}
    assert table[0]["ttl_seconds"] == "600"


def test_a_spreadsheet_takes_no_cell_for_a_formula(run: Run, tmp_path: Path) -> None:
    evil = "=HYPERLINK(1)"
    text = policy_text(job=f'environment: "{evil}"').replace("owners: [team@acme.example]", 'owners: ["@SUM(1)"]')
    (tmp_path / "p.yaml").write_text(text)
    (row,) = csv.DictReader(io.StringIO(run(tmp_path, "-f", "csv")[1]))
    assert row["owners"] == "'@SUM(1)"
    assert not [cell for cell in row.values() if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


@pytest.mark.parametrize("form", ["markdown", "html"])
def test_tables_have_a_column_for_each_backend(run: Run, form: str) -> None:
    code, out, _ = run(*CONFIG, "-f", form)
    assert code == 0
    heading = {"markdown": "| Jobs | ssh | token |", "html": '<th scope="col">ssh</th><th scope="col">token</th>'}
    assert heading[form] in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--backend", "shh"], "did you mean 'ssh'?"),
        (["--issuer", "githib"], "did you mean 'github'?"),
        (["--option", "role_arn"], "write NAME=VALUE"),
        (["nowhere.yaml"], "cannot be read"),
    ],
)
def test_wrong_questions(run: Run, arguments: list[str], says: str) -> None:
    code, out, _ = run(*arguments, *CONFIG)
    assert code == 2
    assert says in out


def test_a_file_that_is_no_policy_is_an_error_and_not_a_gap(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(policy_text())
    (tmp_path / "b.yaml").write_text("policy: b\n")
    code, out, _ = run(tmp_path)
    assert code == 2
    assert "the key 'trust' is required" in out
    assert "payments" not in out


def test_a_version_on_trial_is_said_to_be_left_out(run: Run, tmp_path: Path) -> None:
    trial = 'next: {trust: [{issuer: github, job: {project_id: "7"}}], examples: [{name: n, claims: {sub: x}, expect: refuse}]}\n'
    (tmp_path / "p.yaml").write_text(policy_text())
    code, before, said = run(tmp_path)
    assert (code, "trial" in said) == (0, False)
    (tmp_path / "p.yaml").write_text(policy_text() + trial)
    assert run(tmp_path) == (
        0,
        before,
        "not shown: the versions on trial (`next:`) of payments, which mint nothing; `policy describe` shows them\n",
    )
