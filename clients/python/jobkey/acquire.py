"""From "this job wants these grants" to credentials in memory.

* A session that the job already has is used first; a refused or ended one is forgotten.
* Otherwise the CI's token is exchanged, with a bound audience where the CI lets the job choose one: a verifier that
  only this process knows, so that a token seen in a log or by a proxy is worth nothing.
* One nonce per token: a request whose answer was lost is sent again, and the broker knows it for the same request.
* Where a grant wants a public key, the broker says so (422, nothing spent) and the key is made then.
* The token and the session's secret are masked in the CI's log before anything else happens.
"""

from __future__ import annotations

import os
import time
from base64 import urlsafe_b64encode
from contextlib import suppress
from functools import partial

from jobkey import ambient, emit
from jobkey.errors import ConfigError, JobkeyError, Problem, ProtocolError, UsageError, from_problem
from jobkey.exchange import Broker, Issued
from jobkey.retry import patience, persist
from jobkey.session import Store
from jobkey.wire import ConnectionFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Callable

    from jobkey.ambient.seam import Ambient
    from jobkey.ssh import Keys
    from jobkey.url import Url

TOKEN_AGE = 60.0  # seconds after which a fresh token is asked for, where there are any


class Job:
    """This process's view of the job it runs in."""

    def __init__(
        self,
        env: Mapping[str, str],
        url: Url,
        say: Callable[[str], None],
        *,
        sleep: Callable[[float], None] = time.sleep,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """`say` is for --verbose; `check` may raise to interrupt between two requests."""
        self.env = env
        self.url = url
        self.say = say
        self.place = ambient.place(env)
        self.patience = patience(env)
        self.broker = Broker(url, env)
        self._sleep = sleep
        self._check = check
        self._source: Ambient | None = None
        self._store: Store | None = None
        self._masked: dict[str, bool] = {}

    @property
    def source(self) -> Ambient:
        if self._source is None:
            self._source = ambient.source(self.env)
        return self._source

    @property
    def store(self) -> Store:
        if self._store is None:
            try:
                source: Ambient | None = self.source
            except ConfigError:  # `revoke` works without a token
                source = None
            self._store = Store(self.env, self.place, source, self.url)
        return self._store

    def mask(self, texts: list[str]) -> bool:
        """True when the CI's log cannot show them from here on."""
        new = [text for text in texts if not self._masked.get(text)]
        if new:
            self._masked.update(dict.fromkeys(new, emit.mask(self.place.mask if self.place else "none", new, self.env)))
        return all(self._masked[text] for text in texts)

    def persist(self, call: Callable[[float], Any], seconds: float | None = None) -> Any:
        def once(left: float) -> Any:
            self._check()
            return call(left)

        return persist(once, self.patience if seconds is None else seconds, self.say, self._sleep)

    def token(self, timeout: float) -> tuple[str, str]:
        """An identity token and, with a bound audience, its verifier."""
        audience, verifier = self.env.get("JOBKEY_AUDIENCE") or str(self.url), ""
        if self.source.chooses_audience and not self.env.get("JOBKEY_AUDIENCE"):
            from hashlib import sha256

            verifier = random_text(32)
            digest = sha256(verifier.encode("ascii")).digest()
            audience = f"{audience}#S256.{urlsafe_b64encode(digest).rstrip(b'=').decode('ascii')}"
        token = self.source.token(self.env, audience, timeout)
        self.mask([token])
        return token, verifier


class Acquired:
    """Credentials and what ends them. `file` is the session's file; `own` when nobody else uses that session."""

    def __init__(self, issued: Issued, secret: str, file: str, *, own: bool) -> None:
        self.credentials = issued.credentials
        self.issuance = issued.issuance
        self.secret = secret
        self.file = file
        self.own = own


def acquire(job: Job, grants: list[dict[str, Any]], keys: Keys | None, *, own: bool) -> Acquired:
    """Credentials for all grants, or an error. With `own`, a session of its own where the CI can give several tokens.

    Raises:
        JobkeyError: whatever went wrong, ready to be shown.
    """
    try:
        return _acquire(job, grants, keys, own=own and job.source.fresh)
    except Problem as problem:
        raise from_problem(problem, tuple(grant["grant"] for grant in grants)) from problem


def _acquire(job: Job, grants: list[dict[str, Any]], keys: Keys | None, *, own: bool) -> Acquired:
    store = job.store
    if own:
        return _by_token(job, grants, keys, store.own(), own=True)
    file = store.shared()
    found = _by_session(job, grants, keys, file)
    if found is not None:
        return found
    lock = store.lock()  # two steps at once must not both spend the one token
    try:
        found = _by_session(job, grants, keys, file)  # the other one was first
        return found or _by_token(job, grants, keys, file, own=False)
    finally:
        os.close(lock)


def _by_session(job: Job, grants: list[dict[str, Any]], keys: Keys | None, file: str) -> Acquired | None:
    secret = job.store.live(file)
    if not secret:
        return None
    job.mask([secret])
    try:
        issued = _ask(job, grants, keys, lambda wanted, left: job.broker.issue(secret, wanted, timeout=left))
    except Problem as problem:
        if problem.status != 401:
            raise
        job.say("the session of an earlier step has ended")
        job.store.drop(file)
        return None
    return Acquired(issued, secret, file, own=False)


def _by_token(job: Job, grants: list[dict[str, Any]], keys: Keys | None, file: str, *, own: bool) -> Acquired:
    job.store.dir  # noqa: B018 - a directory that cannot be used is found out before anything is issued
    current = _Token()

    def issue(wanted: list[Any], left: float) -> Issued:
        if not current.text or (job.source.fresh and time.monotonic() - current.taken > TOKEN_AGE):
            current.text, current.verifier = job.token(left)
            current.taken = time.monotonic()
            current.nonce = _nonce(job, file, current.text)
        return job.broker.issue(current.text, wanted, timeout=left, verifier=current.verifier, nonce=current.nonce)

    issued = _ask(job, grants, keys, issue)
    secret = issued.session.secret
    if not secret:
        raise ProtocolError("the broker's answer has no session secret")
    try:
        job.mask([secret])
        job.store.save(file, id=issued.session.id, secret=secret, expires_at=issued.session.expires_at)
    except BaseException:  # a full disk, say: nobody will hold these credentials, so they shall not live on
        with suppress(Problem, JobkeyError, ConnectionFailed):
            job.broker.revoke_session(secret, timeout=5)
        raise
    return Acquired(issued, secret, file, own=own)


class _Token:
    text, verifier, nonce, taken = "", "", "", 0.0


def _nonce(job: Job, file: str, token: str) -> str:
    """Fresh for a fresh token. For a job's only token it is written down before it is first used, and found again."""
    if job.source.fresh:
        return random_text(24)
    from hashlib import sha256

    mark = sha256(token.encode("ascii")).hexdigest()
    saved = job.store.load(file)
    if saved.get("token_sha256") == mark and saved.get("nonce"):
        return str(saved["nonce"])
    nonce = random_text(24)
    job.store.save(file, token_sha256=mark, nonce=nonce)
    return nonce


def _ask(
    job: Job, grants: list[dict[str, Any]], keys: Keys | None, issue: Callable[[list[Any], float], Issued]
) -> Issued:
    wanted: list[dict[str, Any]] = [dict(grant) for grant in grants]
    for _ in range(2):
        sent = [grant if len(grant) > 1 else grant["grant"] for grant in wanted]
        try:
            issued: Issued = job.persist(partial(issue, sent))
            return issued
        except Problem as problem:
            if problem.status != 422 or not _supply(problem, wanted, keys):
                raise
            job.say("a grant wants a public key: made one")
    raise AssertionError  # unreachable: the second 422 has nothing left to supply


def _supply(problem: Problem, wanted: list[dict[str, Any]], keys: Keys | None) -> bool:
    """Add what the broker says is missing, if all of it can be made. False changes nothing of use."""
    missing = problem.document.get("missing")
    if not isinstance(missing, list) or not missing:
        return False
    for one in missing:
        grant = next((g for g in wanted if isinstance(one, dict) and g["grant"] == one.get("grant")), None)
        param = one.get("param") if isinstance(one, dict) else None
        if grant is None or one.get("make") != "ssh-public-key" or not isinstance(param, str):
            return False
        if param in grant.get("params", {}):
            return False
        if keys is None:
            raise UsageError(
                f"{grant['grant']} signs an SSH key, and none is given",
                "Use `jobkey exec`, which makes one for the command, or pass --ssh-key FILE.",
            )
        grant["params"] = {**grant.get("params", {}), param: keys.public_key()}
    return True


def random_text(size: int) -> str:
    """`size` random bytes as base64url: 24 bytes are 32 characters, 32 are 43."""
    return urlsafe_b64encode(os.urandom(size)).rstrip(b"=").decode("ascii")
