"""`policy check` and `policy explain`, without a running broker."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.cli.policy import app
from broker.issuers import ISSUERS
from tests.unit.policy.world import policy_text

CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.fixture
def run() -> Callable[..., tuple[int, str]]:
    def invoke(*arguments: str | Path, stdin: str | None = None) -> tuple[int, str]:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    return invoke


Run = Callable[..., tuple[int, str]]


def test_check_is_one_line_where_all_is_good(run: Run) -> None:
    code, out = run("check", CONFIGS / "policies", "--guardrails", CONFIGS / "guardrails.yaml")
    assert code == 0, out
    assert out.startswith("good: 4 policies, 5 statements, 5 grants; every example came out as it says\n")
    assert "not checked: backends" in out


def test_check_shows_each_problem_where_it_stands(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(
        policy_text(job="reff: refs/heads/main").replace(
            "owners: [team@acme.example]", "owners: [team@acme.example, a b]"
        )
    )
    code, out = run("check", file)
    assert code == 1
    assert out.splitlines()[:3] == [
        f"{file}:2:29: owners[1]: String should match pattern '^[!-~]{{1,254}}$'",
        "    2 | owners: [team@acme.example, a b]",
        "      |                             ^",
    ]
    assert "1 problem; nothing would be loaded" in out


def test_check_takes_several_paths_and_finds_a_name_used_twice(run: Run, tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(policy_text())
    code, out = run("check", tmp_path / "a.yaml", tmp_path / "b.yaml", tmp_path / "none.yaml")
    assert code == 1
    assert "the name 'payments' is taken by a.yaml" in out
    assert "none.yaml:1:1: cannot be read: No such file or directory" in out


def test_nothing_in_a_file_reaches_the_terminal_as_a_command(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text('"pol\\e[31micy": x\n"[red]": "\x9b2J"\n')
    code, out = run("check", file)
    assert code == 1
    assert "\x1b[31m" not in out
    assert "\x9b" not in out
    assert "[red]" in out


def claims_file(tmp_path: Path, **changed: object) -> Path:
    path = tmp_path / "claims.json"
    path.write_text(json.dumps({**ISSUERS["github"].examples["github-environment"], **changed}))
    return path


def test_explain_an_allowed_job(run: Run, tmp_path: Path) -> None:
    code, out = run(
        "explain", "--claims", claims_file(tmp_path), "--grant", "payments/shell", "--policies", CONFIGS / "policies"
    )
    assert code == 0, out
    assert "ok   job.ref: expected refs/heads/main, got refs/heads/main" in out
    assert "allowed: payments/shell, by trust[0]; ssh, 600s at most" in out
    assert "miss" not in out


def test_explain_a_refused_job_marks_the_first_miss(run: Run, tmp_path: Path) -> None:
    claims = claims_file(tmp_path, ref="refs/heads/x", environment="")
    code, out = run("explain", "--claims", claims, "--grant", "payments/shell", "--policies", CONFIGS / "policies")
    assert code == 1
    assert "miss job.ref: expected refs/heads/main, got refs/heads/x  <- first miss" in out
    assert "miss job.environment: expected production, got absent\n" in out
    assert out.count("first miss") == 1
    assert "refused: payments/shell (no-statement)" in out


def test_explain_reads_standard_input_and_like(run: Run) -> None:
    stdin = json.dumps({"$like": "kubernetes-pod"})
    code, out = run(
        "explain", "--claims", "-", "--grant", "release-runners/build-host", "-p", CONFIGS / "policies", stdin=stdin
    )
    assert code == 0, out


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "says"),
    [
        (["--grant", "no/such", "--issuer", "github"], "{}", 1, "no policy has the grant 'no/such'"),
        (["--grant", "no/such"], "{}", 2, "say --issuer, one of"),
        (["--grant", "payments/shell", "--issuer", "githib"], "{}", 2, "no issuer 'githib' is configured"),
        (["--grant", "payments/shell"], "[]", 2, "a JSON object is expected"),
        (["--grant", "payments/shell"], "{", 2, "-:1:2: not JSON"),
        (["--grant", "payments/shell"], '{"$like": "nope"}', 2, "has no example 'nope'"),
        (["--grant", "payments/shell", "--params", "5"], "{}", 2, "--params:1:1: a JSON object is expected"),
    ],
)
def test_a_wrong_question(run: Run, arguments: list[str], stdin: str, code: int, says: str) -> None:
    found, out = run("explain", "--claims", "-", "-p", CONFIGS / "policies", *arguments, stdin=stdin)
    assert found == code, out
    assert says in out


def test_explain_says_where_policies_are_wrong(run: Run, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("policy: x\n")
    code, out = run("explain", "--claims", "-", "--grant", "x/y", "-p", tmp_path, stdin="{}")
    assert code == 2
    assert "the key 'trust' is required" in out


BROKER = """\
url: https://broker.acme.example
policies: ./policies
issuers:
  github: {kind: github}
backends:
  safe: {kind: identity-token}
"""


def test_with_a_brokers_own_file_everything_is_checked(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "broker.yaml"
    config.write_text(BROKER)
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "p.yaml").write_text(policy_text(grant="with: {audience: a, nope: 1}"))
    code, out = run("check", folder, "--config", config)
    assert code == 1
    assert "grants.deploy.with.nope: unknown key" in out
    (folder / "p.yaml").write_text(policy_text(grant="with: {audience: a}"))
    code, out = run("check", folder, "--config", config)
    assert code == 0, out
    assert "not checked" not in out
    code, out = run(
        "explain", "--claims", "-", "--grant", "payments/deploy", "--config", config, stdin='{"$like": "github-branch"}'
    )
    assert code == 0, out
