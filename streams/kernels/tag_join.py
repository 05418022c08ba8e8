"""Which tags of two tables are equal, by sorting, in buckets of their first bits: memory beyond the tables is bounded.

Tags are 16 bytes, as two words (little-endian uint64); a table is a sequence of arrays of shape (tags, 2), which may be
views. The tags of honest parties are uniform, so that buckets are even; others cost memory, not correctness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: What stands in the place of a tag that the other table does not have.
NOWHERE: Final = np.uint32(2**32 - 1)

#: Tags of a bucket, about: some 70 bytes each to sort.
BUCKET_TAGS: Final = 2**18
#: Each bucket reads both tables, which may lie on a disk: beyond so many (as a power of two) buckets grow instead.
BUCKET_BITS: Final = 4

Words = NDArray[np.uint64]


@dataclass(frozen=True)
class TagJoin:
    """Where each tag of the first table is in the second, and how many of either table's tags came before already."""

    places: NDArray[np.uint32]
    repeated_in_first: int
    repeated_in_second: int


def join_tags(first: Sequence[Words], second: Sequence[Words], bucket_tags: int = BUCKET_TAGS) -> TagJoin:
    """Find the tags of `first` in `second`; indices count through all arrays of a table.

    If tags of `second` repeat, the place is that of one of them.
    """
    count = sum(map(len, first))
    bits = min(((count + sum(map(len, second))) // bucket_tags).bit_length(), BUCKET_BITS)
    places = np.full(count, NOWHERE, dtype=np.uint32)
    repeated_in_first = repeated_in_second = 0
    for bucket in range(1 << bits):
        own, own_at = _pick(first, bucket, bits)
        other, other_at = _pick(second, bucket, bits)
        words = np.concatenate([other, own])
        order = np.lexsort((words[:, 1], words[:, 0]))
        words = words[order]
        same = (words[1:] == words[:-1]).all(axis=1)
        # The sort is stable: of equal tags those of the second table come first.
        before, after = order[:-1][same], order[1:][same]
        repeated_in_second += int(np.count_nonzero(after < len(other)))
        repeated_in_first += int(np.count_nonzero(before >= len(other)))
        pairs = (before < len(other)) & (after >= len(other))
        places[own_at[after[pairs] - len(other)]] = other_at[before[pairs]]
    return TagJoin(places, repeated_in_first, repeated_in_second)


def _pick(table: Sequence[Words], bucket: int, bits: int) -> tuple[Words, NDArray[np.uint32]]:
    """The tags of a table whose first bits are the bucket, and their indices."""
    tags, indices = [np.empty((0, 2), dtype=np.uint64)], [np.empty(0, dtype=np.uint32)]
    start = 0
    for words in table:
        chosen = np.arange(len(words)) if bits == 0 else np.flatnonzero(words[:, 0] >> np.uint64(64 - bits) == bucket)
        tags.append(words[chosen])
        indices.append((chosen + start).astype(np.uint32))
        start += len(words)
    return np.concatenate(tags), np.concatenate(indices)
