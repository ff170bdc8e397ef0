"""Floor: two rows in a durable group commit of fifty pairs: the claim of a token, and an event.

SQLite as the ledger sets it (WAL, synchronous=FULL), through the standard library, with prepared rows: less is not durable.
"""

import sqlite3
from pathlib import Path
from time import process_time
from uuid import uuid4

GROUP = 50
EVENT = b"x" * 700  # a canonical `issued` event is about this long


def cost(count: int, folder: Path) -> float:
    """CPU seconds of one pair, the kernel's part of writing and syncing included. `count` is rounded down to whole groups."""
    path = folder / f"floor-{uuid4().hex}.db"
    ledger = sqlite3.connect(path, isolation_level=None)
    try:
        ledger.execute("PRAGMA journal_mode=WAL")
        ledger.execute("PRAGMA synchronous=FULL")
        ledger.execute(
            "CREATE TABLE claims (token BLOB PRIMARY KEY, session TEXT NOT NULL, until INTEGER NOT NULL) WITHOUT ROWID"
        )
        ledger.execute("CREATE TABLE events (leaf INTEGER PRIMARY KEY, body BLOB NOT NULL)")
        groups = max(1, count // GROUP)
        rows = [[(uuid4().bytes, f"ses_{number:026}", number) for number in range(GROUP)] for _ in range(groups)]
        begin = process_time()
        for group in rows:
            ledger.execute("BEGIN IMMEDIATE")
            ledger.executemany("INSERT INTO claims VALUES (?, ?, ?)", group)
            ledger.executemany("INSERT INTO events (body) VALUES (?)", [(EVENT,)] * GROUP)
            ledger.execute("COMMIT")
        return (process_time() - begin) / (groups * GROUP)
    finally:
        ledger.close()
        for file in folder.glob(path.name + "*"):
            file.unlink()
