"""The contract of broker.backends.seam, one coroutine a promise. Each takes a Rig; test_backends runs all over the table."""

import asyncio
import json
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, get_args

import pytest
import re2
from pydantic import ValidationError

from broker.backends.seam import BackendError, Gone, Handle, StillWorks, Strict, Templated
from tests.contract.rigs.base import Rig, remember

Check = Callable[[Rig], Awaitable[None]]
CHECKS: Final[dict[str, Check]] = {}

# No target may get one of these in place of a template, whatever it does with quotes.
NEVER_INSERTED: Final = ("", "a\nb", "a\n", "a\0b", "a\rb", "\x1b[2J", "a\u202eb", "{{ job.ref }}")
PROMISED: Final = 1.0  # seconds, design promise 4


def promise(check: Check) -> Check:
    CHECKS[check.__name__] = check
    return check


@promise
async def works_for_exactly_what_the_grant_says(rig: Rig) -> None:
    minted = await rig.mint()
    assert await rig.use(minted)
    assert not await asyncio.to_thread(rig.works_outside, minted)


@promise
async def declares_what_it_is(rig: Rig) -> None:
    cls = rig.table[rig.kind]
    assert cls.kind == rig.kind
    assert timedelta(0) < cls.shortest <= cls.longest
    assert cls.revocation.endswith(".")
    assert set(cls.params_help) <= set(cls.Params.model_fields)
    for model in (cls.Settings, cls.Options, cls.Params):
        assert issubclass(model, Strict)
        model.model_json_schema()
        with pytest.raises(ValidationError):
            model.model_validate({"no_such_key": 1})


@promise
async def plan_names_it_without_input_or_output(rig: Rig) -> None:
    order = rig.order()
    with no_io():
        planned = rig.backend.plan(order)
    assert json.loads(json.dumps(planned)) == planned
    assert bool(planned) == rig.backend.trace, "a trace without a name cannot be found after a crash"
    assert not await asyncio.to_thread(rig.exists, planned)


@promise
async def a_plan_that_was_never_minted_can_be_revoked(rig: Rig) -> None:
    planned = _through_the_ledger(rig.backend.plan(rig.order()))
    for _ in range(2):
        _said_well(await rig.backend.revoke(planned))


@promise
async def revoked_within_a_second_or_says_why_not(rig: Rig) -> None:
    minted = await rig.mint()
    handle = _through_the_ledger(minted.handle)
    assert await rig.use(minted)
    answer = await rig.backend.revoke(handle)
    _said_well(answer)
    asked = time.monotonic()
    if isinstance(answer, Gone):
        while works := await rig.use(minted):
            assert time.monotonic() - asked < PROMISED
        assert not works
        assert not await asyncio.to_thread(rig.exists, handle)
    again = await rig.backend.revoke(handle)
    assert type(again) is type(answer), "revoking is idempotent"


@promise
async def secrets_are_named_and_nowhere_else(rig: Rig) -> None:
    caught = _Caught()
    root = logging.getLogger()
    before = root.level
    root.addHandler(caught)
    root.setLevel(logging.DEBUG)
    try:
        order = rig.order()
        minted = await rig.mint(order)
        await rig.backend.revoke(minted.handle)
    finally:
        root.removeHandler(caught)
        root.setLevel(before)
    assert set(minted.secrets) <= set(minted.values)
    secret = [str(minted.values[name]) for name in minted.secrets]
    assert all(secret), "a secret that is empty masks nothing"
    shown = [
        repr(minted),
        str(minted),
        f"{minted}",
        json.dumps(dict(minted.facts)),
        json.dumps(dict(minted.handle)),
        repr(rig.backend),
    ]
    shown += [repr(order), caught.text(), repr(vars(rig.backend))]
    for value in secret:
        assert not [text[:40] for text in shown if value in text]
        assert value in minted.env.values() or not minted.env
    assert minted.fingerprinted
    assert all(isinstance(value, str) for value in [*minted.facts.values(), *minted.env.values()])
    json.dumps(dict(minted.values))


@promise
async def expires_when_it_says(rig: Rig) -> None:
    brief = rig.brief()
    try:
        order = brief.order(ttl=brief.brief_ttl)
        minted = await brief.mint(order)
        assert minted.expires_at.utcoffset() == timedelta(0)
        assert order.now < minted.expires_at <= order.expires_at + timedelta(seconds=1)
        left = (minted.expires_at - datetime.now(UTC)).total_seconds()
        assert left < 60, "the rig's brief credential is not brief"
        if left > 1.5:  # a machine this busy has used the whole life up already
            assert await brief.use(minted) or datetime.now(UTC) > minted.expires_at - timedelta(seconds=1)
        await asyncio.sleep(max(0.0, (minted.expires_at - datetime.now(UTC)).total_seconds()))
        late = time.monotonic()
        while works := await brief.use(minted):
            assert time.monotonic() - late < PROMISED + 1, "the target's clock counts whole seconds, and no more"
        assert not works
    finally:
        if brief is not rig:
            await brief.close()


