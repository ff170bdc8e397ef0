"""`python -m bench`: run everything, print the table, write build/bench.json."""

import argparse
import json
import os
import platform
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import policies
from bench.issuer import BenchIssuer
from bench.memory import million
from bench.report import Goal, judge, table
from bench.rounds import Effort, Rounds

FULL = Effort(rounds=3, requests=4000, warm=500, connections=(1, 8, 32, 128), bare=4000)
QUICK = Effort(rounds=1, requests=1000, warm=200, connections=(1, 32), bare=1000)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure issuances against floors of the same run."
    )
    parser.add_argument("--quick", action="store_true", help="one round, fewer requests: half a minute, rough numbers")
    parser.add_argument(
        "--million", action="store_true", help="10^6 issuances on one broker, and its memory on the way"
    )
    parser.add_argument("--policies", action="store_true", help="load and decide with ten thousand policies, only that")
    parser.add_argument("--strict", action="store_true", help="exit 1 where a goal is missed")
    parser.add_argument(
        "--json", type=Path, default=Path("build/bench.json"), metavar="FILE", help="default: %(default)s"
    )
    parser.add_argument(
        "--folder", type=Path, help="where the ledger goes; default: a fresh folder on the disk of build/"
    )
    args = parser.parse_args()

    args.json.parent.mkdir(parents=True, exist_ok=True)
    machine = {"python": platform.python_version(), "cores": os.cpu_count(), "system": platform.platform()}
    if args.policies:
        with tempfile.TemporaryDirectory(prefix="bench-", dir=args.folder or args.json.parent) as folder:
            many = policies.measured(Path(folder), count=1_000 if args.quick else 10_000)
        print(policies.table(many))
        return _told({"machine": machine, "policies": asdict(many)}, many.goals, args.json, strict=args.strict)
    issuer = BenchIssuer()
    # A ledger in memory would not be durable: /tmp is often a tmpfs, the checkout's own disk never is.
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=args.folder or args.json.parent) as folder,
        ProcessPoolExecutor(os.cpu_count()) as workers,
        issuer.served(),
    ):
        if args.million:
            report = million(Path(folder), issuer, workers, count=20_000 if args.quick else 1_000_000)
            outcome = report.goals
            written: dict[str, Any] = {"machine": machine, "memory": asdict(report)}
        else:
            effort = QUICK if args.quick else FULL
            measured = Rounds(Path(folder), issuer, workers, effort).run()
            outcome = judge(measured)
            print(table(measured))
            written = {"machine": machine, "effort": asdict(effort), **asdict(measured)}
            many = policies.measured(Path(folder) / "ten-thousand", count=1_000 if args.quick else 10_000)
            print(policies.table(many))
            outcome += many.goals
            written["policies"] = asdict(many)
    return _told(written, outcome, args.json, strict=args.strict)


def _told(written: dict[str, Any], outcome: list[Goal], file: Path, *, strict: bool) -> int:
    """Write the numbers down and say which goals were met; the exit code."""
    written["goals"] = [asdict(goal) for goal in outcome]
    file.write_text(json.dumps(written, indent=1) + "\n")
    for goal in outcome:
        print(f"  {'met   ' if goal.met else 'MISSED'}  {goal.name}: {goal.value:.2f} (goal: at most {goal.limit:g})")
    print(f"\nwritten to {file}")
    return 1 if strict and not all(goal.met for goal in outcome) else 0


if __name__ == "__main__":
    sys.exit(main())
