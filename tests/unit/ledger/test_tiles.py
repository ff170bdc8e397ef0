"""C2SP tlog-tiles: paths, bundles, and the tiles of a tree."""

import pytest

from broker.ledger import tiles
from broker.ledger.tiles import TilePath


@pytest.mark.parametrize(
    ("level", "index", "width", "path"),
    [
        pytest.param(0, 1_234_067, 256, "tile/0/x001/x234/067", id="the specification's example"),
        pytest.param(0, 0, 256, "tile/0/000", id="zero"),
        pytest.param(1, 999, 1, "tile/1/999.p/1", id="three digits"),
        pytest.param(63, 1000, 255, "tile/63/x001/000.p/255", id="four digits"),
        pytest.param(None, 17, 256, "tile/entries/017", id="entries"),
        pytest.param(None, 1_000_000, 3, "tile/entries/x001/x000/000.p/3", id="partial entries"),
    ],
)
def test_paths(level: int | None, index: int, width: int, path: str) -> None:
    assert tiles.path(level, index, width) == path
    assert tiles.parse_path(path) == TilePath(level, index, width)


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/0", "tile/0/00", "tile/0/0000", "tile/00/000", "tile/64/000", "tile/-1/000", "tile/0/x000/000",
        "tile/0/x001/x234/67", "tile/0/001/234", "tile/0/x001", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01",
        "tile/0/000.p/", "tile/0/000/", "/tile/0/000", "tile/entries/../../ledger.db", "tile/0/\u0660\u0660\u0660", "tile/0/000\n", "",
        "tile/0/" + "x001/" * 300 + "000",
    ],
)  # fmt: skip
def test_another_spelling_is_no_path(path: str) -> None:
    assert tiles.parse_path(path) is None


def test_the_specifications_tree_of_70000() -> None:
    found = list(tiles.tiles_of(70_000))
    assert len([1 for level, _, width in found if (level, width) == (0, 256)]) == 273
    assert (0, 273, 112) in found
    assert (1, 0, 256) in found
    assert (1, 1, 17) in found
    assert (2, 0, 1) in found
    assert len(found) == 273 + 1 + 1 + 1 + 1


def test_a_tree_of_256_has_a_full_tile_and_a_partial_one_above() -> None:
    assert list(tiles.tiles_of(256)) == [(0, 0, 256), (1, 0, 1)]


def test_bundles_round_trip_and_notice_a_cut() -> None:
    entries = [b"", b"a", b"x" * 65535]
    data = tiles.bundle(entries)
    assert data[:5] == b"\x00\x00\x00\x01a"
    assert tiles.unbundle(data) == entries
    for cut in (1, 3, 6, len(data) - 1):
        with pytest.raises(ValueError, match="ends inside"):
            tiles.unbundle(data[:cut])
