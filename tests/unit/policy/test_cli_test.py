"""`policy test` from a terminal."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from broker.cli.policy import app
from broker.documents import parse
from tests.unit.policy.world import policy_text

CONFIGS = Path(__file__).parents[3] / "configs"
MUTATE = Path(__file__).parents[1] / "authoring" / "mutate"
Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    def invoke(*arguments: str | Path) -> Result:
        result = CliRunner().invoke(app, ["test", *map(str, arguments)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


def test_the_shipped_policies_are_proved_to_the_last_condition(run: Run) -> None:
    said = run(CONFIGS / "policies", "--config", CONFIGS / "broker.yaml", "--mutate", "--min", "100")
    assert said.exit_code == 0, said.output
    assert "examples in 4 policies: every one came out as it says" in said.stdout
    assert said.stdout.splitlines()[-1].endswith("loosenings noticed, 100 %")


def test_examples_alone_and_a_line_for_each(run: Run) -> None:
    said = run(MUTATE / "complete-terraform.yaml", "-v")
    assert said.exit_code == 0
    lines = said.stdout.splitlines()
    assert lines[0] == f"network ({MUTATE / 'complete-terraform.yaml'})"
    assert lines[1] == "  ok    an apply: routes"
    assert lines[2] == "  ok    another organisation: refused"
    assert lines[-1] == "7 examples in 1 policy: every one came out as it says"


def test_an_example_that_comes_out_otherwise_is_a_no_and_proves_nothing(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(policy_text(examples="- {name: mine, claims: {$like: github-branch}, expect: refuse}"))
    said = run(file, "--mutate", "--min", "0")
    assert said.exit_code == 1
    assert (
        f"{file}:19:50: examples[1].expect: 'mine': expected a refusal of deploy, but trust[0] allows it" in said.stdout
    )
    assert "2 examples in 1 policy: 1 came out otherwise" in said.stdout
    assert "loosenings" not in said.stdout


def test_holes_are_shown_where_they_are_with_what_to_add(run: Run) -> None:
    said = run(MUTATE / "hole-02-prefix.yaml", "--mutate")
    assert said.exit_code == 0
    file = MUTATE / "hole-02-prefix.yaml"
    assert f"{file}:9:7: trust[0].job.ref: no example would notice: refs/heads/main and what begins so\n" in said.stdout
    assert "      - name: ref refs/heads/main-evil gets nothing\n" in said.stdout
    assert "payments    21 of 22 loosenings noticed, 95.4 %" in said.stdout
    noticed = run(file, "--mutate", "-v").stdout
    assert "  ok    trust[0].job.ref: any text: noticed by 'another branch'" in noticed


@pytest.mark.parametrize(("least", "code"), [("95.4", 0), ("95.5", 1), ("100", 1)])
def test_a_least_share_is_enforced(run: Run, least: str, code: int) -> None:
    said = run(MUTATE / "hole-02-prefix.yaml", "--mutate", "--min", least)
    assert said.exit_code == code
    assert (f"95.4 % is less than --min {least}" in said.stderr) is bool(code)


def test_json_has_every_loosening_and_an_example_ready_to_paste(run: Run, tmp_path: Path) -> None:
    said = run(MUTATE / "hole-02-prefix.yaml", MUTATE / "complete-gitlab.yaml", "--mutate", "--format", "json")
    found = json.loads(said.stdout)
    assert found["coverage"] == {"noticed": 46, "total": 47, "percent": 97.8}
    assert [one["policy"] for one in found["policies"]] == ["payments", "storefront"]
    (hole,) = [one for one in found["policies"][0]["coverage"]["mutants"] if one["fate"] == "hole"]
    assert (hole["where"], hole["line"], hole["column"]) == ("trust[0].job.ref", 9, 7)
    assert hole["example"]["expect"] == "refuse"
    file = tmp_path / "p.yaml"
    file.write_text((MUTATE / "hole-02-prefix.yaml").read_text() + hole["yaml"])
    assert run(file, "--mutate", "--min", "100").exit_code == 0


def test_suggestions_are_added_to_the_file_and_nothing_else_is_touched(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    before = (MUTATE / "hole-08-other-statement.yaml").read_text()
    file.write_text(before)
    file.chmod(0o640)
    said = run(file, "--mutate", "--add")
    assert said.exit_code == 0, said.output
    assert f"{file}: added 2 examples" in said.stderr
    assert file.read_text().startswith(before)
    assert file.stat().st_mode & 0o777 == 0o640
    assert run(file, "--mutate", "--min", "100").exit_code == 0
    assert list(tmp_path.iterdir()) == [file]


def test_a_version_on_trial_is_proved_by_its_own_examples(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    whole = (MUTATE / "complete-terraform.yaml").read_text()
    head, examples = whole.split("examples:\n")
    following = """\
