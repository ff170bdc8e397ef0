"""The child: its environment, its output, its signals, its exit code.

* It is started directly, never through a shell, and gets the credentials in its environment and nowhere else.
* Output that goes to a terminal is inherited. Otherwise it passes through `jobkey.redact`, in the order in which the
  child wrote it: where our stdout and stderr are one file, the child's are one pipe.
* SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGUSR1 and SIGUSR2 are handed on. Ctrl-C at a terminal reaches the whole
  foreground group by itself and is not sent twice.
* The answer is the child's exit code; 128 + n when signal n ended it, as in a shell; 126 and 127 when it cannot start.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import time

from jobkey.redact import Redactor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Callable

FORWARDED = ("SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2")
DRAIN = 1.0  # seconds of silence after which a pipe that some grandchild still holds is left
CHUNK = 65536


class Interrupted(BaseException):
    """A signal arrived while no child was there to take it: unwind, revoke, end as the signal would have."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


class Signals:
    """Owns our signal handlers while a command runs.

    * Before the child, the first signal is remembered until `check` or `pause`: a request that is under way comes to
      its end, so that no credential is made whose lease we do not know. A second signal does not wait.
    * With the child, a signal is forwarded. After it, nothing keeps us from revoking.
    """

    def __init__(self) -> None:
        self.child = 0
        self.caught = 0
        self.ended = False
        self._before: dict[int, Any] = {}
        self.wake, self._wake_in = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(self._wake_in, False)

    def check(self) -> None:
        """Raises Interrupted if a signal came and was not handed to a child."""
        if self.caught and not self.ended:
            raise Interrupted(self.caught)

    def pause(self, seconds: float) -> None:
        """Sleep; a signal ends it. Raises Interrupted."""
        end = time.monotonic() + seconds
        self.check()
        while (left := end - time.monotonic()) > 0:
            if select.select([self.wake], [], [], left)[0]:
                _drain(self.wake)
                self.check()

    def started(self, pid: int) -> None:
        """From here on signals go to the child; so does one that came while it was being made."""
        self.child = pid
        if self.caught:
            self._forward(self.caught)

    def __enter__(self) -> Signals:
        numbers = [getattr(signal, name) for name in FORWARDED if hasattr(signal, name)]
        for number in numbers:
            if signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup and the like: the child ignores it, too
            self._before[number] = signal.signal(number, self._handle)
        self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, self._nothing)
        signal.set_wakeup_fd(self._wake_in, warn_on_full_buffer=False)
        return self

    def __exit__(self, *exc: object) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self.wake)
        os.close(self._wake_in)

    def handled(self) -> list[int]:
        return list(self._before)

    def _nothing(self, number: int, frame: object) -> None:
        """SIGCHLD needs a handler to wake the loop."""

    def _handle(self, number: int, frame: object) -> None:  # noqa: ARG002 - the shape of a handler
        if self.child:
            self._forward(number)
        elif not self.ended:
            again, self.caught = bool(self.caught), number
            if again:
                raise Interrupted(number)

    def _forward(self, number: int) -> None:
        if number in (signal.SIGINT, signal.SIGQUIT) and _from_terminal():
            return
        try:
            os.kill(self.child, number)
        except ProcessLookupError:
            pass


def _from_terminal() -> bool:
    """We are the foreground group of a terminal, so the key was pressed for the child as well."""
    try:
        fd = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(fd)


