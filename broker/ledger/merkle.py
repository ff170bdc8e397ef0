"""RFC 6962 section 2.1: the Merkle tree's hashes, and proofs made and checked. Pure.

* A leaf and a node are hashed with different first bytes, so neither can be passed off as the other.
* Proofs are checked as RFC 9162 sections 2.1.3.2 and 2.1.4.2 say; anything malformed is False, never an exception.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Final

EMPTY_ROOT: Final = sha256(b"").digest()
HASH_SIZE: Final = 32

Subtree = Callable[[int, int], bytes]  # (first leaf, one past the last) -> its Merkle tree hash


def leaf_hash(leaf: bytes) -> bytes:
    """SHA-256(0x00 || leaf)."""
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)."""
    return sha256(b"\x01" + left + right).digest()


def root(hashes: Sequence[bytes]) -> bytes:
    """The Merkle tree hash over leaf hashes, or over the roots of equal, complete subtrees and one smaller last one."""
    if not hashes:
        return EMPTY_ROOT
    level = list(hashes)
    while len(level) > 1:
        above = [sha256(b"\x01" + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
        if len(level) % 2:
            above.append(level[-1])
        level = above
    return level[0]


def split(size: int) -> int:
    """The largest power of two smaller than `size` (at least 2): where RFC 6962 divides a tree."""
    return 1 << (size - 1).bit_length() - 1


def inclusion_proof(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """RFC 6962 section 2.1.1: the siblings of a leaf from the bottom up. Raises ValueError for an index outside the tree."""
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size}")
    return _path(index, 0, size, subtree)


def _path(index: int, first: int, last: int, subtree: Subtree) -> list[bytes]:
    if last - first == 1:
        return []
    middle = first + split(last - first)
    if index < middle:
        return [*_path(index, first, middle, subtree), subtree(middle, last)]
    return [*_path(index, middle, last, subtree), subtree(first, middle)]


def consistency_proof(old: int, new: int, subtree: Subtree) -> list[bytes]:
    """RFC 6962 section 2.1.2: that the first `old` leaves are the same in both trees. Raises ValueError unless 0 < old <= new."""
    if not 0 < old <= new:
        raise ValueError(f"no proof from a tree of {old} to one of {new}")
    return _subproof(old, 0, new, subtree, whole=True)


def _subproof(old: int, first: int, last: int, subtree: Subtree, *, whole: bool) -> list[bytes]:
    if old == last:
        return [] if whole else [subtree(first, last)]
    middle = first + split(last - first)
    if old <= middle:
        return [*_subproof(old, first, middle, subtree, whole=whole), subtree(middle, last)]
    return [*_subproof(old, middle, last, subtree, whole=False), subtree(first, middle)]


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], expected: bytes) -> bool:
    """Whether the leaf hash stands at `index` in the tree of `size` with this root."""
    if not 0 <= index < size or len(leaf) != HASH_SIZE or any(len(one) != HASH_SIZE for one in proof):
        return False
    fn, sn, computed = index, size - 1, leaf
    for sibling in proof:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            computed = node_hash(sibling, computed)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            computed = node_hash(computed, sibling)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and computed == expected


def verify_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> bool:
    """Whether the tree of `new` with its root only appended to the tree of `old` with its root."""
    if not 0 <= old <= new or any(len(one) != HASH_SIZE for one in proof):
        return False
    if old in (0, new):  # nothing to prove: every tree extends the empty one, and itself
        return not proof and old_root == (new_root if old == new else EMPTY_ROOT)
    path = list(proof)
    if old & (old - 1) == 0:  # a complete tree is its own first node
        path.insert(0, old_root)
    if not path:
        return False
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    first = second = path[0]
    for node in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            first, second = node_hash(node, first), node_hash(node, second)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            second = node_hash(second, node)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and first == old_root and second == new_root
