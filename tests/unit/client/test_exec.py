"""`jobkey exec` with real processes: environment, exit codes, signals, redaction, revocation."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.broker import FakeBroker, Scripted, TokenService, make_token
from tests.unit.client.conftest import Run
from tests.unit.client.test_promises import python39

SHOW = (
    "import os, sys; sys.stdout.write(os.environ.get('JOBKEY_TOKEN', 'none')[:0] + str('JOBKEY_TOKEN' in os.environ))"
)


def test_the_child_alone_has_the_credential_and_it_ends_with_it(
    broker: FakeBroker, jobkey: Run, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    done = jobkey("exec", "payments/token", "--", "sh", "-c", f'printf %s "$JOBKEY_TOKEN" > {seen}')
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert seen.read_text() in broker.secrets
    assert broker.leases
    assert not broker.active()


@pytest.mark.parametrize("code", [0, 1, 3, 64, 77, 255])
def test_exit_code(jobkey: Run, code: int) -> None:
    assert jobkey("exec", "payments/token", "--", "sh", "-c", f"exit {code}").returncode == code


@pytest.mark.parametrize(
    ("argv", "code"), [(["/nowhere/at-all"], 127), (["no-such-program-anywhere"], 127), (["/etc/passwd"], 126)]
)
def test_a_command_that_cannot_start(broker: FakeBroker, jobkey: Run, argv: list[str], code: int) -> None:
    done = jobkey("exec", "payments/token", "--", *argv)
    assert done.returncode == code
    assert "cannot be started" in done.stderr
    assert not broker.active()


def test_a_child_that_dies_by_a_signal(broker: FakeBroker, jobkey: Run) -> None:
    assert jobkey("exec", "payments/token", "--", "sh", "-c", "kill -KILL $$").returncode == 128 + 9
    assert not broker.active()


CHILD = """
import os, signal, time
def handle(number, frame):
    os.write(1, b"child got %d\\n" % number)  # no buffer, no lock: a handler may run within any call
    os._exit(40 + number)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
    signal.signal(number, handle)
