"""Threads for blocking libraries: bounded, with deadlines, and never in the event loop's way."""

import asyncio
import contextvars
import threading
import time
from collections.abc import Iterator

import pytest

from broker.backends.seam import BackendError
from broker.backends.workers import Workers


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Calls that wait for it hang until the test is over."""
    event = threading.Event()
    yield event
    event.set()


async def test_an_answer_and_an_error_come_back() -> None:
    workers = Workers("w")
    assert await workers.run(lambda a, b: a + b, 1, 2, deadline=5) == 3
    with pytest.raises(ZeroDivisionError):
        await workers.run(lambda: 1 / 0, deadline=5)
    workers.close()


async def test_a_call_that_hangs_is_given_up_and_the_loop_goes_on(gate: threading.Event) -> None:
    workers = Workers("w", threads=1)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.005)

    ticking = asyncio.create_task(tick())
    with pytest.raises(BackendError, match=r"did not answer within 0\.2 s") as failed:
        await workers.run(gate.wait, deadline=0.2)
    ticking.cancel()
    assert failed.value.retry
    assert ticks > 5
    workers.close()


async def test_no_more_than_so_many_run_and_no_more_than_so_many_wait(gate: threading.Event) -> None:
    workers = Workers("w", threads=2, waiting=3)
    running = 0
    lock = threading.Lock()

    def call() -> None:
        nonlocal running
        with lock:
            running += 1
        gate.wait()

    calls = [asyncio.create_task(workers.run(call, deadline=30)) for _ in range(5)]
    while running < 2:
        await asyncio.sleep(0.005)
    with pytest.raises(BackendError, match="too many calls") as failed:
        await workers.run(call, deadline=30)
    assert failed.value.retry
    assert running == 2
    gate.set()
    await asyncio.gather(*calls)
    await workers.run(call, deadline=30)
    workers.close()


async def test_a_call_that_was_given_up_keeps_its_room_until_it_ends(gate: threading.Event) -> None:
    """Else a target that hangs could be given threads without end."""
    workers = Workers("w", threads=1, waiting=0)
    with pytest.raises(BackendError, match="did not answer"):
        await workers.run(gate.wait, deadline=0.05)
    with pytest.raises(BackendError, match="too many calls"):
        await workers.run(gate.wait, deadline=0.05)
    gate.set()
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            assert await workers.run(lambda: "back", deadline=5) == "back"
            break
        except BackendError:
            await asyncio.sleep(0.01)
    else:
        pytest.fail("the room never came back")
    workers.close()


async def test_log_context_goes_along() -> None:
    request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")
    request.set("iss_1")
    workers = Workers("w")
    assert await workers.run(request.get, deadline=5) == "iss_1"
    workers.close()


async def test_after_the_end_nothing_starts() -> None:
    workers = Workers("w")
    workers.close()
    with pytest.raises(BackendError, match="shutting down") as failed:
        await workers.run(time.time, deadline=5)
    assert failed.value.retry, "recovery does it after the next start"
