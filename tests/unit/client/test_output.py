"""`jobkey get`: shapes that another parser reads back to the same values, and places where a secret may be put."""

import json
import os
import shlex
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jobkey.emit import azure, formats, github
from jobkey.errors import UsageError

from tests.fakes.broker import FakeBroker, TokenService, make_token
from tests.unit.client.conftest import Run

TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=60)
NASTY = ["", "plain", "it's", '"$(id)`id`', "a\nexport EVIL=1", "\\", "x' ; id ; '", "#c", " lead", "%0A::x::", "é"]


@pytest.mark.parametrize("value", NASTY)
def test_shell_reads_back_what_was_written(value: str) -> None:
    script = formats.as_shell({"VALUE": value}) + 'printf %s "$VALUE"; test -z "$EVIL"'
    done = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]}
    )
    assert done.stdout == value


@given(value=TEXT)
@settings(max_examples=150, deadline=None)
def test_shell_words(value: str) -> None:
    line = formats.as_shell({"VALUE": value}).removesuffix("\n")
    assert shlex.split(line, comments=True) == ["export", f"VALUE={value}"]


@given(value=TEXT)
@settings(max_examples=150, deadline=None)
def test_dotenv_is_one_unmistakable_line_or_refused(value: str) -> None:
    try:
        line = formats.as_dotenv({"VALUE": value})
    except UsageError:
        assert "'" in value or "\\" in value or not value.isprintable()
        return
    assert line.count("\n") == 1
    assert line.endswith("\n")
    assert "\r" not in line
    assert shlex.split(line) == [f"VALUE={value}"]


def read_github_env(text: str) -> dict[str, str]:
    """As the runner parses it: NAME<<END, lines, END."""
    found, lines = {}, iter(text.split("\n"))
    for line in lines:
        if not line:
            continue
        name, _, end = line.partition("<<")
        body = []
        for inner in lines:
            if inner == end:
                break
            body.append(inner)
        else:
            raise AssertionError("no end")
        found[name] = "\n".join(body)
    return found


@given(values=st.dictionaries(st.sampled_from(["A", "B", "C"]), TEXT, max_size=3))
@settings(max_examples=150, deadline=None)
def test_github_env_is_read_back_and_cannot_be_left(values: dict[str, str]) -> None:
    try:
        text = formats.as_github(values)
    except UsageError:
        assert any("\r" in value for value in values.values())
        return
    assert read_github_env(text) == values


def test_github_env_ends_are_never_the_same() -> None:
    assert formats.as_github({"A": "x"}) != formats.as_github({"A": "x"})


def test_mask_commands_are_one_line() -> None:
    assert github.escape("a%0A\r\nb") == "a%250A%0D%0Ab"
    assert azure.forms("100%") == ["100%", "100%AZP25"]


def test_json(broker: FakeBroker, jobkey: Run) -> None:
    document = json.loads(jobkey("get", "payments/deploy").stdout)
    assert document["type"] == "aws"
    assert document["values"]["session_token"] in broker.secrets
    assert document["lease"] in broker.active()


def test_later_steps_and_revoke(broker: FakeBroker, env: dict[str, str], jobkey: Run) -> None:
    assert jobkey("get", "payments/token").returncode == 0
    assert jobkey("get", "payments/deploy").returncode == 0
    assert len(broker.sessions) == 1
    assert len(broker.active()) == 2
    assert jobkey("revoke").stderr == "jobkey: 2 credentials revoked\n"
    assert not broker.active()


def test_file_is_private_and_the_value_alone(broker: FakeBroker, jobkey: Run, tmp_path: Path) -> None:
    path = tmp_path / "token"
    done = jobkey("get", "payments/token", "--format", "file", "--output", str(path))
    assert (done.returncode, done.stdout) == (0, "")
    assert path.read_text() in broker.secrets
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_file_of_several_values_asks_which(broker: FakeBroker, jobkey: Run, tmp_path: Path) -> None:
    path = str(tmp_path / "key")
    done = jobkey("get", "payments/deploy", "--format", "file", "--output", path)
    assert done.returncode == 64
    assert "secret_access_key" in done.stderr
    assert not broker.active()  # what nobody has does not live on
    assert (
        jobkey("get", "payments/deploy", "--format", "file", "--field", "session_token", "--output", path).returncode
        == 0
    )
    assert Path(path).read_text() in broker.secrets


