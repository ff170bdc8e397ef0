"""One token, many steps; and a machine on which somebody else was first."""

import json
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from jobkey.errors import LocalError
from jobkey.private import PrivateDir, replace_file
from jobkey.session import instant

from tests.fakes.broker import FakeBroker, Scripted, TokenService, make_token
from tests.unit.client.conftest import Run


@pytest.fixture
def gitlab(env: dict[str, str], broker: FakeBroker, tmp_path: Path) -> dict[str, str]:
    checkout = tmp_path / "builds" / "payments"
    checkout.mkdir(parents=True)
    (tmp_path / "builds" / "payments.tmp").mkdir()
    env["JOBKEY_ID_TOKEN"] = env.pop("JOBKEY_SUBJECT_TOKEN")
    env.update(GITLAB_CI="true", CI_JOB_ID="77", CI_SERVER_URL="https://gitlab.example", CI_PROJECT_DIR=str(checkout))
    return env


def private(tmp_path: Path) -> Path:
    return tmp_path / "builds" / "payments.tmp" / f"jobkey-{os.geteuid()}"


def test_later_steps_use_the_session_of_the_first(
    broker: FakeBroker, gitlab: dict[str, str], jobkey: Run, tmp_path: Path
) -> None:
    for _ in range(3):
        assert jobkey("exec", "payments/token", "--", "true").returncode == 0
    assert len(broker.sessions) == 1
    assert not broker.active()
    files = [path for path in private(tmp_path).iterdir() if path.suffix == ".json"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in files] == [0o600]
    assert stat.S_IMODE(private(tmp_path).stat().st_mode) == 0o700
    assert gitlab["JOBKEY_ID_TOKEN"] not in files[0].read_text()  # the session, never the token
    assert jobkey("revoke").returncode == 0
    assert not list(private(tmp_path).glob("*.json"))
    again = jobkey("revoke")
    assert (again.returncode, again.stderr) == (0, "jobkey: nothing to revoke\n")


def test_parallel_steps_do_not_both_spend_the_token(broker: FakeBroker, gitlab: dict[str, str], jobkey: Run) -> None:
    with ThreadPoolExecutor(4) as pool:
        codes = list(pool.map(lambda _: jobkey("exec", "payments/token", "--", "true").returncode, range(4)))
    assert codes == [0, 0, 0, 0]
    assert len(broker.sessions) == 1


def test_a_step_killed_without_its_answer_does_not_lose_the_session(
    broker: FakeBroker, gitlab: dict[str, str], jobkey: Run
) -> None:
    """The nonce was written down before the token was sent; the next step is known for the same client."""
    broker.script = [Scripted(apply=True)]  # done at the broker, lost on the way
    gitlab["JOBKEY_PATIENCE"] = "0"
    lost = jobkey("exec", "payments/token", "--", "true")
    assert lost.returncode == 69, lost.stderr
    assert jobkey("exec", "payments/token", "--", "true").returncode == 0
    assert broker.bodies[0]["nonce"] == broker.bodies[1]["nonce"]
    assert not broker.active()


def test_a_lost_answer_is_asked_for_again(broker: FakeBroker, jobkey: Run) -> None:
    broker.script = [Scripted(apply=True)]
    assert jobkey("exec", "payments/token", "--", "true").returncode == 0
    assert len(broker.leases) == 2
    assert not broker.active()


def test_an_ended_session_is_forgotten(broker: FakeBroker, gitlab: dict[str, str], jobkey: Run) -> None:
    assert jobkey("exec", "payments/token", "--", "true").returncode == 0
    for session in broker.sessions.values():
        session["ended"] = True
    done = jobkey("exec", "payments/token", "--", "true")
    assert done.returncode == 77  # this job had one token, and it is spent
    assert "used before" in done.stderr
    gitlab["JOBKEY_ID_TOKEN"] = make_token(broker.url)
    assert jobkey("exec", "payments/token", "--", "true").returncode == 0


