"""Write a ledger's log as files, laid out as `/log` serves it: anyone can then prove it with `audit verify --log`."""

import os
from pathlib import Path

from broker.errors import ConfigError
from broker.ledger import tiles
from broker.ledger.reader import Reader
from broker.ledger.writer import load_tree


def export_log(reader: Reader, folder: Path) -> int:
    """Export the log at the reader's snapshot into a new or empty folder; how many leaves. Raises ConfigError, OSError.

    The checkpoint is written last: a folder without one is an export that did not finish.
    """
    stored = reader.checkpoint()
    if stored is None:
        raise ConfigError("the ledger has no checkpoint; the broker writes one when it first starts")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: is not an empty folder; give a new one")
    folder.mkdir(parents=True, exist_ok=True)
    size, note = stored
    tree = load_tree(reader, size)
    for level, index, width in tiles.tiles_of(size):
        partial = width < tiles.WIDTH
        hashes = b"".join(tree.partial[level]) if partial else reader.tile(level, index)
        _write(folder, tiles.path(level, index, width), hashes)
        if level == 0:
            _write(folder, tiles.path(None, index, width), reader.entries(index, width))
    _write(folder, "checkpoint", note)
    return size


def _write(folder: Path, name: str, data: bytes | None) -> None:
    if data is None:
        raise ConfigError(f"{name} is missing in the ledger; run `jobkey-broker audit verify`")
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as opened:
        opened.write(data)
        opened.flush()
        os.fsync(opened.fileno())