def test_github_env(
    broker: FakeBroker, service: TokenService, env: dict[str, str], jobkey: Run, tmp_path: Path
) -> None:
    file = tmp_path / "github_env"
    file.write_text("EARLIER=1\n")
    del env["JOBKEY_SUBJECT_TOKEN"]
    env.update(service.github_env(), GITHUB_ENV=str(file), RUNNER_TEMP=env["TMPDIR"])
    done = jobkey("get", "payments/deploy", "--format", "github-env")
    assert (done.returncode, done.stdout) == (0, "")
    text = file.read_text()
    assert text.startswith("EARLIER=1\n")
    written = read_github_env(text.removeprefix("EARLIER=1\n"))
    assert written["AWS_SESSION_TOKEN"] in broker.secrets
    masks = {line.removeprefix("::add-mask::") for line in done.stderr.splitlines() if line.startswith("::add-mask::")}
    assert {written["AWS_SECRET_ACCESS_KEY"], written["AWS_SESSION_TOKEN"]} <= masks
    assert set(service.given) <= masks  # the token, which a bare HTTP client has to mask itself
    assert set(broker.sessions) <= masks


def test_a_mask_is_never_written_to_a_file(
    broker: FakeBroker, service: TokenService, env: dict[str, str], jobkey: Run, tmp_path: Path
) -> None:
    """With stderr in a file the command itself would be the leak; and without a mask nothing is printed."""
    del env["JOBKEY_SUBJECT_TOKEN"]
    env.update(service.github_env(), RUNNER_TEMP=env["TMPDIR"])
    log = tmp_path / "err.log"
    with log.open("w") as file:
        done = jobkey("get", "payments/deploy", capture_output=False, stdout=subprocess.PIPE, stderr=file)
    assert done.returncode == 64
    assert done.stdout == ""
    assert "took no mask" in log.read_text()
    assert not any(secret in log.read_text() for secret in {*broker.secrets, *service.given})
    assert not broker.active()


def test_where_no_mask_exists_nothing_is_printed(
    broker: FakeBroker, env: dict[str, str], jobkey: Run, tmp_path: Path
) -> None:
    env.update(GITLAB_CI="true", CI_JOB_ID="5", JOBKEY_ID_TOKEN=env.pop("JOBKEY_SUBJECT_TOKEN"))
    done = jobkey("get", "payments/token")
    assert (done.returncode, done.stdout) == (64, "")
    assert "gitlab cannot mask" in done.stderr
    assert "--allow-print" in done.stderr
    assert not broker.requests  # refused before anything was issued
    assert jobkey("get", "payments/token", "--allow-print").stdout
    with (tmp_path / "out").open("w") as file:
        assert (
            jobkey("get", "payments/token", capture_output=False, stdout=file, stderr=subprocess.PIPE).returncode == 0
        )
    assert json.loads((tmp_path / "out").read_text())["type"] == "jwt"


def test_never_to_a_terminal(env: dict[str, str], jobkey: Run, broker: FakeBroker) -> None:
    controller, terminal = os.openpty()
    done = jobkey("get", "payments/token", capture_output=False, stdout=terminal, stderr=subprocess.PIPE)
    os.close(terminal)
    os.close(controller)
    assert done.returncode == 64
    assert "terminal" in done.stderr
    assert not broker.requests