@promise
async def lengthened_when_renewable_and_refused_when_not(rig: Rig) -> None:
    order = rig.order(ttl=max(rig.backend.shortest, timedelta(seconds=30)))
    minted = await rig.mint(order)
    handle = _through_the_ledger(minted.handle)
    until = minted.expires_at + timedelta(minutes=5)
    assert rig.backend.renewable or not minted.renewable
    if minted.renewable:
        ends = await rig.backend.renew(handle, until)
        assert minted.expires_at < ends <= until + timedelta(seconds=1)
        assert await rig.use(minted)
        await rig.backend.revoke(handle)
        with pytest.raises(BackendError):
            await rig.backend.renew(handle, until)
    else:
        with pytest.raises(BackendError) as refused:
            await rig.backend.renew(handle, until)
        assert not refused.value.retry


@promise
async def nothing_hostile_is_minted(rig: Rig) -> None:
    assert rig.hostile
    for hostile in rig.hostile:
        try:
            order = rig.order(options=hostile.options, params=hostile.params)
        except ValidationError as error:
            assert "input_value" not in str(error), "what was written in the wrong place may be a secret"  # noqa: PT017  a later refusal is as good
            continue
        recorded: list[Handle] = []

        async def record(handle: Handle, recorded: list[Handle] = recorded) -> None:
            recorded.append(handle)

        try:
            recorded.append(rig.backend.plan(order))
            await rig.backend.mint(order, record)
        except BackendError as error:
            assert not error.retry, f"{hostile.name}: trying again cannot help"  # noqa: PT017  as above
        else:
            pytest.fail(f"{hostile.name} was minted")
        if recorded:
            _said_well(await rig.backend.revoke(recorded[-1]))
            assert not await asyncio.to_thread(rig.exists, recorded[-1])


@promise
async def templates_insert_nothing_that_needs_escaping(rig: Rig) -> None:
    for path, mark in templated(rig.table[rig.kind].Options):
        pattern = re2.compile(mark.pattern)
        assert pattern.fullmatch("main"), f"{path}: no plain word may be inserted"
        for value in NEVER_INSERTED:
            assert not pattern.fullmatch(value), f"{path} lets {value!r} in"


@promise
async def a_ledger_that_fails_leaves_nothing_behind(rig: Rig) -> None:
    order = rig.order()
    asked: list[Handle] = []

    async def record(handle: Handle) -> None:
        asked.append(handle)
        raise ConnectionError("the ledger's disk is full")

    try:
        minted = await rig.backend.mint(order, record)
    except ConnectionError:
        planned = rig.backend.plan(order)
        assert not await asyncio.to_thread(rig.exists, planned)
        assert isinstance(await rig.backend.revoke(planned), Gone)
    else:
        assert not asked, "a record that failed was ignored"
        await rig.backend.revoke(minted.handle)


@promise
async def says_so_where_nobody_answers(rig: Rig) -> None:
    backend = rig.unreachable()
    if backend is None:
        assert not rig.backend.trace, "a backend with a target needs a rig that can take it away"
        await rig.backend.ping()
        return
    await backend.start()
    order = rig.order()
    with pytest.raises(BackendError) as failed:
        await backend.mint(order, remember)
    assert failed.value.retry
    with pytest.raises(BackendError):
        await backend.ping()
    await rig.backend.ping()


class _Caught(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def text(self) -> str:
        return "\n".join(self.lines)


def templated(annotation: Any, path: str = "") -> Iterator[tuple[str, Templated]]:
    """Every Templated mark in a model, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, Strict):
        for name, info in annotation.model_fields.items():
            yield from ((f"{path}{name}", mark) for mark in info.metadata if isinstance(mark, Templated))
            yield from templated(info.annotation, f"{path}{name}.")
        return
    for mark in getattr(annotation, "__metadata__", ()):
        if isinstance(mark, Templated):
            yield path, mark
    for part in get_args(annotation):
        yield from templated(part, path)


def _through_the_ledger(handle: Handle) -> Mapping[str, Any]:
    """As recovery sees it: sealed as JSON, and read again by another process."""
    stored: Mapping[str, Any] = json.loads(json.dumps(dict(handle)))
    return stored


def _said_well(answer: Gone | StillWorks) -> None:
    assert isinstance(answer, Gone) or answer.why.strip()


_watching: list[bool] = []
_FORBIDDEN: Final = ("socket.connect", "socket.bind", "socket.getaddrinfo", "open", "subprocess.Popen", "os.system")


def _refuse_io(event: str, args: tuple[Any, ...]) -> None:
    if _watching and event in _FORBIDDEN:
        raise AssertionError(f"plan did {event} {args[:1]}")


sys.addaudithook(_refuse_io)  # cannot be taken off again, so it looks at a flag


@contextmanager
def no_io() -> Iterator[None]:
    """The interpreter itself refuses sockets, files and processes meanwhile."""
    _watching.append(True)
    try:
        yield
    finally:
        _watching.pop()