def test_other_jobs_and_other_brokers_have_other_sessions(
    broker: FakeBroker, gitlab: dict[str, str], jobkey: Run
) -> None:
    assert jobkey("exec", "payments/token", "--", "true").returncode == 0
    gitlab.update(CI_JOB_ID="78", JOBKEY_ID_TOKEN=make_token(broker.url))
    assert jobkey("exec", "payments/token", "--", "true").returncode == 0
    assert len(broker.sessions) == 2


def test_a_damaged_session_file_is_no_dead_end(
    broker: FakeBroker, gitlab: dict[str, str], jobkey: Run, tmp_path: Path
) -> None:
    assert jobkey("exec", "payments/token", "--", "true").returncode == 0
    (file,) = private(tmp_path).glob("*.json")
    for rubbish in ("", "{", "[]", '{"broker": 1}', json.dumps({"broker": broker.url, "secret": 1, "expires_at": "x"})):
        file.write_text(rubbish)
        gitlab["JOBKEY_ID_TOKEN"] = make_token(broker.url)
        assert jobkey("exec", "payments/token", "--", "true").returncode == 0, rubbish


def test_a_killed_exec_is_cleaned_up_by_revoke(
    broker: FakeBroker, env: dict[str, str], service: TokenService, jobkey: Run
) -> None:
    env.pop("JOBKEY_SUBJECT_TOKEN")
    env.update(service.github_env(), RUNNER_TRACKING_ID="github_1", RUNNER_TEMP=env["TMPDIR"])
    with subprocess.Popen(
        [sys.executable, "-m", "jobkey", "exec", "payments/token", "--", "sh", "-c", "echo ready; sleep 30"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    assert len(broker.active()) == 1
    assert "1 credentials revoked" in jobkey("revoke").stderr
    assert not broker.active()


def test_revoke_never_fails_the_job(
    env: dict[str, str], jobkey: Run, broker: FakeBroker, gitlab: dict[str, str]
) -> None:
    assert jobkey("exec", "payments/token", "--", "true").returncode == 0
    broker.script = [Scripted(status=503, headers={"Retry-After": "60"})]
    done = jobkey("revoke")
    assert (done.returncode, "unavailable" in done.stderr) == (0, True)
    assert jobkey("revoke").returncode == 0
    assert jobkey("revoke", env={**env, "JOBKEY_URL": ""}).returncode == 0
    assert jobkey("revoke", env={**env, "JOBKEY_ID_TOKEN": ""}).returncode == 0


# attacks on the private directory


def test_refuses_a_directory_that_is_not_ours_alone(tmp_path: Path) -> None:
    loose = tmp_path / "loose"
    loose.mkdir(mode=0o755)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(elsewhere)
    (tmp_path / "file").write_text("")
    for name in ("loose", "link", "file"):
        with pytest.raises(LocalError):
            PrivateDir(str(tmp_path / name))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory of another user")
def test_refuses_a_directory_of_another_user(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    os.chown(other, 12345, 12345)
    with pytest.raises(LocalError, match="another user"):
        PrivateDir(str(other))


def test_refuses_files_that_others_could_have_put_there(tmp_path: Path) -> None:
    directory = PrivateDir(str(tmp_path / "mine"))
    target = tmp_path / "target"
    target.write_text("{}")
    target.chmod(0o600)
    base = tmp_path / "mine"
    (base / "link").symlink_to(target)
    os.link(target, base / "hard")
    (base / "loose").write_text("{}")
    (base / "loose").chmod(0o644)
    os.mkfifo(base / "pipe", 0o600)
    (base / "dir").mkdir(mode=0o700)
    for name in ("link", "hard", "loose", "pipe", "dir"):
        with pytest.raises(LocalError):
            directory.read(name)
    assert directory.read("absent") is None
    directory.write("link", b"new")  # takes the link's place, does not follow it
    assert target.read_text() == "{}"
    assert directory.read("link") == b"new"
    with pytest.raises(LocalError):
        directory.lock("dir")
    directory.close()


def test_sweeps_what_old_jobs_left(tmp_path: Path) -> None:
    directory = PrivateDir(str(tmp_path / "mine"))
    directory.write("old.json", b"")
    directory.write("new.json", b"")
    os.utime(tmp_path / "mine" / "old.json", (1, 1))
    directory.sweep((tmp_path / "mine" / "new.json").stat().st_mtime)
    assert directory.names() == ["new.json"]
    directory.close()


def test_replaces_files_of_the_user_without_following_links(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("keep")
    (tmp_path / "out").symlink_to(victim)
    with pytest.raises(LocalError):
        replace_file(str(tmp_path / "out"), b"secret")
    assert victim.read_text() == "keep"
    old = os.umask(0)
    try:
        replace_file(str(tmp_path / "fresh"), b"one")
        replace_file(str(tmp_path / "fresh"), b"two")
    finally:
        os.umask(old)
    assert (tmp_path / "fresh").read_bytes() == b"two"
    assert stat.S_IMODE((tmp_path / "fresh").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "stamp",
    [
        "1970-01-01T00:00:00Z",
        "2024-02-29T23:59:59Z",
        "2026-11-21T20:00:00.250Z",
        "2100-03-01T00:00:00Z",
        "1999-12-31T12:00:00Z",
    ],
)
def test_instants(stamp: str) -> None:
    import datetime as dt

    assert instant(stamp) == dt.datetime.fromisoformat(stamp).timestamp()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-13-01T00:00:00Z",
        "2026-11-21T20:00:00",
        "2026-11-21T25:00:00Z",
        "2026-11-21T20:00:00+01:00",
        "2026-11-21",
        "T",
        "1" * 100,
    ],
)
def test_what_is_no_instant(text: str) -> None:
    assert instant(text) is None


def test_nothing_lives_on_when_the_session_cannot_be_saved(
    broker: FakeBroker, env: dict[str, str], tmp_path: Path
) -> None:
    """A disk that is full just then: the credentials are taken back, since nobody will."""
    from jobkey import acquire, url

    own = tmp_path / "own"
    job = acquire.Job({**env, "JOBKEY_DIR": str(own)}, url.broker(broker.url), lambda text: None)
    whole = job.store.save

    def save(name: str, **members: str) -> None:
        if "secret" in members:
            raise LocalError("no space left on device")
        whole(name, **members)

    job.store.save = save  # type: ignore[method-assign]  # the fault
    with pytest.raises(LocalError, match="no space"):
        acquire.acquire(job, [{"grant": "payments/token"}], None, own=True)
    job.broker.close()
    assert broker.leases
    assert not broker.active()


def test_a_directory_that_cannot_be_used_is_found_out_first(
    broker: FakeBroker, env: dict[str, str], jobkey: Run, tmp_path: Path
) -> None:
    (tmp_path / "loose").mkdir(mode=0o755)
    done = jobkey("exec", "payments/token", "--", "true", env={**env, "JOBKEY_DIR": str(tmp_path / "loose")})
    assert done.returncode == 74, done.stderr
    assert "0700" in done.stderr
    assert not broker.requests


def test_reprs_tell_nothing() -> None:
    from jobkey.exchange import Credential, Session

    credential = Credential(
        {
            "grant": "a/b", "lease": "lse_1", "type": "jwt", "expires_at": "2026-11-21T20:00:00Z",
            "values": {"token": "s3cret-1", "deep": {"list": ["s3cret-2"]}, "name": "public"},
            "secrets": ["token", "deep"], "env": {"T": "s3cret-1"},
        }
    )  # fmt: skip
    assert "s3cret" not in repr(credential) + repr(Session("ses_1", "s3cret", "x"))
    assert sorted(credential.secret_texts()) == ["s3cret-1", "s3cret-2"]