os.write(1, b"ready\\n")
time.sleep(30)
"""


# A shell starts what it puts into the background with SIGINT ignored, and children inherit that: a test run by such a shell
# would test the shell.
FRESH = """
import os, signal, sys
for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, "-m", "jobkey", *sys.argv[1:]])
"""


def start(env: dict[str, str], *argv: str, **more: Any) -> "subprocess.Popen[str]":
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "env": env}
    return subprocess.Popen([sys.executable, "-c", FRESH, *argv], **(options | more))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_forwarded_and_the_credential_still_ends(
    broker: FakeBroker, env: dict[str, str], number: int
) -> None:
    with start(env, "exec", "payments/token", "--", sys.executable, "-c", CHILD, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.read() == f"child got {int(number)}\n"
        assert process.wait(20) == 40 + number
    assert not broker.active()


def test_a_signal_before_the_child_starts_nothing_and_leaves_nothing(
    broker: FakeBroker, env: dict[str, str], tmp_path: Path
) -> None:
    """The request that is under way comes to its end, so that its lease is known and can be revoked."""
    slow = Scripted(delay=1.0, apply=False, status=503, body=b"{}")
    broker.script = [slow]
    with start(env, "exec", "payments/token", "--", "touch", str(tmp_path / "ran")) as process:
        while not broker.requests:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        assert "before the command began" in process.stdout.read()
        assert process.wait(20) == 128 + 15
    assert not (tmp_path / "ran").exists()
    assert not broker.active()


def test_default_signals_reach_the_child_reset(jobkey: Run) -> None:
    """Python ignores SIGPIPE; a child that inherited that would write into the void for ever."""
    code = "import signal; print(signal.getsignal(signal.SIGPIPE) is signal.SIG_DFL)"
    done = jobkey(
        "exec",
        "payments/token",
        "--",
        "sh",
        "-c",
        f"env -u PYTHONPATH cat /proc/self/status | grep SigIgn; {sys.executable} -c '{code}' >/dev/null",
    )
    ignored = int(done.stdout.split()[1], 16)
    assert not ignored & 1 << (signal.SIGPIPE - 1)


def test_output_is_redacted_in_its_order(broker: FakeBroker, jobkey: Run) -> None:
    script = 'echo out; echo "err $JOBKEY_TOKEN" >&2; echo "$JOBKEY_TOKEN"; printf %s "$JOBKEY_TOKEN" | base64 -w0 >&2; echo done'
    done = jobkey(
        "exec",
        "payments/token",
        "--",
        "sh",
        "-c",
        script,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        capture_output=False,
    )
    assert done.stdout == "out\nerr ***\n***\n***done\n"
    assert not any(secret in done.stdout for secret in broker.secrets)


def test_stdout_and_stderr_stay_apart(jobkey: Run) -> None:
    done = jobkey("exec", "payments/token", "--", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_a_terminal_is_inherited(env: dict[str, str], broker: FakeBroker) -> None:
    controller, terminal = os.openpty()
    with start(
        env, "exec", "payments/token", "--", "sh", "-c", "test -t 1 && test -t 2", stdout=terminal, stderr=terminal
    ) as process:
        assert process.wait(20) == 0
    os.close(terminal)
    os.close(controller)
    assert not broker.active()


def test_a_short_line_is_not_delayed(env: dict[str, str]) -> None:
    with start(
        env, "exec", "payments/token", "--", "sh", "-c", "echo now; read line; echo $line", stdin=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "now\n"  # while the child still waits for us
        process.stdin.write("go on\n")
        process.stdin.flush()
        assert process.stdout.read() == "go on\n"


def test_megabytes_pass_whole(jobkey: Run) -> None:
    done = jobkey(
        "exec",
        "payments/token",
        "--",
        sys.executable,
        "-c",
        "import sys; sys.stdout.write('0123456789abcde\\n' * (1 << 19))",
    )
    assert len(done.stdout) == 1 << 23
    assert set(done.stdout.splitlines()) == {"0123456789abcde"}


def test_a_reader_that_leaves_ends_the_child(env: dict[str, str], broker: FakeBroker) -> None:
    """`jobkey exec ... -- yes | head`: the child learns of it as it would without us."""
    with start(env, "exec", "payments/token", "--", "yes", stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "y\n"
        process.stdout.close()
        assert process.wait(20) == 128 + signal.SIGPIPE
    assert not broker.active()


def test_a_grandchild_that_keeps_the_pipe_does_not_keep_us(jobkey: Run, broker: FakeBroker) -> None:
    begun = time.monotonic()
    done = jobkey("exec", "payments/token", "--", "sh", "-c", "sleep 30 & echo started")
    assert done.stdout == "started\n"
    assert time.monotonic() - begun < 20
    assert not broker.active()


def test_renews_what_outlives_its_lease(broker: FakeBroker, jobkey: Run) -> None:
    def short(params: dict[str, Any], ttl: int) -> dict[str, Any]:
        import datetime as dt

        end = (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=6)).isoformat(timespec="seconds").replace("+00:00", "Z")
        return {
            "type": "vault",
            "values": {"token": "hvs.0123456789"},
            "secrets": ["token"],
            "env": {},
            "renewable": True,
            "expires_at": end,
        }

    broker.grants["payments/vault"] = short
    done = jobkey("exec", "payments/vault", "--", "sleep", "7")
    assert (done.returncode, done.stderr) == (0, "")
    assert [one["renewals"] for one in broker.leases.values()] == [1]


def test_several_grants_at_once_and_names_that_collide(broker: FakeBroker, env: dict[str, str], jobkey: Run) -> None:
    assert (
        jobkey(
            "exec", "payments/token", "payments/deploy", "--", "sh", "-c", 'test -n "$AWS_SESSION_TOKEN$JOBKEY_TOKEN"'
        ).returncode
        == 0
    )
    env["JOBKEY_SUBJECT_TOKEN"] = make_token(broker.url)
    done = jobkey("exec", "payments/token", "payments/other-token", "--", "true")
    assert done.returncode == 64
    assert "payments/token and payments/other-token both set JOBKEY_TOKEN" in done.stderr
    assert "--prefix" in done.stderr
    assert not broker.active()
    env["JOBKEY_SUBJECT_TOKEN"] = make_token(broker.url)
    script = 'test -n "$PAYMENTS_TOKEN_JOBKEY_TOKEN" && test -n "$PAYMENTS_OTHER_TOKEN_JOBKEY_TOKEN"'
    assert (
        jobkey("exec", "payments/token", "payments/other-token", "--prefix", "--", "sh", "-c", script).returncode == 0
    )


def test_nothing_secret_on_any_command_line(
    broker: FakeBroker, jobkey: Run, service: TokenService, env: dict[str, str]
) -> None:
    env.pop("JOBKEY_SUBJECT_TOKEN")
    env.update(service.github_env())
    script = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '"
    done = jobkey("exec", "payments/deploy", "payments/ssh", "--", "sh", "-c", script)
    assert done.returncode == 0
    assert "jobkey" in done.stdout
    for secret in broker.secrets | set(service.given):
        assert secret not in done.stdout
    assert "***" not in done.stdout


def test_verbose_shows_nothing_secret(broker: FakeBroker, jobkey: Run, env: dict[str, str]) -> None:
    broker.script = [Scripted(status=503), Scripted(status=429, headers={"Retry-After": "1"})]
    done = jobkey("exec", "payments/deploy", "--verbose", "--", "true")
    assert done.returncode == 0
    assert "HTTP 503, next try in" in done.stderr
    assert "lse_" in done.stderr
    for secret in {*broker.secrets, env["JOBKEY_SUBJECT_TOKEN"]}:
        assert secret not in done.stderr


def test_ssh_keys_are_private_and_removed(broker: FakeBroker, jobkey: Run) -> None:
    script = 'stat -c %a "$JOBKEY_SSH_KEY" "$(dirname "$JOBKEY_SSH_KEY")"; echo "$JOBKEY_SSH_KEY"; ssh-keygen -Lf "$JOBKEY_SSH_CERTIFICATE"; cat "$JOBKEY_SSH_KEY"; echo "$GIT_SSH_COMMAND"'
    done = jobkey("exec", "payments/ssh", "--", "sh", "-c", script)
    lines = done.stdout.splitlines()
    assert lines[:2] == ["600", "700"]
    assert not Path(lines[2]).parent.exists()
    assert "ssh-ed25519-cert-v01@openssh.com user certificate" in done.stdout
    assert "deploy" in done.stdout
    assert "PRIVATE KEY" not in done.stdout  # printed by the child, redacted by us
    assert lines[-1].startswith("ssh -i '")
    assert "CertificateFile=" in lines[-1]
    assert len(broker.bodies) == 2  # the first is told what is missing, and spends nothing
    assert broker.bodies[0]["nonce"] == broker.bodies[1]["nonce"]
    assert broker.bodies[1]["grants"][0]["params"]["public_key"].startswith("ssh-ed25519 ")


def test_ssh_with_a_key_of_ones_own(jobkey: Run, tmp_path: Path) -> None:
    key = tmp_path / "mine"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    done = jobkey(
        "exec",
        "payments/ssh",
        "--ssh-key",
        str(key),
        "--",
        "sh",
        "-c",
        'echo "$JOBKEY_SSH_KEY $JOBKEY_SSH_CERTIFICATE"',
    )
    used, certificate = done.stdout.split()
    assert used == str(key)
    assert not certificate.startswith(str(tmp_path / "mine"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "mine.pub", "temp"]


def test_on_python_39(broker: FakeBroker, jobkey: Run) -> None:
    python = python39()
    if python is None:
        pytest.skip("needs a Python 3.9 (on PATH or in ~/.pyenv/versions)")
    done = jobkey(
        "exec", "payments/token", "payments/ssh", "--", "sh", "-c", 'echo "$JOBKEY_TOKEN"; exit 5', python=python
    )
    assert (done.returncode, done.stdout, done.stderr) == (5, "***\n", "")
    assert not broker.active()
