"""Merkle trees: the values of RFC 6962, and that a proof holds for its entry, place and tree only."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.kernels.merkle import check_entry, prove_entry, tree_root

#: The entries and roots of the tests of Certificate Transparency's reference implementation.
ENTRIES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)


@pytest.mark.parametrize("size", range(9))
def test_roots_are_those_of_the_reference(size: int) -> None:
    assert tree_root(ENTRIES[:size]).hex() == ROOTS[size]


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=70), st.data())
def test_a_proof_holds_for_its_entry_and_nothing_else(entries: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(entries) - 1))
    size, root, path = len(entries), tree_root(entries), prove_entry(entries, index)
    assert check_entry(entries[index], index, size, path, root)
    assert not check_entry(entries[index] + b"!", index, size, path, root)
    assert not check_entry(entries[index], index, size, path, hashlib.sha256(root).digest())
    assert not check_entry(entries[index], index, size, (*path, bytes(32)), root)
    for other in {*range(-1, size + 1)} - {index}:
        if other not in range(size) or entries[other] != entries[index]:
            assert not check_entry(entries[index], other, size, path, root)
    if path:
        assert not check_entry(entries[index], index, size, path[:-1], root)


def test_an_inner_node_does_not_pass_for_an_entry() -> None:
    left, right = (hashlib.sha256(b"\0" + entry).digest() for entry in (b"a", b"b"))
    assert tree_root([left + right]) != tree_root([b"a", b"b"])


def test_an_entry_that_is_not_there_has_no_proof() -> None:
    for index in (-1, 3):
        with pytest.raises(IndexError, match="no entry"):
            prove_entry(ENTRIES[:3], index)
