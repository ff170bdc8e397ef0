"""The load generator: raw HTTP/1.1 over kept-alive sockets, in a process of its own, so cheap that the server is what is measured.

A closed loop: each connection sends its next request when its answer is there. Requests are made before the clock starts and
each is sent once. `python -m bench.load` reads one Plan as JSON from standard input and writes one Result as JSON.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any

import uvloop

from bench.measure import percentile

SHOWN_OF_A_FAILURE = 500  # bytes; a problem body names no secret


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`bearers` are sent in order, one a request, over `connections` sockets. `body` is the same for all."""

    port: int
    connections: int
    body: str
    bearers: list[str] = field(repr=False)
    path: str = "/v1/credentials"
    expect: str = ""  # text that every good answer holds

    def requests(self) -> list[bytes]:
        body = self.body.encode()
        head = f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Type: application/json\r\n"
        tail = b"\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        return [f"{head}Authorization: Bearer {bearer}".encode() + tail for bearer in self.bearers]


@dataclass(frozen=True, kw_only=True)
class Result:
    """Seconds of wall clock; latencies in milliseconds. `failures` maps a status, or what went wrong, to its count."""

    answered: int
    seconds: float
    p50: float
    p99: float
    bytes: int  # of the last answer's body
    failures: dict[str, int]
    first_failure: str


class Connection(asyncio.Protocol):
    """One socket: send, wait for the whole answer, send the next."""

    def __init__(self, run: "Run") -> None:
        self.run = run
        self.buffer = b""
        self.sent_at = 0.0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a TCP transport, as create_connection promises

    def send_next(self) -> None:
        assert self.transport is not None
        request = next(self.run.requests, None)
        if request is None:
            transport, self.transport = self.transport, None
            transport.close()
            self.run.ended()
            return
        self.sent_at = perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        buffer = self.buffer + data if self.buffer else data
        end = buffer.find(b"\r\n\r\n")
        if end >= 0:
            at = buffer.lower().find(b"\r\ncontent-length:", 0, end)
            if at < 0:
                self.fail("an answer without Content-Length")
                return
            body = end + 4
            length = int(buffer[at + 17 : buffer.find(b"\r\n", at + 2)])
            if len(buffer) >= body + length:
                self.run.record(perf_counter() - self.sent_at, buffer, body)
                self.buffer = b""
                self.send_next()
                return
        self.buffer = buffer

    def connection_lost(self, _: Exception | None) -> None:
        if self.transport is not None:
            self.fail("the connection was closed in the middle")

    def fail(self, why: str) -> None:
        transport, self.transport = self.transport, None
        self.run.failed(why, self.buffer)
        if transport is not None:
            transport.abort()
        self.run.ended()


class Run:
    """What the connections share: the requests still to send, and what came back."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.expect = plan.expect.encode()
        self.requests: Iterator[bytes] = iter(plan.requests())
        self.latencies: list[float] = []
        self.failures: dict[str, int] = {}
        self.first_failure = ""
        self.size = 0
        self.open = plan.connections
        self.done = asyncio.Event()

    def record(self, seconds: float, answer: bytes, body: int) -> None:
        self.latencies.append(seconds)
        self.size = len(answer) - body
        if answer[9:12] != b"200" or self.expect not in answer:
            self.failed(
                answer[9:12].decode("latin-1"), answer[body:] if answer[9:12] != b"200" else b"not what was expected"
            )

    def failed(self, why: str, answer: bytes) -> None:
        self.failures[why] = self.failures.get(why, 0) + 1
        self.first_failure = self.first_failure or answer[:SHOWN_OF_A_FAILURE].decode("utf-8", "replace")

    def ended(self) -> None:
        self.open -= 1
        if not self.open:
            self.done.set()

    async def go(self) -> Result:
        loop = asyncio.get_running_loop()
        connections = [
            (await loop.create_connection(lambda: Connection(self), "127.0.0.1", self.plan.port))[1]
            for _ in range(self.plan.connections)
        ]
        begin = perf_counter()
        for connection in connections:
            connection.send_next()
        await self.done.wait()
        seconds = perf_counter() - begin
        ordered = sorted(self.latencies) or [0.0]
        return Result(
            answered=len(self.latencies),
            seconds=seconds,
            p50=percentile(ordered, 0.50) * 1000,
            p99=percentile(ordered, 0.99) * 1000,
            bytes=self.size,
            failures=self.failures,
            first_failure=self.first_failure,
        )


def drive(plan: Plan) -> Result:
    """Run the plan in a process of its own. Raises RuntimeError where any answer was not a good one."""
    command = [sys.executable, "-m", "bench.load"]
    child = subprocess.run(command, input=json.dumps(asdict(plan)), capture_output=True, text=True, check=False)
    if child.returncode:
        raise RuntimeError(f"the load generator failed:\n{child.stderr}")
    result = Result(**json.loads(child.stdout))
    if result.failures or result.answered != len(plan.bearers):
        raise RuntimeError(
            f"of {len(plan.bearers)} requests failed {result.failures}; the first answer: {result.first_failure}"
        )
    return result


def main() -> None:
    answer: dict[str, Any] = asdict(uvloop.run(Run(Plan(**json.load(sys.stdin))).go()))
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