def run(
    argv: list[str],
    env: Mapping[str, str],
    secrets: list[bytes],
    signals: Signals,
    *,
    due: float = float("inf"),
    when_due: Callable[[], float] = lambda: float("inf"),
) -> int:
    """Run to the end. `when_due` is called once `due` (monotonic) is reached, and says when to be called again."""
    pumps, actions = _plumbing(secrets)
    try:
        pid = _spawn(argv, env, actions, signals)
    finally:
        for pump in pumps:
            os.close(pump.write_end)
    if pid < 0:
        for pump in pumps:
            os.close(pump.read_end)
        return -pid
    signals.started(pid)
    poll = select.poll()
    poll.register(signals.wake, select.POLLIN)
    open_pumps = {pump.read_end: pump for pump in pumps}
    for fd in open_pumps:
        poll.register(fd, select.POLLIN)
    status: int | None = None
    quiet_until = 0.0
    while status is None or open_pumps:
        if status is None:
            status = _ended(pid, signals)
            if status is not None:
                quiet_until = time.monotonic() + DRAIN
                continue
        limit = quiet_until if status is not None else due
        now = time.monotonic()
        if now >= limit:
            if status is not None:
                break
            due = when_due()
            continue
        wait = None if limit == float("inf") else int((limit - now) * 1000) + 1
        for fd, _ in poll.poll(wait):
            if fd == signals.wake:
                _drain(fd)
            elif fd in open_pumps:
                quiet_until = time.monotonic() + DRAIN
                if not open_pumps[fd].move():
                    poll.unregister(fd)
                    os.close(open_pumps.pop(fd).read_end)
    for pump in open_pumps.values():
        pump.finish()
        os.close(pump.read_end)
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _ended(pid: int, signals: Signals) -> int | None:
    done, status = os.waitpid(pid, os.WNOHANG)
    if not done:
        return None
    signals.child, signals.ended = 0, True  # the pid may be another's from here on
    return status


def _drain(fd: int) -> None:
    try:
        while os.read(fd, 512):
            pass
    except BlockingIOError:
        pass


class Pump:
    """One pipe of the child's, to one descriptor of ours."""

    def __init__(self, target: int, secrets: list[bytes]) -> None:
        self.target = target
        self.read_end, self.write_end = os.pipe()
        self._redactor = Redactor(secrets)
        self._gone = False

    def move(self) -> bool:
        """Pass on what is there; False at the end."""
        data = os.read(self.read_end, CHUNK)
        if data:
            self._write(self._redactor.feed(data))
            return not self._gone  # nobody reads us: close, so that the child learns of it as it would without us
        self.finish()
        return False

    def finish(self) -> None:
        self._write(self._redactor.finish())

    def _write(self, data: bytes) -> None:
        while data and not self._gone:
            try:
                data = data[os.write(self.target, data) :]
            except BlockingIOError:  # somebody made our stdout non-blocking
                select.select([], [self.target], [])
            except OSError:
                self._gone = True


def _plumbing(secrets: list[bytes]) -> tuple[list[Pump], list[tuple[int, int, int]]]:
    """Pipes for what is no terminal, and the file actions that give them to the child."""
    if not secrets:
        return [], []
    targets = [fd for fd in (1, 2) if _is_open(fd) and not os.isatty(fd)]
    if len(targets) == 2 and os.path.sameopenfile(1, 2):
        one = Pump(1, secrets)
        return [one], [(os.POSIX_SPAWN_DUP2, one.write_end, 1), (os.POSIX_SPAWN_DUP2, one.write_end, 2)]
    pumps = [Pump(fd, secrets) for fd in targets]
    return pumps, [(os.POSIX_SPAWN_DUP2, pump.write_end, pump.target) for pump in pumps]


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _spawn(argv: list[str], env: Mapping[str, str], actions: list[tuple[int, int, int]], signals: Signals) -> int:
    """The pid, or minus the exit code of a shell that could not start it."""
    defaults = [*signals.handled(), signal.SIGPIPE]  # Python ignores SIGPIPE; the child shall not
    if hasattr(signal, "SIGXFSZ"):
        defaults.append(signal.SIGXFSZ)
    try:
        return os.posix_spawnp(argv[0], argv, dict(env), file_actions=actions, setsigdef=defaults)
    except OSError as error:
        code = 127 if error.errno == errno.ENOENT else 126
        os.write(2, f"jobkey: {argv[0][:200]!r} cannot be started: {error.strerror}\n".encode("utf-8", "replace"))
        return -code
