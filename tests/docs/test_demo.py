"""The demo and `dev`: what they show is true, and the practice CI does with masks what a runner does."""

import asyncio
import base64
import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from broker.demo.play import write_environment
from broker.demo.practice_ci import EVENTS, PracticeCi
from broker.demo.story import BROKER, CLIENT, Story
from tests.system import require


def show(story: Story, program: tuple[str, ...], *arguments: str, expected: int | None = 0) -> str:
    return asyncio.run(story._show(list(arguments), program=program, expected=expected))


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def printing(text: str) -> tuple[str, ...]:
    return (sys.executable, "-c", f"print({text!r})")


def test_mask_commands_are_taken_out_and_counted(story: Story, capsys: pytest.CaptureFixture[str]) -> None:
    assert show(story, printing("::add-mask::one\n::add-mask::two%0Alines\nhello"), "exec") == "hello"
    shown = capsys.readouterr().out
    assert "told to mask 2 values" in shown
    assert "one" not in shown
    assert not story._failed


def test_a_masked_value_in_the_output_fails_the_demo(story: Story) -> None:
    show(story, printing("::add-mask::s3cr3t%25x\nit is s3cr3t%x"), "exec")
    assert "printed a value after it was masked" in story._failed[0]
    assert "s3cr3t" not in story._failed[0]


def test_an_unexpected_exit_code_fails_the_demo(story: Story) -> None:
    show(story, (sys.executable, "-c", "raise SystemExit(3)"), "exec")
    show(story, (sys.executable, "-c", "pass"), "exec", expected=None)
    assert [problem.rpartition(" ")[2] for problem in story._failed] == ["3", "0"]
    assert story._verdict(1.0) == 1


def test_the_demo_runs_the_real_programs() -> None:
    assert CLIENT[1:] == ("-m", "jobkey")
    assert BROKER[1:] == ("-m", "broker")


def test_an_environment_file_is_private_and_read_by_a_shell(tmp_path: Path) -> None:
    (bash,) = require("bash")
    path = tmp_path / "a job.env"
    write_environment(path, {"A": "it's $HOME", "B": "two words"})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    script = f". '{path}'; printf '%s|%s' \"$A\" \"$B\""
    assert (
        subprocess.run([bash, "-c", script], capture_output=True, text=True, check=True).stdout
        == "it's $HOME|two words"
    )
    assert list(tmp_path.iterdir()) == [path]


def claims(token: str) -> dict[str, object]:
    part = token.split(".")[1]
    found: dict[str, object] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def test_jobs_of_one_kind_are_one_run_and_the_kinds_differ() -> None:
    ci = PracticeCi()
    runs = {event: ci.environment(event)["GITHUB_RUN_ID"] for event in EVENTS}
    assert len(set(runs.values())) == len(EVENTS)
    assert claims(ci.sign({"run_id": runs["push"]}, audience="x"))["run_id"] == runs["push"]
