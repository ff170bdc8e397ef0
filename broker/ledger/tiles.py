"""C2SP tlog-tiles: the tree as tiles of 256 hashes, their paths, and entry bundles. Pure.

* A tree of any size is held as its partial tiles: at most 255 hashes a level, so memory does not grow with the log.
* `Tree.appended` returns a new tree and the tiles that became complete; a transaction that fails simply drops it.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from broker.ledger import merkle

WIDTH: Final = 256
DEEPEST: Final = 63
LONGEST_ENTRY: Final = 0xFFFF  # the length prefix has two bytes
_PATH: Final = re.compile(r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/)*)([0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


@dataclass(frozen=True, slots=True)
class CompleteTile:
    """256 hashes, immutable from now on."""

    level: int
    index: int
    hashes: bytes


@dataclass(frozen=True, slots=True)
class TilePath:
    """What a path asks for; `level` is None for a bundle of entries."""

    level: int | None
    index: int
    width: int


def path(level: int | None, index: int, width: int = WIDTH) -> str:
    """`tile/0/x001/x234/067`, `tile/entries/000.p/17`."""
    digits = f"{index:03d}"
    digits = digits.rjust(-(-len(digits) // 3) * 3, "0")
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    number = "/".join(["x" + group for group in groups[:-1]] + groups[-1:])
    return f"tile/{'entries' if level is None else level}/{number}{'' if width == WIDTH else f'.p/{width}'}"


def parse_path(text: str) -> TilePath | None:
    """What `path` wrote; None for anything else, such as another spelling of the same number."""
    match = _PATH.fullmatch(text)
    if match is None or len(match[2]) > 4 * 6:
        return None
    level = None if match[1] == "entries" else int(match[1])
    width = WIDTH if match[4] is None else int(match[4])
    index = int(match[2].replace("x", "").replace("/", "") + match[3])
    found = TilePath(level, index, width)
    return found if (level or 0) <= DEEPEST and path(level, index, width) == text else None


def tiles_of(size: int) -> Iterator[tuple[int, int, int]]:
    """(level, index, width) of every hash tile of a tree: the complete ones of each level, then the level's partial one."""
    level = 0
    while size:
        yield from ((level, index, WIDTH) for index in range(size // WIDTH))
        if size % WIDTH:
            yield level, size // WIDTH, size % WIDTH
        size, level = size // WIDTH, level + 1


def bundle(entries: Sequence[bytes]) -> bytes:
    """An entry bundle: each entry after its length as a big-endian uint16."""
    return b"".join([part for entry in entries for part in (len(entry).to_bytes(2), entry)])


def unbundle(data: bytes) -> list[bytes]:
    """The entries of a bundle. Raises ValueError where it ends inside an entry."""
    entries, at = [], 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 2])
        entry = data[at + 2 : at + 2 + length]
        if at + 2 > len(data) or len(entry) != length:
            raise ValueError("the bundle ends inside an entry")
        entries.append(entry)
        at += 2 + length
    return entries


def hashes_of(tile: bytes) -> list[bytes]:
    """A tile's hashes."""
    return [tile[at : at + merkle.HASH_SIZE] for at in range(0, len(tile), merkle.HASH_SIZE)]


@dataclass(frozen=True, slots=True)
class Tree:
    """A log's Merkle tree as its right edge: `partial[l]` holds the level's hashes that fill no tile yet.

    `peaks[l]` are the roots of the complete subtrees of that row, the largest first: with them a leaf costs one hash more
    and a root a few, whatever the size.
    """

    size: int = 0
    partial: tuple[tuple[bytes, ...], ...] = ()
    peaks: tuple[tuple[bytes, ...], ...] = ()

    @classmethod
    def of(cls, size: int, partial: Sequence[Sequence[bytes]]) -> "Tree":
        """The tree whose right edge was read from somewhere."""
        return cls(size, tuple(map(tuple, partial)), tuple(tuple(_climb([], 0, row)[0]) for row in partial))

    def appended(self, leaf_hashes: Sequence[bytes]) -> tuple["Tree", list[CompleteTile]]:
        """The tree with these leaves after its own, and the tiles that this completed, lowest level first."""
        done: list[CompleteTile] = []
        partial, peaks = list(self.partial), list(self.peaks)
        rising: Sequence[bytes] = leaf_hashes
        level, count = 0, self.size  # `count`: hashes at this level before
        while rising:
            if level == len(partial):
                partial.append(())
                peaks.append(())
            row = (*partial[level], *rising)
            edge, roots = _climb(list(peaks[level]), len(partial[level]), rising)
            full = len(roots) * WIDTH
            done += [
                CompleteTile(level, (count + at) // WIDTH, b"".join(row[at : at + WIDTH]))
                for at in range(0, full, WIDTH)
            ]
            partial[level], peaks[level] = row[full:], tuple(edge)
            rising, level, count = roots, level + 1, count // WIDTH
        return Tree(self.size + len(leaf_hashes), tuple(partial), tuple(peaks)), done

    def root(self) -> bytes:
        """The RFC 6962 root: the peaks, joined from the smallest up."""
        joined: bytes | None = None
        for level in self.peaks:
            for peak in reversed(level):
                joined = peak if joined is None else merkle.node_hash(peak, joined)
        return merkle.EMPTY_ROOT if joined is None else joined


def _climb(edge: list[bytes], count: int, hashes: Sequence[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Put hashes after a row of `count` with the peaks `edge`; its peaks then, and the roots of the tiles that filled."""
    roots: list[bytes] = []
    for one in hashes:
        joined = one
        count += 1
        bits = count
        while not bits & 1:
            joined = merkle.node_hash(edge.pop(), joined)
            bits >>= 1
        if count == WIDTH:
            roots.append(joined)
            count = 0
        else:
            edge.append(joined)
    return edge, roots
