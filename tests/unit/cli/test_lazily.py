"""Commands are imported when they are asked for, and only then; to people they are as any others."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from broker.cli.main import app


def modules(*arguments: str) -> set[str]:
    """What `jobkey-broker ...` imports of ours."""
    script = (
        "import sys\nfrom broker.cli.main import app\ntry: app(sys.argv[1:])\nexcept SystemExit: pass\n"
        "print(*(name for name in sys.modules if name.startswith('broker')), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    return set(done.stderr.splitlines()[-1].split())


def test_what_serves_carries_no_authors_tools() -> None:
    script = "import sys, broker.cli.main, broker.serve, broker.app; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "broker.app" in loaded
    assert not [name for name in loaded if name.startswith(("broker.authoring", "broker.proof", "broker.demo"))]


def test_one_command_imports_its_own_file() -> None:
    assert "broker.cli.audit" in modules("audit", "--help")
    assert not {"broker.cli.policy", "broker.cli.case"} & modules("audit", "--help")


def test_help_names_every_command_with_its_first_line() -> None:
    said = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).stdout
    for line in ("policy   Write trust policies", "audit    Read the ledger", "schema   Print a JSON Schema"):
        assert line in said
    said = CliRunner().invoke(app, ["policy", "--help"], env={"COLUMNS": "200"}).stdout
    for name in ("new", "check", "test", "record", "diff", "explain", "describe", "matrix", "rollout", "push"):
        assert f" {name} " in said


@pytest.mark.parametrize(("typed", "meant"), [(["polcy"], "policy"), (["policy", "chek"], "check")])
def test_a_typing_error_is_told_the_nearest_name(typed: list[str], meant: str) -> None:
    result = CliRunner().invoke(app, typed)
    assert result.exit_code == 2
    assert f"Did you mean '{meant}'" in result.stderr
