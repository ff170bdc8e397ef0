"""A git repository that the broker follows by itself, over a bare mirror in its data folder.

* Only a commit of the configured ref is read, from the object database; nothing is checked out and nothing of it runs.
* The mirror remembers the commit that is in force: a broker starts on it while the server is down.
* A commit that does not follow the one in force is refused (`rewrites: refuse`): whoever can push, or pretend to be the
  server, could otherwise bring back any older policies, signed as they were.
* With `signed:`, the ref's newest commit has to carry a good signature of one of these keys.
* Credentials reach git through its environment only. What git says is told with them struck out.
"""

import asyncio
import base64
import contextlib
import hashlib
import random
import shlex
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from broker.documents import read_file
from broker.errors import ConfigError
from broker.metrics import POLICY_FETCHES
from broker.references import BrokenReference
from broker.sources import Snapshot, SourceUnavailable
from broker.sources.command import Git, GitFailed, program
from broker.sources.git import read_commit
from broker.sources.settings import GitPolicies
from broker.sources.signatures import Signers

FETCH_TIMEOUT: Final = 120.0  # seconds
LARGEST_MIRROR: Final = 2 << 30  # bytes
NOT_OFTENER: Final = 2.0  # seconds between fetches, however many webhooks come
JITTER: Final = 0.1  # of the interval, so that many brokers do not come at once
SHORT: Final = 12
_NO: Final = 1  # git's exit code for an answer; what goes wrong has another one, or none

_TIDYING: Final = (("gc.auto", "1000"), ("gc.autoPackLimit", "50"), ("gc.autoDetach", "false"))


