"""Read another process's CPU time and memory, and summarise latencies. Linux."""

import math
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path


def cpu_seconds(pid: int) -> float:
    """User and kernel time of all the process's threads, ended ones too, in nanosecond steps.

    The clock's number is that of `clock_getcpuclockid`: the complement of the pid, shifted, with CPUCLOCK_SCHED.
    """
    return time.clock_gettime(~pid << 3 | 2)


def resident_megabytes(pid: int) -> float:
    """VmRSS. Raises ProcessLookupError where the process has ended."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(f"process {pid} has ended")


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that `share` of the ordered values do not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


def stop(process: subprocess.Popen[str]) -> None:
    """End it politely, then for good."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()
