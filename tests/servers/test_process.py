"""The harness itself: a second attempt, an honest failure, nothing left behind."""

import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.servers.process import DidNotStart, Launch, Running, eventually, free_port, started

LISTEN = (
    "import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); print('up', flush=True); s.accept()"
)


def listener(launch: Launch, port: int) -> Running:
    running = launch.spawn([sys.executable, "-c", LISTEN, port])
    launch.wait(running, lambda: running.log.read_text().index("up\n"))
    return running


def test_a_port_that_was_taken_meanwhile_costs_one_more_attempt() -> None:
    folders: list[Path] = []
    with socket.create_server(("127.0.0.1", 0)) as taken:

        def start(launch: Launch) -> Running:
            folders.append(launch.folder)
            return listener(launch, taken.getsockname()[1] if len(folders) == 1 else free_port())

        with started(start) as running:
            assert running.folder == folders[1]
            assert not folders[0].exists()
    assert not folders[1].exists()


def test_a_server_that_cannot_start_says_why() -> None:
    def start(launch: Launch) -> None:
        running = launch.spawn([sys.executable, "-c", "raise SystemExit('no such option')"])
        launch.wait(running, lambda: 1 / 0)

    with pytest.raises(DidNotStart, match=r"ended with 1: no such option"), started(start):
        pass


def test_what_ignores_a_request_to_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.servers.process.STOP", 0.2)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"

    def start(launch: Launch) -> Running:
        running = launch.spawn([sys.executable, "-c", deaf])
        launch.wait(running, lambda: 1 / len(running.log.read_bytes()))
        return running

    with started(start) as running:
        pass
    assert running.process.returncode == -signal.SIGKILL


def test_a_test_that_fails_leaves_no_process() -> None:
    seen: list[Running] = []
    with contextlib.suppress(ZeroDivisionError), started(lambda launch: listener(launch, free_port())) as running:
        seen.append(running)
        1 / 0  # noqa: B018  the test that fails
    with pytest.raises(ProcessLookupError):
        os.kill(seen[0].process.pid, 0)


def test_a_server_sees_nothing_of_the_developers_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "production")
    environment = Launch(Path("/x")).environment({"A": "b"})
    assert set(environment) == {"PATH", "HOME", "TMPDIR", "TZ", "A"}


def test_eventually_gives_up() -> None:
    assert eventually(lambda: True)
    assert not eventually(lambda: False, within=0.05)