class RepositorySource:
    """`mirror` is a folder of this broker alone; `folder` is what relative paths in the settings are relative to.

    `guardrails` is a file of the broker's own, for where the repository does not hold them.
    """

    def __init__(self, settings: GitPolicies, *, mirror: Path, folder: Path, guardrails: Path | None = None) -> None:
        self._settings, self._mirror, self._folder, self._guardrails = settings, mirror, folder, guardrails
        self._signers = Signers(settings.signed, folder) if settings.signed is not None else None
        # A mirror serves one address: whoever points the broker elsewhere begins a history anew.
        address = hashlib.sha256(f"{settings.git}\0{settings.ref}".encode()).hexdigest()[:16]
        self._fetched, self._current = (f"refs/jobkey/{address}/{name}" for name in ("fetched", "current"))
        self._last: tuple[str, str] | None = None
        self._woken = asyncio.Event()
        self._closed = threading.Event()
        self._random = random.SystemRandom()
        # Its time is when the server was last reached: a restart must not make an outage look short.
        self._reached = mirror / f"jobkey-reached-{address}"
        self.seen = self._reached.stat().st_mtime if self._reached.exists() else 0.0

    @property
    def described(self) -> str:
        return self._settings.described

    def look(self, *, anyway: bool = False) -> Snapshot | None:
        """Fetch, check and read. Raises SourceUnavailable, ConfigError."""
        commit = self._fetch()
        limits = self._limits()
        now = commit, hashlib.sha256((limits or b"") + (self._signers.stamp() if self._signers else b"")).hexdigest()
        if not anyway and now == self._last:
            return None
        self._last = now
        try:
            self._check_history(commit)
            return self._read(commit, limits)
        except SourceUnavailable:
            self._last = None  # it says nothing about this commit: the next look reads it again
            raise

    def kept(self) -> Snapshot | None:
        commit = self._at(self._current)
        return None if commit is None else self._read(commit, self._limits())

    def taken(self, snapshot: Snapshot) -> None:
        """Raises SourceUnavailable where the mirror cannot be written: the policies are in force all the same."""
        assert snapshot.commit is not None
        if self._at(self._current) == snapshot.commit:
            return
        try:
            git = Git(bare=self._mirror, config=_TIDYING)
            git.run("update-ref", self._current, snapshot.commit)
            git.run("gc", "--auto", "--quiet", timeout=FETCH_TIMEOUT)
        except GitFailed as error:
            raise SourceUnavailable(f"{self._mirror}:1:1: the mirror cannot be written: {error.said}") from None

    def wake(self) -> None:
        self._woken.set()

    def close(self) -> None:
        self._closed.set()
        self._woken.set()

    async def wait(self) -> None:
        rest = self._settings.interval.total_seconds() * self._random.uniform(1 - JITTER, 1 + JITTER)
        await asyncio.sleep(min(NOT_OFTENER, rest))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), rest)
        self._woken.clear()

    # ---- one look

    def _fetch(self) -> str:
        """The ref's newest commit, as it is in the mirror now."""
        try:
            self._prepare()
            with self._remote() as git:
                git.run(
                    "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--force",
                    "--end-of-options", self._settings.git, f"+{self._settings.ref}:{self._fetched}",
                    timeout=FETCH_TIMEOUT, watch=self._why_stop,
                )  # fmt: skip
            self._reached.touch()
        except (GitFailed, BrokenReference, OSError) as error:
            POLICY_FETCHES.labels("failed").inc()
            raise SourceUnavailable(f"{self._settings.git}:1:1: cannot be fetched: {error}") from None
        POLICY_FETCHES.labels("ok").inc()
        self.seen = time.time()
        commit = self._at(self._fetched)
        if commit is None:
            raise SourceUnavailable(f"{self._settings.git}:1:1: {self._settings.ref} names no commit")
        return commit

    def _prepare(self) -> None:
        if not (self._mirror / "HEAD").exists():
            self._mirror.mkdir(mode=0o700, parents=True, exist_ok=True)
            Git(bare=self._mirror).run("init", "--quiet", "--bare", "--template=")
        for left in self._mirror.glob("objects/pack/tmp_*"):  # of a fetch that was stopped
            left.unlink(missing_ok=True)
        for lock in self._mirror.glob("refs/jobkey/*/*.lock"):  # of a broker that was killed; nobody else writes here
            lock.unlink(missing_ok=True)

    @contextmanager
    def _remote(self) -> Iterator[Git]:
        settings, hidden = self._settings, []
        scheme = settings.git.partition(":")[0]
        config: list[tuple[str, str]] = []
        environment: dict[str, str] = {}
        if settings.credentials is not None:
            token = settings.credentials.token.resolve().reveal()
            basic = base64.b64encode(f"{settings.credentials.username}:{token}".encode()).decode()
            # For this address only, and redirects are not followed: no other server is shown it.
            config.append((f"http.{settings.git}.extraHeader", f"Authorization: Basic {basic}"))
            hidden = [token, basic]
        if settings.ca is not None:
            config.append(("http.sslCAInfo", str(self._folder / settings.ca)))
        if settings.ssh is not None:
            environment["GIT_SSH_COMMAND"] = shlex.join(self._ssh(settings.ssh.key, settings.ssh.known_hosts))
            environment["GIT_SSH_VARIANT"] = "ssh"
        yield Git(bare=self._mirror, protocols=(scheme,), config=config, environment=environment, hidden=tuple(hidden))

    def _ssh(self, key: str, known_hosts: str) -> list[str]:
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "IdentityFile": self._quoted(key),
            "UserKnownHostsFile": self._quoted(known_hosts),
            "GlobalKnownHostsFile": "/dev/null",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "ForwardAgent": "no",
            "ConnectTimeout": "15",
        }
        told = [f"-o{name}={value}" for name, value in options.items()]
        return [program("ssh"), "-F", "/dev/null", *told]

    def _quoted(self, path: str) -> str:
        """A path as ssh_config(5) takes it: unquoted it would end at a space, and `%h` in it would be filled in (TOKENS)."""
        return '"{}"'.format(str(self._folder / path).replace("%", "%%"))

    def _why_stop(self) -> str | None:
        if self._closed.is_set():
            return "the broker is closing"
        size = 0
        for path in self._mirror.glob("objects/pack/*"):
            with contextlib.suppress(OSError):
                size += path.stat().st_size
        return f"the repository is larger than {LARGEST_MIRROR >> 30} GiB" if size > LARGEST_MIRROR else None

    def _check_history(self, commit: str) -> None:
        current = self._at(self._current)
        if current is None or current == commit or self._settings.rewrites == "take":
            return
        try:
            Git(bare=self._mirror).run("merge-base", "--is-ancestor", current, commit)
        except GitFailed as error:
            if error.code != _NO:
                raise self._unreadable(error) from None
            raise ConfigError(
                f"{commit[:SHORT]}:1:1: this commit does not follow {current[:SHORT]}, which is in force: the history of "
                f"{self._settings.ref} was rewritten or turned back. Revert with a new commit instead; or, where this is "
                "meant, say `rewrites: take` and restart the broker"
            ) from None

    def _read(self, commit: str, limits: bytes | None) -> Snapshot:
        git = Git(bare=self._mirror)
        if self._signers is not None:
            self._signers.check(self._mirror, commit)
        inside = self._settings.guardrails
        revision = read_commit(git, commit, self._settings.path, guardrails=inside)
        if inside is None:
            name, guardrails = str(self._guardrails or ""), limits
        else:
            name, guardrails = f"{commit[:SHORT]}:{inside}", revision.guardrails
            if guardrails is None:  # a broker without its limits would be a wider one
                raise ConfigError(f"{name}:1:1: there are no guardrails at this commit, and broker.yaml names them")
        return Snapshot(texts=tuple(revision.texts), guardrails=guardrails, guardrails_name=name, commit=commit)

    def _limits(self) -> bytes | None:
        if self._guardrails is None:
            return None
        return read_file(self._guardrails)

    def _at(self, ref: str) -> str | None:
        if not (self._mirror / "HEAD").exists():
            return None
        try:
            found = Git(bare=self._mirror).run(
                "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}"
            )
        except GitFailed as error:
            # Only where git says that there is none: a look cut short must not pass for a mirror without a history.
            if error.code == _NO:
                return None
            raise self._unreadable(error) from None
        return found.decode("ascii").strip()

    def _unreadable(self, error: GitFailed) -> SourceUnavailable:
        return SourceUnavailable(f"{self._mirror}:1:1: the mirror cannot be read: {error}")
