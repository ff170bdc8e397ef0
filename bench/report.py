"""The table that a person reads, and whether the goals were met."""

from dataclasses import dataclass
from typing import Final

from bench.rounds import Measured

GOAL_RATIO: Final = 3.0
GOAL_TAIL: Final = 3.0
GOAL_MEMORY: Final = 120.0
GOAL_COMMITS: Final = 1.0
GOAL_AT: Final = 32  # connections


@dataclass(frozen=True, kw_only=True)
class Goal:
    """Met where `value` is at most `limit`."""

    name: str
    value: float
    limit: float

    @property
    def met(self) -> bool:
        return self.value <= self.limit


def judge(measured: Measured) -> list[Goal]:
    """The goals of docs/performance.md, for an identity token at 32 connections."""
    line = next(line for line in measured.lines if line.subject == "identity-token" and line.connections == GOAL_AT)
    assert line.ratio is not None
    goals = [
        Goal(
            name=f"CPU of an identity token to the floors' sum, {GOAL_AT} connections",
            value=line.ratio,
            limit=GOAL_RATIO,
        ),
        Goal(name=f"p99 to p50, {GOAL_AT} connections", value=line.tail, limit=GOAL_TAIL),
        Goal(name=f"resident memory, {GOAL_AT} connections, MB", value=measured.memory[GOAL_AT], limit=GOAL_MEMORY),
    ]
    if line.commits is not None:
        goals.append(
            Goal(name=f"durable commits a request, {GOAL_AT} connections", value=line.commits, limit=GOAL_COMMITS)
        )
    return goals


def table(measured: Measured) -> str:
    """Plain text, some eighty columns."""
    out = ["", "floors, µs of CPU"]
    out += [f"  {name:<28}{cost:>9.1f}" for name, cost in measured.floors.items()]
    out += [
        "",
        f"  {'':<16}{'conns':>6}{'a second':>10}{'µs CPU':>9}{'floors x':>10}{'p50 ms':>9}{'p99 ms':>9}{'p99/p50':>9}{'commits':>9}",
    ]
    for line in measured.lines:
        ratio = "" if line.ratio is None else f"{line.ratio:.2f}"
        commits = "" if line.commits is None else f"{line.commits:.3f}"
        out.append(
            f"  {line.subject:<16}{line.connections:>6}{line.rate:>10.0f}{line.cpu:>9.1f}{ratio:>10}"
            f"{line.p50:>9.2f}{line.p99:>9.2f}{line.tail:>9.2f}{commits:>9}"
        )
    by_connections = ", ".join(f"{size:.0f} at {connections}" for connections, size in measured.memory.items())
    out += [
        "",
        f"  resident MB: {measured.memory_before:.0f} idle, {by_connections} connections, {measured.memory_after:.0f} at the end",
        "",
    ]
    return "\n".join(out)