next:
  trust:
    - {issuer: terraform-cloud, job: {owner_id: org-Aa11Bb22Cc33Dd44}, claims: {terraform_workspace_name: network-eu-prod}}
  examples:
    - {name: next apply, claims: {$like: terraform-cloud-apply, terraform_workspace_name: network-eu-prod}, expect: {allow: [routes]}}
    - {name: next plan, claims: {$like: terraform-cloud-plan, terraform_workspace_name: network-eu-prod}, expect: refuse}
"""
    file.write_text(f"{head}{following}examples:\n{examples}")
    said = run(file, "--mutate")
    assert said.exit_code == 0, said.output
    assert re.search(r"^network +9 of 9 loosenings noticed, 100 %$", said.stdout, re.MULTILINE)
    assert "network (next)" in said.stdout
    assert "next.trust[0].job.owner_id" in said.stdout


def test_suggestions_for_a_version_on_trial_go_into_its_own_examples(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    whole = (MUTATE / "hole-08-other-statement.yaml").read_text()
    version = whole[whole.index("trust:\n") :]
    parts = parse(version.encode(), "p.yaml").value
    own = version[: version.index("grants:\n")] + version[version.index("examples:\n") :]
    before = whole + "next:  # the same, on trial\n" + "".join(f"  {line}\n" for line in own.splitlines())
    file.write_text(before)
    said = run(file, "--mutate", "--add")
    assert said.exit_code == 0, said.output
    assert f"{file}: added 4 examples" in said.stderr
    after = parse(file.read_bytes(), "p.yaml").value
    assert len(after["examples"]) == len(after["next"]["examples"]) == len(parts["examples"]) + 2
    kept = iter(file.read_text().splitlines())
    assert all(line in kept for line in before.splitlines()), "every line stays, in its order"
    assert run(file, "--mutate", "--min", "100").exit_code == 0


def test_what_does_not_load_is_told_and_the_rest_is_tried(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("policy: [")
    (tmp_path / "b.yaml").write_text((MUTATE / "complete-terraform.yaml").read_text())
    said = run(tmp_path)
    assert said.exit_code == 1
    assert "a.yaml:1:10: not valid YAML" in said.stderr or "a.yaml:" in said.stderr
    assert "7 examples in 1 policy" in said.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--min", "5"), "--min and --add go with --mutate"), (("--add",), "--min and --add go with --mutate")],
)
def test_options_that_mean_nothing_alone(run: Run, arguments: tuple[str, ...], said: str) -> None:
    result = run(MUTATE, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_folder_without_policies_is_a_wrong_question(run: Run, tmp_path: Path) -> None:
    assert run(tmp_path).exit_code == 2
    assert "no policies there" in run(tmp_path).stderr


def test_nothing_in_a_file_reaches_the_terminal_as_a_command(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(policy_text(job='ref: "refs/heads/\\x9b2J\\u202e"', examples='- {name: x, claims: {$like: github-branch, ref: "refs/heads/\\x9b2J\\u202e"}, expect: {allow: [deploy]}}'))  # fmt: skip
    for arguments in (("--mutate", "-v"), ("--mutate", "--format", "json")):
        said = run(file, *arguments)
        assert said.exit_code == 0, said.output
        assert all(character.isprintable() or character == "\n" for character in said.output)
