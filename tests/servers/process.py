"""Start a real server on loopback for a test, wait until it truly answers, and stop it by its process id.

* Free ports can be taken between the look and the bind: a start that fails is tried once more with other ports.
* Each server has a temporary folder that is its HOME, its TMPDIR and its working directory, and goes with it.
* Nothing of this process' environment reaches a server but PATH: a developer's AWS_PROFILE changes no test.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

START = 60.0  # seconds; a busy machine is slow
STOP = 15.0


class DidNotStart(Exception):
    """The server ended, or gave no answer; with the end of its log."""


@dataclass
class Running:
    """One process, with the folder it lives in."""

    process: "subprocess.Popen[bytes]"
    folder: Path
    log: Path
    stop_with: signal.Signals = signal.SIGTERM

    def stop(self) -> None:
        """Ask, wait, kill; only this process, by its id."""
        if self.process.poll() is None:
            self.process.send_signal(self.stop_with)
            try:
                self.process.wait(STOP)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""


@dataclass
class Launch:
    """What one attempt to start a server has: a fresh folder, free ports, and the processes it started."""

    folder: Path
    processes: list[Running] = field(default_factory=list)

    def spawn(
        self,
        command: Sequence[str | Path | int],
        *,
        env: Mapping[str, str] | None = None,
        stop_with: signal.Signals = signal.SIGTERM,
        **options: Any,
    ) -> Running:
        log = self.folder / f"log-{len(self.processes)}"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=self.environment(env),
                start_new_session=True,  # Ctrl-C is for pytest, which then stops it in order
                **options,
            )
        running = Running(process, self.folder, log, stop_with)
        self.processes.append(running)
        return running

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        home = str(self.folder)
        return {"PATH": os.environ.get("PATH", os.defpath), "HOME": home, "TMPDIR": home, "TZ": "UTC", **(more or {})}

    def wait(self, running: Running, probe: Callable[[], T], *, within: float = START) -> T:
        """`probe`'s first answer without an exception. Raises DidNotStart where the process ended or time is over."""
        end = time.monotonic() + within
        while True:
            try:
                return probe()
            except Exception as error:
                if running.process.poll() is not None:
                    raise DidNotStart(f"ended with {running.process.returncode}: {running.tail()}") from error
                if time.monotonic() > end:
                    raise DidNotStart(f"no answer ({error}): {running.tail()}") from error
            time.sleep(0.03)


@contextlib.contextmanager
def started(start: Callable[[Launch], T], *, attempts: int = 2) -> Iterator[T]:
    """Run `start` with a fresh Launch, once more where it fails, and stop everything it spawned at the end."""
    for attempt in range(1, attempts + 1):
        folder = Path(tempfile.mkdtemp(prefix="jobkey-test-"))
        launch = Launch(folder)
        try:
            try:
                server = start(launch)
            except (DidNotStart, subprocess.SubprocessError):
                if attempt == attempts:
                    raise
                continue
            yield server
            return
        finally:
            for running in reversed(launch.processes):
                running.stop()
            shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def script(name: str) -> str:
    """A console script of this environment."""
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise DidNotStart(f"{name} is not in the test environment; run: make venv")
    return str(path)


def eventually(condition: Callable[[], bool], *, within: float = 10.0) -> bool:
    """Whether `condition` came true in time; polled often, so a test waits no longer than it has to."""
    end = time.monotonic() + within
    while True:
        if condition():
            return True
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