def test_a_file_inside_the_checkout_is_remarked_on(
    broker: FakeBroker, service: TokenService, env: dict[str, str], jobkey: Run, tmp_path: Path
) -> None:
    del env["JOBKEY_SUBJECT_TOKEN"]
    env.update(service.github_env(), RUNNER_TEMP=env["TMPDIR"], GITHUB_WORKSPACE=str(tmp_path))
    done = jobkey("get", "payments/token", "--format", "file", "--output", str(tmp_path / "token"))
    assert done.returncode == 0
    assert "inside the checkout" in done.stderr


@pytest.mark.parametrize(
    "argv",
    [
        [], ["dance"], ["exec"], ["exec", "payments/token"], ["exec", "--", "true"], ["exec", "payments", "--", "true"],
        ["exec", "a/b", "a/b", "--", "true"], ["exec", "a/b", "--ttl"], ["exec", "a/b", "--nope", "--", "true"],
        ["exec", "a/b", "--prefix=1", "--", "true"], ["get"], ["get", "a/b", "--format", "xml"], ["whoami", "a/b"],
        ["get", "a/b", "--format", "file"], ["-x"], ["exec", "a/b", "-t", "--", "true"],
    ],
)  # fmt: skip
def test_usage_errors(argv: list[str], jobkey: Run, broker: FakeBroker) -> None:
    done = jobkey(*argv)
    assert done.returncode == 64, done.stderr
    assert done.stderr.startswith("jobkey: usage: ")
    assert not broker.requests


@pytest.mark.parametrize(
    ("env_more", "words"),
    [
        ({"JOBKEY_URL": ""}, "JOBKEY_URL"),
        ({"JOBKEY_URL": "http://x.example"}, "TLS"),
        ({"JOBKEY_PATIENCE": "-1"}, "JOBKEY_PATIENCE"),
    ],
)
def test_settings_that_make_no_sense(env_more: dict[str, str], words: str, env: dict[str, str], jobkey: Run) -> None:
    done = jobkey("exec", "payments/token", "--", "true", env={**env, **env_more})
    assert done.returncode == 78
    assert words in done.stderr


def test_help_and_version(jobkey: Run) -> None:
    assert "jobkey exec GRANT" in jobkey("--help").stdout
    assert jobkey("exec", "--help").returncode == 0
    assert jobkey("--version").stdout.startswith("jobkey 0.")
    assert jobkey("exec", "payments/token", "--", "printf", "%s", "--help").stdout == "--help"  # the child's own option


def test_a_refusal_fits_one_screen(broker: FakeBroker, env: dict[str, str], jobkey: Run) -> None:
    env["JOBKEY_SUBJECT_TOKEN"] = make_token(broker.url, event_name="pull_request")
    done = jobkey("exec", "payments/token", "--", "true")
    assert done.returncode == 77
    assert done.stderr.splitlines() == [
        "jobkey: refused: No policy grants this (403)",
        "  grants  payments/token",
        "  detail  No policy grants this to this job.",
        "  case    case_0123",
        "  next    Give the case number to the owners of the policy; `jobkey whoami` shows how the broker names this job.",
    ]


def test_whoami_when_the_broker_does_not_know_us(broker: FakeBroker, env: dict[str, str], jobkey: Run) -> None:
    env["JOBKEY_SUBJECT_TOKEN"] = make_token("https://somebody-else.example")
    done = jobkey("whoami")
    assert done.returncode == 77
    assert "https://somebody-else.example" in done.stdout  # what we presented tells what is wrong
    assert env["JOBKEY_SUBJECT_TOKEN"] not in done.stdout + done.stderr


def test_an_ssh_grant_without_a_key_says_what_to_do(broker: FakeBroker, jobkey: Run, tmp_path: Path) -> None:
    done = jobkey("get", "payments/ssh")
    assert done.returncode == 64
    assert "--ssh-key" in done.stderr
    key = tmp_path / "mine"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    document = json.loads(jobkey("get", "payments/ssh", "--ssh-key", str(key)).stdout)
    assert document["values"]["certificate"].startswith("ssh-ed25519-cert-v01@openssh.com ")
