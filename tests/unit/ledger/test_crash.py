"""`kill -9` and a full disk, for real: what was acknowledged is there, and the whole still proves."""

import asyncio
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from broker.ledger.fsck import verify_database
from tests.unit.ledger.story import NOON, issuance, open_ledger

ROOT = Path(__file__).parents[3]
CYCLES = 15


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.unit.ledger.crashing", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def missing(folder: Path, acknowledged: set[str]) -> set[str]:
    ledger = await open_ledger(folder)
    try:
        await ledger.write(issuance())  # and it goes on
        report = await asyncio.to_thread(verify_database, folder / "ledger.db", ledger.key, now=NOON)
        assert report.ok, report.problems
        return {lease for lease in acknowledged if await ledger.lease(lease) is None}
    finally:
        await ledger.close()


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_to_kill_9(tmp_path: Path) -> None:
    chance = random.Random(8)
    acknowledged: set[str] = set()
    for _ in range(CYCLES):
        process = start("forever", str(tmp_path))
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.stderr and process.stderr.read()
        time.sleep(chance.uniform(0.0, 0.15))
        process.kill()
        out, _ = process.communicate(timeout=10)
        lines = out.split("\n")[:-1]  # the last one may be cut
        acknowledged |= set(lines)
        assert asyncio.run(missing(tmp_path, acknowledged)) == set()
    assert len(acknowledged) > CYCLES


@pytest.mark.parametrize("most", [200_000, 1_000_000])
def test_a_full_disk_acknowledges_nothing_and_is_survived(most: int, tmp_path: Path) -> None:
    process = start("full", str(tmp_path), str(most))
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    acknowledged, size = out.split()
    assert acknowledged == size
    assert int(size) > 30
    assert asyncio.run(missing(tmp_path, set())) == set()
