"""Joining tags by sorting, against dictionaries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.kernels.tag_join import NOWHERE, Words, join_tags

#: Few values for each word, so that tags share one word, both, or none; all bits of the first decide the bucket.
WORDS = st.sampled_from([0, 1, 2**63, 2**63 + 1, 2**64 - 1, 3 * 2**62])
TABLES = st.lists(st.lists(st.tuples(WORDS, WORDS), max_size=6), max_size=4)
BUCKETS = st.sampled_from([1, 2, 5, 2**20])


def table_of(chunks: list[list[tuple[int, int]]]) -> list[Words]:
    return [np.array(chunk, dtype=np.uint64).reshape(-1, 2) for chunk in chunks]


@given(first=TABLES, second=TABLES, bucket_tags=BUCKETS)
def test_a_join_finds_what_a_dictionary_finds(
    first: list[list[tuple[int, int]]], second: list[list[tuple[int, int]]], bucket_tags: int
) -> None:
    join = join_tags(table_of(first), table_of(second), bucket_tags)
    own = [tag for chunk in first for tag in chunk]
    other = [tag for chunk in second for tag in chunk]
    assert join.repeated_in_first == len(own) - len(set(own))
    assert join.repeated_in_second == len(other) - len(set(other))
    assert len(join.places) == len(own)
    if join.repeated_in_first:
        return
    for tag, place in zip(own, join.places.tolist(), strict=True):
        assert other[place] == tag if tag in other else place == NOWHERE


@pytest.mark.parametrize("bucket_tags", [1, 100, 2**20])
def test_tags_that_share_a_word_are_different(bucket_tags: int) -> None:
    first = table_of([[(1, 2), (2, 1)], [(1, 1)]])
    second = table_of([[(2, 2)], [(1, 3), (1, 1)]])
    join = join_tags(first, second, bucket_tags)
    assert join.places.tolist() == [NOWHERE, NOWHERE, 2]


def test_views_into_wider_rows_are_tables() -> None:
    """The guest keeps tags and proofs side by side."""
    rows = np.arange(400, dtype=np.uint64).reshape(-1, 4)
    join = join_tags([rows[::-1, :2]], [rows[:50, :2], rows[50:, :2]], 7)
    assert join.places.tolist() == list(range(99, -1, -1))
