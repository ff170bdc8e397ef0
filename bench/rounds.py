"""The rounds: floors and broker taken in turn, so that a neighbour's burst of work falls on all of them; medians at the end."""

import sys
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench import server
from bench.floors import commit, sign, verify
from bench.issuer import BenchIssuer
from bench.load import Plan, Result, drive
from bench.measure import cpu_seconds, resident_megabytes

SUBJECTS: Final = ("identity-token", "ssh-ca")
BARE: Final = ("RS256 check", "ES256 signature", "two rows in a commit of 50")
CONSTANT: Final = "constant answer"


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much to do. `bare` is the count of each bare operation, `requests` that of each line of the table."""

    rounds: int
    requests: int
    warm: int
    connections: tuple[int, ...]
    bare: int


@dataclass(frozen=True, kw_only=True)
class Line:
    """One server at one number of connections, the median of the rounds. CPU in µs of the server, latencies in ms."""

    subject: str
    connections: int
    rate: float  # answers a second
    cpu: float  # µs a request
    p50: float
    p99: float
    tail: float  # p99 / p50, the median of the rounds' own ratios
    ratio: float | None = None  # CPU to the sum of the floors, for the broker
    commits: float | None = None  # durable commits a request, for the broker


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Everything one run found. `floors` are µs of CPU."""

    floors: dict[str, float]
    lines: list[Line]
    memory_before: float  # resident MB, ready and idle
    memory: dict[
        int, float
    ]  # connections -> resident MB after the first round at that number, and at none larger before
    memory_after: float


@dataclass
class Sample:
    result: Result
    cpu: float
    commits: float | None = None


@dataclass
class Rounds:
    """One run. `workers` sign the tokens of each round just before it: a token's own maximum age is short."""

    folder: Path
    issuer: BenchIssuer
    workers: Executor
    effort: Effort
    bare: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in BARE})
    samples: dict[tuple[str, int], list[Sample]] = field(default_factory=dict)

    def run(self) -> Measured:
        """Raises RuntimeError where a server does not come up or any answer is not the one that was asked for."""
        with server.broker(self.folder, issuer=self.issuer.url) as subject, ExitStack() as servers:
            before, memory = resident_megabytes(subject.pid), {}
            size = 0
            for name in SUBJECTS:
                size = self.drive(subject, name, 1, self.effort.warm).result.bytes
            constant = servers.enter_context(server.constant(size))
            self.drive(constant, CONSTANT, 1, self.effort.warm)
            for number in range(self.effort.rounds):
                self.say(f"round {number + 1} of {self.effort.rounds}")
                for connections in self.effort.connections:
                    self.bare_floors()
                    for name, target in ((CONSTANT, constant), *((name, subject) for name in SUBJECTS)):
                        sample = self.drive(target, name, connections, self.effort.requests)
                        self.samples.setdefault((name, connections), []).append(sample)
                    if number == 0:
                        memory[connections] = resident_megabytes(subject.pid)
            after = resident_megabytes(subject.pid)
        floors = {name: median(values) * 1e6 for name, values in self.bare.items()}
        lines = [self.line(name, connections, floors) for name, connections in self.samples]
        order = (CONSTANT, *SUBJECTS)
        lines.sort(key=lambda line: (order.index(line.subject), line.connections))
        return Measured(floors=floors, lines=lines, memory_before=before, memory=memory, memory_after=after)

    def bare_floors(self) -> None:
        count = self.effort.bare
        for name, cost in zip(
            BARE, (verify.cost(count), sign.cost(count), commit.cost(count, self.folder)), strict=True
        ):
            self.bare[name].append(cost)

    def drive(self, target: server.Server, name: str, connections: int, count: int) -> Sample:
        audience = target.url
        bearers = self.issuer.tokens(count, audience=audience, workers=self.workers)
        plan = Plan(port=target.port, connections=connections, body=body(name), bearers=bearers, expect='"issuance"')
        counted = name != CONSTANT
        commits = target.metric(server.COMMITS) if counted else None
        begin = cpu_seconds(target.pid)
        result = drive(plan)
        cpu = (cpu_seconds(target.pid) - begin) / count
        after = target.metric(server.COMMITS) if counted else None
        made = (after - (commits or 0.0)) / count if after is not None else None
        return Sample(result, cpu * 1e6, made)

    def line(self, name: str, connections: int, floors: dict[str, float]) -> Line:
        samples = self.samples[name, connections]
        cpu = median(sample.cpu for sample in samples)
        floor = sum(floors.values()) + median(sample.cpu for sample in self.samples[CONSTANT, connections])
        commits = [sample.commits for sample in samples if sample.commits is not None]
        return Line(
            subject=name,
            connections=connections,
            rate=median(sample.result.answered / sample.result.seconds for sample in samples),
            cpu=cpu,
            p50=median(sample.result.p50 for sample in samples),
            p99=median(sample.result.p99 for sample in samples),
            tail=median(sample.result.p99 / sample.result.p50 for sample in samples),
            ratio=None if name == CONSTANT else cpu / floor,
            commits=median(commits) if commits else None,
        )

    @staticmethod
    def say(text: str) -> None:
        print(f"bench: {text}", file=sys.stderr, flush=True)


PUBLIC_KEY: Final = (
    Ed25519PrivateKey.generate()
    .public_key()
    .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    .decode()
)


def body(name: str) -> str:
    """What a job asks for: the same request for the broker and for the constant."""
    if name == "ssh-ca":
        return f'{{"grants":[{{"grant":"bench/ssh","params":{{"public_key":"{PUBLIC_KEY}"}}}}]}}'
    return '{"grants":["bench/token"]}'
