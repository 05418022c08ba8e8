"""Merkle trees as in RFC 6962, section 2.1 (RFC 9162 has the same): a root for a list, and short proofs of one entry.

Leaves and inner nodes are hashed with different first bytes, so that no inner node can pass for an entry.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

_LEAF, _NODE = b"\0", b"\1"


def tree_root(entries: Sequence[bytes]) -> bytes:
    """The root of the tree over `entries`: 32 bytes; that of an empty list is SHA-256 of nothing."""
    if not entries:
        return hashlib.sha256().digest()
    return _root([_leaf(entry) for entry in entries])


def prove_entry(entries: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The hashes that lead from entry `index` to the root, from below. Raises `IndexError`."""
    if not 0 <= index < len(entries):
        raise IndexError(f"there is no entry {index} among {len(entries)}")
    return tuple(_path([_leaf(entry) for entry in entries], index))


def check_entry(entry: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether `path` proves that `entry` is number `index` of the `size` entries under `root` (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    node, position, last = _leaf(entry), index, size - 1
    for sibling in path:
        if last == 0:
            return False
        if position % 2 or position == last:
            node = _node(sibling, node)
            while position and not position % 2:
                position, last = position // 2, last // 2
        else:
            node = _node(node, sibling)
        position, last = position // 2, last // 2
    return last == 0 and node == root


def grow(frontier: Sequence[bytes], size: int, entry: bytes) -> tuple[bytes, ...]:
    """The frontier after one more entry: the roots of the full trees that `size` entries fall into, largest first."""
    hashes, node = list(frontier), _leaf(entry)
    while size % 2:
        node = _node(hashes.pop(), node)
        size //= 2
    return (*hashes, node)


def frontier_root(frontier: Sequence[bytes]) -> bytes:
    """The root of the tree with this frontier."""
    if not frontier:
        return tree_root(())
    *left, node = frontier
    for each in reversed(left):
        node = _node(each, node)
    return node


def _root(hashes: Sequence[bytes]) -> bytes:
    if len(hashes) == 1:
        return hashes[0]
    half = _split(len(hashes))
    return _node(_root(hashes[:half]), _root(hashes[half:]))


def _path(hashes: Sequence[bytes], index: int) -> list[bytes]:
    if len(hashes) == 1:
        return []
    half = _split(len(hashes))
    if index < half:
        return [*_path(hashes[:half], index), _root(hashes[half:])]
    return [*_path(hashes[half:], index - half), _root(hashes[:half])]


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1


def _leaf(entry: bytes) -> bytes:
    return hashlib.sha256(_LEAF + entry).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_NODE + left + right).digest()
