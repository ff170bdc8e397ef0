"""The commands, each a function from parsed arguments to an exit code. What is shown to people goes to stderr."""

from __future__ import annotations

import os
import sys
from functools import partial

from jobkey import url as urls
from jobkey.acquire import Acquired, Job, acquire
from jobkey.errors import ConfigError, JobkeyError, Problem, from_problem, note

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Callable

    from jobkey.arguments import Arguments
    from jobkey.run import Signals
    from jobkey.ssh import Keys

REVOKE_PATIENCE = 8.0  # seconds: runners give a cancelled step about ten


def broker_url(arguments: Arguments, env: Mapping[str, str]) -> urls.Url:
    text = arguments.option("broker") or env.get("JOBKEY_URL", "")
    if not text:
        raise ConfigError("no broker is named", "Set JOBKEY_URL to the broker's public URL, or pass --broker URL.")
    return urls.broker(text)


def talk(arguments: Arguments) -> Callable[[str], None]:
    """What --verbose says: requests, waits, ids. Never a token, a secret or a value."""
    if not arguments.flag("verbose"):
        return lambda _: None
    return note


def wanted(arguments: Arguments) -> list[dict[str, Any]]:
    ttl = arguments.option("ttl")
    return [{"grant": grant, "ttl": ttl} if ttl else {"grant": grant} for grant in arguments.grants]


# exec


def exec_(arguments: Arguments, env: Mapping[str, str]) -> int:
    from jobkey.run import Interrupted, Signals

    with Signals() as signals:
        job = Job(env, broker_url(arguments, env), talk(arguments), sleep=signals.pause, check=signals.check)
        try:
            return _exec(arguments, job, signals)
        except Interrupted as interrupted:
            note(f"ended by signal {interrupted.number} before the command began")
            return 128 + interrupted.number
        finally:
            job.broker.close()


def _exec(arguments: Arguments, job: Job, signals: Signals) -> int:
    from jobkey import ssh

    with ssh.Keys(lambda: job.store.dir.path, arguments.option("ssh-key")) as keys:
        acquired = acquire(job, wanted(arguments), keys, own=True)
        try:
            return _run(arguments, job, signals, acquired, keys)
        finally:
            signals.ended = True
            revoke_acquired(job, acquired)


def _run(arguments: Arguments, job: Job, signals: Signals, acquired: Acquired, keys: Keys) -> int:
    from jobkey import run, ssh
    from jobkey.environment import merged
    from jobkey.redact import patterns
    from jobkey.renew import Renewer

    texts = secrets_of(acquired)
    job.mask(texts)
    variables = merged(acquired.credentials, prefix=arguments.flag("prefix"))
    for credential in acquired.credentials:
        if credential.type == ssh.TYPE:
            variables.update(ssh.variables(keys.key, keys.certify(ssh.certificate_of(credential.values))))
    key = keys.private_text()
    if key:
        texts = [*texts, key]
    job.say("issued " + acquired.issuance + ": " + ", ".join(one.lease for one in acquired.credentials))
    signals.check()
    seen = patterns(texts) if not (os.isatty(1) and os.isatty(2)) else []
    renewer = Renewer(job, acquired, note)
    child = {**job.env, **variables}
    return run.run(arguments.command, child, seen, signals, due=renewer.first(), when_due=renewer.start)


def secrets_of(acquired: Acquired) -> list[str]:
    texts = [text for credential in acquired.credentials for text in credential.secret_texts()]
    return [*texts, acquired.secret] if acquired.secret else texts


def revoke_acquired(job: Job, acquired: Acquired) -> None:
    """End what this command began. Never raises: the child's exit code is what counts, and leases end by themselves."""
    try:
        if acquired.own:
            _gone(job, lambda left: job.broker.revoke_session(acquired.secret, timeout=left))
            job.store.drop(acquired.file)
            return
        for credential in acquired.credentials:
            _gone(job, partial(_revoke_lease, job, acquired.secret, credential.lease))
    except Problem as problem:
        ends = ", ".join(f"{one.lease} ends at {one.expires_at}" for one in acquired.credentials)
        note(f"could not revoke ({problem}): {ends}")
    except JobkeyError as error:
        note(f"could not revoke: {error.what}")


def _revoke_lease(job: Job, secret: str, lease: str, left: float) -> object:
    return job.broker.revoke_lease(secret, lease, timeout=left)


def _gone(job: Job, call: Callable[[float], Any]) -> Any:
    """Revoke with retries. What is unknown or ended already, by a person or by time, is as good as revoked: None."""
    try:
        return job.persist(call, REVOKE_PATIENCE)
    except Problem as problem:
        if problem.status not in (401, 404, 409):
            raise
        return None


# get


def get(arguments: Arguments, env: Mapping[str, str]) -> int:
    from jobkey import output, ssh
    from jobkey.emit import formats

    shape = arguments.option("format") or "json"
    if shape not in formats.FORMATS:
        from jobkey.errors import UsageError

        raise UsageError("--format is unknown", "Use one of: " + ", ".join(formats.FORMATS))
    job = Job(env, broker_url(arguments, env), talk(arguments))
    target = output.Target(shape, arguments.option("output"), arguments.flag("allow-print"), job)
    target.allowed()  # before anything is issued
    with ssh.Keys(lambda: job.store.dir.path, arguments.option("ssh-key")) as keys:
        acquired = acquire(job, wanted(arguments), keys if arguments.option("ssh-key") else None, own=False)
        try:
            masked = job.mask(secrets_of(acquired))
            text = formats.render(
                shape, acquired.credentials, prefix=arguments.flag("prefix"), field=arguments.option("field")
            )
            target.put(text, masked=masked)
        except BaseException:  # nobody has them: they shall not live on
            revoke_acquired(job, acquired)
            raise
    job.say("issued " + acquired.issuance)
    return 0


# whoami


def whoami(arguments: Arguments, env: Mapping[str, str]) -> int:
    from jobkey import describe

    job = Job(env, broker_url(arguments, env), talk(arguments))
    token, _ = job.persist(job.token)
    presents = describe.claims(token)
    try:
        named = job.persist(lambda left: job.broker.whoami(token, timeout=left))
    except Problem as problem:
        error = from_problem(problem)
        describe.show(job, presents, None, as_json=arguments.flag("json"))
        raise error from problem
    describe.show(job, presents, named, as_json=arguments.flag("json"))
    return 0


# revoke


def revoke(arguments: Arguments, env: Mapping[str, str]) -> int:
    """All sessions of this job. Whatever happens, the job does not fail for it."""
    try:
        job = Job(env, broker_url(arguments, env), talk(arguments))
        ended: list[dict[str, Any]] = []
        for file in job.store.all():
            secret = job.store.load(file).get("secret", "")
            if secret:
                ended += _revoke_one(job, file, secret)
            else:
                job.store.drop(file)
    except JobkeyError as error:
        sys.stderr.write(f"{error}\n")
        return 0
    kept = [one for one in ended if one.get("state") == "irrevocable"]
    for one in kept:
        note(f"{one.get('lease')} cannot be revoked and ends by time: {one.get('reason', '')}")
    note(f"{len(ended) - len(kept)} credentials revoked" if ended else "nothing to revoke")
    return 0


def _revoke_one(job: Job, file: str, secret: str) -> list[dict[str, Any]]:
    try:
        revoked: list[dict[str, Any]] = _gone(job, lambda left: job.broker.revoke_session(secret, timeout=left)) or []
    except Problem as problem:
        raise from_problem(problem) from problem
    job.store.drop(file)
    return revoked
