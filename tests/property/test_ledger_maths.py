"""The ledger's pure parts against naive ones."""

import hashlib

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.ledger import canonical, merkle, tiles
from broker.ledger.tiles import Tree
from broker.ledger.verify import read_leaf

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.integers(-(2**53) - 2, -(2**53) + 2) | st.integers(2**53 - 2, 2**53 + 2)
    | st.floats() | st.text(st.characters(), max_size=12) | st.text(st.sampled_from('\x00\x1f\x7f"\\/\u2028\ud800\ue000\U0001f511é'), max_size=5)
)  # fmt: skip
KEYS = st.text(st.sampled_from('ab\x00"\ud83d\udd11\ue000\uffff\U0001f511é1'), max_size=3) | st.integers(0, 3)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=25
)


def outcome(dumps: object, value: object) -> bytes | type:
    try:
        return dumps(value)  # type: ignore[operator]
    except ValueError:
        return ValueError


@settings(max_examples=600, deadline=None)
@given(VALUES)
def test_the_fast_encoder_is_rfc8785(value: object) -> None:
    assert outcome(canonical.dumps, value) == outcome(rfc8785.dumps, value)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.text(st.characters(), max_size=4), VALUES, max_size=6))
def test_what_is_recordable_is_canonical_and_reads_back_the_same(value: dict[str, object]) -> None:
    leaf = canonical.dumps({**canonical.recordable(value), "id": "evt_1", "time": "t", "type": "x"})
    assert canonical.dumps(read_leaf(leaf)) == leaf


@pytest.mark.parametrize("spoilt", [b'{"a":1, "b":2}', b'{"b":1,"a":2}', b'{"a":1.0}', b'{"a":1,"a":1}', b'{"a":NaN}', b'{"a":"\\u0061"}', b"\xff", b"[]", b'{"a":1e2}'])  # fmt: skip
def test_another_spelling_of_a_leaf_is_refused(spoilt: bytes) -> None:
    with pytest.raises(ValueError, match="leaf"):
        read_leaf(spoilt)


def naive_root(hashes: list[bytes]) -> bytes:
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    return hashlib.sha256(b"\x01" + naive_root(hashes[:k]) + naive_root(hashes[k:])).digest()


HASHES = [hashlib.sha256(n.to_bytes(4)).digest() for n in range(70_000)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 700), max_size=6))
def test_a_tree_grown_in_any_steps_is_the_naive_tree(steps: list[int]) -> None:
    tree, done = Tree(), {}
    for step in steps:
        tree, complete = tree.appended(HASHES[tree.size : tree.size + step])
        done |= {(tile.level, tile.index): tile.hashes for tile in complete}
    assert tree.size == sum(steps)
    assert tree.root() == naive_root(HASHES[: tree.size])
    for level, index, width in tiles.tiles_of(tree.size):
        span = 256**level
        wanted = b"".join(
            naive_root(HASHES[(index * 256 + i) * span : (index * 256 + i + 1) * span]) for i in range(width)
        )
        assert (done.pop((level, index)) if width == 256 else b"".join(tree.partial[level])) == wanted
    assert not done


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 66_000])
def test_a_tree_of_three_levels(size: int) -> None:
    tree, _ = Tree().appended(HASHES[:size])
    assert tree.root() == naive_root(HASHES[:size])
    assert sum(map(len, tree.partial)) <= 3 * 255


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 300), st.data())
def test_proofs_verify_and_no_other_does(size: int, data: st.DataObject) -> None:
    def subtree(first: int, last: int) -> bytes:
        return naive_root(HASHES[first:last])

    index = data.draw(st.integers(0, size - 1))
    root = naive_root(HASHES[:size])
    proof = merkle.inclusion_proof(index, size, subtree)
    assert merkle.verify_inclusion(index, size, HASHES[index], proof, root)
    other = data.draw(st.integers(0, size - 1).filter(lambda one: size == 1 or one != index))
    assert size == 1 or not merkle.verify_inclusion(other, size, HASHES[index], proof, root)
    old = data.draw(st.integers(1, size))
    path = merkle.consistency_proof(old, size, subtree)
    old_root = naive_root(HASHES[:old])
    assert merkle.verify_consistency(old, size, path, old_root, root)
    assert not merkle.verify_consistency(old, size, path, HASHES[-1], root)
    assert not merkle.verify_consistency(old, size, path, old_root, HASHES[-1])


@settings(max_examples=200, deadline=None)
@given(
    st.text(max_size=40)
    | st.from_regex(r"tile/(entries|[0-9]{1,2})/(x[0-9]{3}/){0,3}[0-9]{3}(\.p/[0-9]{1,3})?", fullmatch=True)
)
def test_a_path_that_parses_is_the_one_that_is_written(path: str) -> None:
    found = tiles.parse_path(path)
    assert found is None or tiles.path(found.level, found.index, found.width) == path
