"""Prove a log, offline, with the public key alone: an exported copy of `/log`, or the leaves of a database.

* Every leaf is hashed again and must be canonical JSON with an id, a time and a type; every tile is compared; the root must
  be the one that the log's key signed.
* Against an older checkpoint that the auditor remembers, the tree of that size must have that root: a ledger that was
  rolled back or forked is found, which no single copy can show.
* What is wrong is named by the first leaf it touches.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from broker.ledger import canonical, merkle, tiles
from broker.ledger.checkpoint import BadNote, Checkpoint, VerifierKey, open_checkpoint
from broker.ledger.tiles import WIDTH, Tree

_MOST: Final = 50  # problems that are told apart; the rest are counted


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `leaf` and `event` name the first event it touches, where it touches one."""

    what: str
    leaf: int | None = None
    event: str | None = None

    def __str__(self) -> str:
        where = "" if self.leaf is None else f"leaf {self.leaf}{f' ({self.event})' if self.event else ''}: "
        return where + self.what


@dataclass(slots=True)
class Report:
    """What was checked and what was found."""

    checkpoint: Checkpoint | None = None
    leaves: int = 0
    problems: list[Problem] = field(default_factory=list)
    more: int = 0

    @property
    def ok(self) -> bool:
        """Nothing is wrong."""
        return not self.problems

    @property
    def first(self) -> Problem | None:
        """The problem at the lowest leaf, else the first one found."""
        return min(self.problems, key=lambda one: (one.leaf is None, one.leaf or 0), default=None)

    def add(self, what: str, leaf: int | None = None, event: str | None = None) -> None:
        """Note a problem."""
        if len(self.problems) < _MOST:
            self.problems.append(Problem(what, leaf, event))
        else:
            self.more += 1


class Chain:
    """Takes the leaves in order and holds them against tiles and checkpoints. Keeps one tile of leaves in memory."""

    def __init__(
        self,
        report: Report,
        stored: Callable[[int, int, int], bytes | None],
        *,
        size: int,
        since: Checkpoint | None = None,
        partials: bool = True,
    ) -> None:
        """`stored(level, index, width)` is the tile as the log has it, `partials` whether it keeps those at the right edge.

        `size` is the tree that was signed.
        """
        self._report = report
        self._stored = stored
        self._partials = partials
        self._since = since if since is not None and since.size <= size else None
        self._tree = Tree()
        self._hashes: list[bytes] = []
        self._events: list[str | None] = []
        if since is not None and since.size > size:
            report.add(f"the log has {size} leaves, and once had {since.size}: it was rolled back")
        self._compare_since()

    def add(self, leaf_hash: bytes, event: str | None) -> None:
        """The next leaf."""
        self._hashes.append(leaf_hash)
        self._events.append(event)
        if len(self._hashes) == WIDTH:
            self._flush()
        self._compare_since()

    def finish(self, signed: Checkpoint | None) -> None:
        """Compare the right edge and the root."""
        self._flush()
        for level, row in enumerate(self._tree.partial):
            if row and self._partials:
                index = self._tree.size >> 8 * (level + 1)
                self._compare(level, index, b"".join(row))
        self._report.leaves = self._tree.size
        if signed is None:
            return
        if self._tree.size != signed.size:
            self._report.add(f"there are {self._tree.size} leaves, and the checkpoint signs {signed.size}")
        elif self._tree.root() != signed.root:
            self._report.add(
                "the leaves do not have the root that the checkpoint signs: one was changed, moved or replaced"
            )

    def _flush(self) -> None:
        self._tree, complete = self._tree.appended(self._hashes)
        for tile in complete:
            self._compare(tile.level, tile.index, tile.hashes)
        self._hashes.clear()
        if complete:
            self._events.clear()

    def _compare(self, level: int, index: int, computed: bytes) -> None:
        width = len(computed) // merkle.HASH_SIZE
        name = tiles.path(level, index, width)
        stored = self._stored(level, index, width)
        if stored is None:
            self._report.add(f"{name} is missing")
        elif stored != computed:
            pairs = zip(tiles.hashes_of(stored), tiles.hashes_of(computed), strict=False)
            at = next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(stored) // 32, width - 1))
            leaf = (index * WIDTH + at) << 8 * level
            event = self._events[at] if level == 0 and at < len(self._events) else None
            self._report.add(f"{name} does not hold the hash that the leaves have here", leaf, event)

    def _compare_since(self) -> None:
        since = self._since
        if since is not None and self._tree.size + len(self._hashes) == since.size:
            if self._tree.appended(self._hashes)[0].root() != since.root:
                self._report.add(
                    f"the first {since.size} leaves are not those of the older checkpoint: history was rewritten"
                )
            self._since = None


