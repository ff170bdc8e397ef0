"""The long run: 10^6 issuances on one broker, its resident memory read on the way. Flat means that nothing is kept."""

import sys
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from bench import server
from bench.issuer import BenchIssuer
from bench.load import Plan, drive
from bench.measure import cpu_seconds, resident_megabytes
from bench.report import GOAL_MEMORY, Goal
from bench.rounds import body

BATCH: Final = 5000
GROWTH: Final = 10.0  # MB between the first tenth, when caches have filled, and the last


@dataclass(frozen=True, kw_only=True)
class Memory:
    """`samples` are pairs of issuances so far and resident MB."""

    issuances: int
    cpu: float  # µs an issuance, the end of earlier leases included
    cpu_by_tenth: list[float]  # as the ledger grows
    samples: list[tuple[int, float]]
    goals: list[Goal]


def million(folder: Path, issuer: BenchIssuer, workers: Executor, *, count: int) -> Memory:
    """Raises RuntimeError where any answer is not a credential. Tokens are ES256: signing a million of RS256 takes longer than the run."""
    samples: list[tuple[int, float]] = []
    spent: list[tuple[int, float]] = []  # issuances and CPU seconds of each batch
    with server.broker(folder, issuer=issuer.url) as subject:
        samples.append((0, resident_megabytes(subject.pid)))
        done = 0
        while done < count:
            size = min(BATCH, count - done)
            bearers = issuer.tokens(size, audience=subject.url, workers=workers, algorithm="ES256")
            begin = cpu_seconds(subject.pid)
            drive(
                Plan(
                    port=subject.port, connections=32, body=body("identity-token"), bearers=bearers, expect='"issuance"'
                )
            )
            spent.append((size, cpu_seconds(subject.pid) - begin))
            done += size
            samples.append((done, resident_megabytes(subject.pid)))
            if done % (BATCH * 10) == 0 or done == count:
                print(f"bench: {done:>9,} issuances, {samples[-1][1]:.0f} MB", file=sys.stderr, flush=True)
    tenth = max(1, len(samples) // 10)
    growth = median(size for _, size in samples[-tenth:]) - median(size for _, size in samples[tenth : 2 * tenth])
    goals = [
        Goal(name="resident memory at its most, MB", value=max(size for _, size in samples), limit=GOAL_MEMORY),
        Goal(name="growth after the first tenth, MB", value=growth, limit=GROWTH),
    ]
    parts = [spent[len(spent) * at // 10 : len(spent) * (at + 1) // 10] for at in range(10)]
    by_tenth = [_mean(part) for part in parts if part]
    return Memory(issuances=count, cpu=_mean(spent), cpu_by_tenth=by_tenth, samples=samples, goals=goals)


def _mean(batches: list[tuple[int, float]]) -> float:
    """µs an issuance."""
    return sum(cpu for _, cpu in batches) / sum(size for size, _ in batches) * 1e6
