"""The RFC 6962 tree against the vectors that Certificate Transparency's implementations share."""

import pytest

from broker.ledger import merkle

LEAVES = [bytes.fromhex(leaf) for leaf in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
ROOTS = [bytes.fromhex(root) for root in (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)]  # fmt: skip
A, B, C, D, E, F, G, H = (
    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
)
I, J = (  # noqa: E741
    "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
    "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
)
INCLUSION = [(0, 8, [A, B, C]), (5, 8, [D, E, F]), (2, 3, [G]), (1, 5, [H, B, D])]
CONSISTENCY = [(1, 1, []), (1, 8, [A, B, C]), (6, 8, [I, E, F]), (2, 5, [B, D]), (6, 7, [I, J, F])]

HASHES = [merkle.leaf_hash(leaf) for leaf in LEAVES]


def subtree(first: int, last: int) -> bytes:
    return merkle.root(HASHES[first:last])


@pytest.mark.parametrize("size", range(9))
def test_roots(size: int) -> None:
    assert merkle.root(HASHES[:size]) == ROOTS[size]


@pytest.mark.parametrize(("index", "size", "proof"), INCLUSION)
def test_inclusion(index: int, size: int, proof: list[str]) -> None:
    path = [bytes.fromhex(node) for node in proof]
    assert merkle.inclusion_proof(index, size, subtree) == path
    assert merkle.verify_inclusion(index, size, HASHES[index], path, ROOTS[size])


@pytest.mark.parametrize(("old", "new", "proof"), CONSISTENCY)
def test_consistency(old: int, new: int, proof: list[str]) -> None:
    path = [bytes.fromhex(node) for node in proof]
    assert merkle.consistency_proof(old, new, subtree) == path
    assert merkle.verify_consistency(old, new, path, ROOTS[old], ROOTS[new])


@pytest.mark.parametrize(("index", "size", "proof"), INCLUSION)
def test_a_corrupt_inclusion_proof_fails(index: int, size: int, proof: list[str]) -> None:
    path, leaf, root = [bytes.fromhex(node) for node in proof], HASHES[index], ROOTS[size]
    assert not merkle.verify_inclusion(index - 1, size, leaf, path, root)
    assert not merkle.verify_inclusion(index + 1, size, leaf, path, root)
    assert not merkle.verify_inclusion(index ^ 2, size, leaf, path, root)
    assert not merkle.verify_inclusion(index, size * 2, leaf, path, root)
    assert not merkle.verify_inclusion(index, size // 2, leaf, path, root)
    assert not merkle.verify_inclusion(index, size, b"not a hash", path, root)
    assert not merkle.verify_inclusion(index, size, leaf, path, ROOTS[0])
    assert not merkle.verify_inclusion(index, size, leaf, [*path, root], root)
    assert not merkle.verify_inclusion(index, size, leaf, [root, *path], root)
    assert not merkle.verify_inclusion(index, size, leaf, [*path, b""], root)
    assert not merkle.verify_inclusion(index, size, leaf, path[:-1], root)


@pytest.mark.parametrize(("old", "new", "proof"), [case for case in CONSISTENCY if case[2]])
def test_a_corrupt_consistency_proof_fails(old: int, new: int, proof: list[str]) -> None:
    path, first, second = [bytes.fromhex(node) for node in proof], ROOTS[old], ROOTS[new]
    assert not merkle.verify_consistency(old - 1, new, path, first, second)
    assert not merkle.verify_consistency(old + 1, new, path, first, second)
    assert not merkle.verify_consistency(old, new * 2, path, first, second)
    assert not merkle.verify_consistency(old, new // 2, path, first, second)
    assert not merkle.verify_consistency(old, new, path, second, first)
    assert not merkle.verify_consistency(old, new, [], first, second)
    assert not merkle.verify_consistency(old, new, [*path, second], first, second)
    assert not merkle.verify_consistency(old, new, [first, *path], first, second)
    assert not merkle.verify_consistency(old, new, path[:-1], first, second)
    for at in range(len(path)):
        bent = [bytes([node[0] ^ 16]) + node[1:] if at == i else node for i, node in enumerate(path)]
        assert not merkle.verify_consistency(old, new, bent, first, second)


@pytest.mark.parametrize(
    ("old", "new", "first", "second", "good"),
    [
        pytest.param(0, 0, ROOTS[0], ROOTS[0], True, id="empty and empty"),
        pytest.param(0, 5, ROOTS[0], ROOTS[5], True, id="everything extends the empty tree"),
        pytest.param(0, 5, ROOTS[1], ROOTS[5], False, id="an empty tree with a root of its own"),
        pytest.param(3, 3, ROOTS[3], ROOTS[3], True, id="itself"),
        pytest.param(3, 3, ROOTS[3], ROOTS[4], False, id="same size, other root"),
        pytest.param(2, 1, ROOTS[2], ROOTS[1], False, id="back in time"),
        pytest.param(1, 2, ROOTS[1], ROOTS[2], False, id="no proof"),
    ],
)
def test_consistency_without_a_proof(old: int, new: int, first: bytes, second: bytes, good: bool) -> None:
    assert merkle.verify_consistency(old, new, [], first, second) is good


def test_proofs_of_what_is_not_there_are_refused() -> None:
    for index, size in ((0, 0), (8, 8), (-1, 8)):
        with pytest.raises(ValueError, match="not in a tree"):
            merkle.inclusion_proof(index, size, subtree)
    for old, new in ((0, 1), (2, 1)):
        with pytest.raises(ValueError, match="no proof"):
            merkle.consistency_proof(old, new, subtree)