def read_leaf(leaf: bytes) -> dict[str, Any]:
    """A leaf as JSON. Raises ValueError unless it is canonical and has the members that every event has."""
    try:
        body = json.loads(leaf.decode(), parse_int=_number, parse_constant=_refuse)
        same = canonical.dumps(body) == leaf
    except (ValueError, RecursionError):
        raise ValueError("the leaf is not JSON that RFC 8785 allows") from None
    if not same:
        raise ValueError("the leaf is not in canonical form")
    if not isinstance(body, dict) or not all(isinstance(body.get(name), str) for name in ("id", "time", "type")):
        raise ValueError("the leaf has no id, time and type")
    return body


def event_id(body: Mapping[str, Any] | None) -> str | None:
    """The id in a leaf."""
    return None if body is None else body["id"]


def open_signed(note: bytes, key: VerifierKey, report: Report, name: str) -> Checkpoint | None:
    """A checkpoint that `key` signed; otherwise a problem."""
    try:
        return open_checkpoint(note, key)
    except BadNote as error:
        report.add(f"{name}: {error}")
        return None


def verify_log(folder: Path, key: VerifierKey, *, since: bytes | None = None) -> Report:
    """Prove an exported copy of `/log`: `checkpoint` and `tile/` as C2SP tlog-tiles lays them out."""
    report = Report()
    note = _read(folder / "checkpoint")
    if note is None:
        report.add("checkpoint is missing")
        return report
    signed = open_signed(note, key, report, "checkpoint")
    older = None if since is None else open_signed(since, key, report, "the older checkpoint")
    if signed is None:
        return report
    report.checkpoint = signed
    chain = Chain(report, lambda *tile: _read(folder / tiles.path(*tile)), size=signed.size, since=older)
    for first in range(0, signed.size, WIDTH):
        width = min(WIDTH, signed.size - first)
        _bundle(folder, first, width, chain, report)
    chain.finish(signed)
    _strangers(folder, signed.size, report)
    return report


def _bundle(folder: Path, first: int, width: int, chain: Chain, report: Report) -> None:
    name = tiles.path(None, first // WIDTH, width)
    data = _read(folder / name)
    try:
        entries = tiles.unbundle(data or b"")
    except ValueError as error:
        entries = []
        report.add(f"{name}: {error}", first)
    if data is None:
        report.add(f"{name} is missing", first)
    elif entries and len(entries) != width:
        report.add(f"{name} holds {len(entries)} entries, not {width}", first)
    for at, leaf in enumerate(entries):
        try:
            body: dict[str, Any] | None = read_leaf(leaf)
        except ValueError as error:
            body = None
            report.add(str(error), first + at)
        chain.add(merkle.leaf_hash(leaf), event_id(body))


def _strangers(folder: Path, size: int, report: Report) -> None:
    """Every other file. A mirror keeps partial tiles of older sizes: those must be the beginnings of what is there now."""
    known = {"checkpoint"}
    for level, index, width in tiles.tiles_of(size):
        known.add(tiles.path(level, index, width))
        if level == 0:
            known.add(tiles.path(None, index, width))
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if name in known or file.is_dir():
            continue
        wanted = tiles.parse_path(name)
        now = None if wanted is None else _current(folder, wanted, size)
        data = _read(file)
        if wanted is None or now is None or data is None:
            report.add(f"{name} is no part of this log")
        elif not now.startswith(data) or not _is_width(data, wanted):
            report.add(
                f"{name} is not the beginning of the tile it became", wanted.index << 8 * ((wanted.level or 0) + 1)
            )


def _current(folder: Path, wanted: tiles.TilePath, size: int) -> bytes | None:
    count = size >> 8 * (wanted.level or 0)
    width = min(WIDTH, count - wanted.index * WIDTH)
    return _read(folder / tiles.path(wanted.level, wanted.index, width)) if width >= wanted.width else None


def _is_width(data: bytes, wanted: tiles.TilePath) -> bool:
    try:
        return (len(tiles.unbundle(data)) if wanted.level is None else len(data) / merkle.HASH_SIZE) == wanted.width
    except ValueError:
        return False


def _read(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def _number(digits: str) -> int | float:
    """RFC 8785 writes a large whole double as plain digits; reading those as a double again gives the same bytes."""
    value = int(digits) if len(digits) < 18 else float(digits)  # noqa: PLR2004  10^17 is beyond 2^53
    return value if abs(value) <= canonical.LARGEST else float(value)


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is not JSON")
