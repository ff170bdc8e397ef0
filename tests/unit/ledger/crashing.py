"""A process that writes to a ledger until it is killed, and says on standard output what was acknowledged."""

import asyncio
import resource
import signal
import sys
from pathlib import Path

from broker.errors import LedgerUnwritable
from tests.unit.ledger.story import issuance, open_ledger


async def write_forever(folder: Path) -> None:
    ledger = await open_ledger(folder)

    async def worker() -> None:
        while True:
            entry = issuance()
            await ledger.write(entry)
            print(entry.leases[0].id, flush=True)

    print("ready", flush=True)
    await asyncio.gather(*(worker() for _ in range(20)))


async def fill_the_disk(folder: Path, most: int) -> None:
    """Under a limit on the size of files, write until nothing fits; then make room and write again."""
    ledger = await open_ledger(folder)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails, as on a full disk, rather than the process
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    acknowledged, refused = 0, 0
    while refused < 3:
        results = await asyncio.gather(*(ledger.write(issuance()) for _ in range(30)), return_exceptions=True)
        good = results.count(None)
        assert good in (0, 30), "a group is written whole or not at all"
        assert all(isinstance(one, LedgerUnwritable) for one in results if one is not None), results
        acknowledged, refused = acknowledged + good, refused + (good == 0)
        assert ledger.size == acknowledged
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await asyncio.gather(*(ledger.write(issuance()) for _ in range(30)))
    print(acknowledged + 30, ledger.size, flush=True)
    await ledger.close()


if __name__ == "__main__":
    if sys.argv[1] == "forever":
        asyncio.run(write_forever(Path(sys.argv[2])))
    else:
        asyncio.run(fill_the_disk(Path(sys.argv[2]), int(sys.argv[3])))
