"""The system's `git`, run as if the repository and its server were hostile.

* A fixed list of arguments, never a shell. What callers put in comes after `--end-of-options`.
* A clean environment: no user's or system's configuration, hooks, pager, prompt, credential helper, netrc, replaced
  objects or lazy fetch. What a repository's own configuration could run is switched off over its head.
* Only the protocols that the caller names; none for what only reads.
* Every run has a deadline and a largest output; past either, git and all it started are killed.
* Secrets go through the environment of one process, never through its arguments, and no error repeats them.
"""

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from broker.errors import ConfigError

TIMEOUT: Final = 30.0  # seconds
MOST_OUTPUT: Final = 64 << 20  # bytes
MOST_SAID: Final = 4096  # bytes kept of what git says on stderr
_TICK: Final = 0.5
_TOO_LONG: Final = "it took too long and was stopped"
_NOWHERE: Final = "/dev/null"

# Given through the environment, which outranks a repository's own file. Each of these can start a program or leave the
# repository: https://git-scm.com/docs/git-config
_CONFIG: Final[Mapping[str, str]] = {
    "core.hooksPath": _NOWHERE,
    "core.fsmonitor": "false",
    "core.askPass": "",
    "core.alternateRefsCommand": "false",
    "credential.helper": "",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "fetch.recurseSubmodules": "false",
    "fetch.fsckObjects": "true",
    "fetch.writeCommitGraph": "false",
    "http.followRedirects": "false",  # a header with a credential would follow to wherever the server points
    "submodule.recurse": "false",
    "protocol.allow": "never",
}
_PROXIES: Final = ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY")


class GitFailed(Exception):
    """git said no, took too long, or said too much. `said` is its own words, bounded, for the operator.

    `cut_short`: it was stopped for its time, or because nobody waits any more, and says nothing about what was asked.
    """

    def __init__(self, said: str, *, code: int | None = None, cut_short: bool = False) -> None:
        super().__init__(said)
        self.said, self.code, self.cut_short = said, code, cut_short


class Git:
    """`git` at one repository: `Git(at=folder)` finds it from a working folder, `Git(bare=folder)` is told where it is.

    `config` outranks every file; `environment` is added to the clean one; `hidden` are secrets to strike from errors.
    """

    def __init__(
        self,
        *,
        at: Path | None = None,
        bare: Path | None = None,
        protocols: tuple[str, ...] = (),
        config: Iterable[tuple[str, str]] = (),
        environment: Mapping[str, str] | None = None,
        hidden: tuple[str, ...] = (),
    ) -> None:
        """Raises ConfigError where there is no git."""
        self._program = program("git")
        self._where = ["-C", str(at.absolute())] if at is not None else []
        self._where += [f"--git-dir={bare.absolute()}"] if bare is not None else []
        self._hidden = hidden
        self._environment = clean_environment(
            [*_CONFIG.items(), *((f"protocol.{name}.allow", "always") for name in protocols), *config],
            protocols=protocols,
        )
        if protocols:
            self._environment |= {name: os.environ[name] for name in _PROXIES if name in os.environ}
        self._environment |= environment or {}

    def run(
        self,
        *arguments: str,
        stdin: bytes = b"",
        most: int = MOST_OUTPUT,
        timeout: float = TIMEOUT,
        watch: Callable[[], str | None] = lambda: None,
    ) -> bytes:
        """What git printed. Raises GitFailed.

        `watch` is asked twice a second while it runs; what it returns is why to stop.
        """
        with tempfile.TemporaryFile() as given:
            given.write(stdin)
            given.seek(0)
            process = subprocess.Popen(  # noqa: S603  a fixed program, arguments as a list
                [self._program, "--no-pager", "--no-optional-locks", *self._where, *arguments],
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environment,
                cwd="/",
                start_new_session=True,  # git starts programs of its own; they end with it
            )
        try:
            out, said, stopped = _listen(process, most, time.monotonic() + timeout, watch)
        finally:
            _end(process)
        if stopped is not None:
            raise stopped
        if process.returncode:
            raise GitFailed(self._shown(said), code=process.returncode)
        return out

    def _shown(self, said: bytes) -> str:
        text = said.decode("utf-8", "replace")
        for secret in self._hidden:
            text = text.replace(secret, "(hidden)")
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("hint:")]
        return "; ".join("".join(char if char.isprintable() else "?" for char in line) for line in lines) or "no reason"


def program(name: str) -> str:
    """A program's absolute path. Raises ConfigError."""
    found = shutil.which(name)
    if found is None:
        raise ConfigError(f"the program {name!r} is needed here and not on PATH; install it")
    return str(Path(found).absolute())


def clean_environment(config: Sequence[tuple[str, str]], *, protocols: tuple[str, ...] = ()) -> dict[str, str]:
    """All that git and its children see. `config` is given as git's command line would give it."""
    counted = {f"GIT_CONFIG_KEY_{n}": name for n, (name, _) in enumerate(config)}
    counted |= {f"GIT_CONFIG_VALUE_{n}": value for n, (_, value) in enumerate(config)}
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C",
        "HOME": _NOWHERE,  # curl would read ~/.netrc
        "XDG_CONFIG_HOME": _NOWHERE,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_SYSTEM": _NOWHERE,
        "GIT_CONFIG_GLOBAL": _NOWHERE,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "SSH_ASKPASS": "",
        "GIT_PAGER": "cat",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_NO_LAZY_FETCH": "1",  # git >= 2.45; before, the empty GIT_ALLOW_PROTOCOL keeps a partial clone from its server
        "GIT_GRAFT_FILE": _NOWHERE,
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_ALLOW_PROTOCOL": ":".join(protocols) or "none",
        "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_CONFIG_COUNT": str(len(config)),
        **counted,
    }


def _listen(
    process: "subprocess.Popen[bytes]", most: int, deadline: float, watch: Callable[[], str | None]
) -> tuple[bytes, bytes, GitFailed | None]:
    """(stdout, the end of stderr, why it was stopped), until both are closed."""
    assert process.stdout is not None
    assert process.stderr is not None
    out, said = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(process.stderr, selectors.EVENT_READ)
        while selector.get_map():
            if time.monotonic() > deadline:
                return bytes(out), bytes(said), GitFailed(_TOO_LONG, cut_short=True)
            for key, _ in selector.select(_TICK):
                data = os.read(key.fd, 1 << 16)
                if not data:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stdout:
                    out += data
                else:
                    said = (said + data)[-MOST_SAID:]
            if len(out) > most:
                return b"", bytes(said), GitFailed(f"it gave more than {most >> 20} MiB and was stopped")
            if (why := watch()) is not None:
                return b"", bytes(said), GitFailed(why, cut_short=True)
    try:
        process.wait(max(deadline - time.monotonic(), _TICK))
    except subprocess.TimeoutExpired:
        return b"", bytes(said), GitFailed(_TOO_LONG, cut_short=True)
    return bytes(out), bytes(said), None


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kill what is left of it: the whole session, since a child may hold on to the pipes."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
