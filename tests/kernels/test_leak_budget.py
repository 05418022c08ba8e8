"""The leak budget: the figures of the design, and rare columns found by their support."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.kernels.leak_budget import (
    RareColumn,
    bits,
    check_budget,
    label_entropy,
    rare_columns,
    shared_scalars,
)


def test_default_credit_is_within_its_budget() -> None:
    """21,000 rows, 22 % positive: 16 kbit of labels, 8.0 allowed; 12 passes of 10 columns carry 2.4 and scalars."""
    budget = check_budget(12, 10, shared_scalars(12), 21_000, 4_645)
    assert budget.limit == pytest.approx(8_000, rel=0.01)
    assert budget.bits == 2_400 + 20 * (78 + 12)
    assert not budget.exceeded and "within the limit of" in budget.describe()


def test_a_small_table_exceeds_it() -> None:
    budget = check_budget(12, 20, 0, 398, 148)
    assert budget.bits == 4_800 and budget.exceeded
    assert (
        budget.describe()
        == "gradients and scalars carry 4800 bits, more than the limit of 189 bits (half the labels' entropy)"
    )


def test_a_host_that_does_not_know_the_labels_assumes_one_bit_a_row() -> None:
    assert check_budget(1, 1, 0, 1_000, None).limit == 500.0


def test_bits_count_gradients_and_scalars_alike() -> None:
    assert bits(3, 5, 2) == 20 * 17
    assert shared_scalars(3) == 1 + 2 + 3 + 3


@given(st.integers(1, 10_000), st.data())
def test_the_entropy_is_symmetric_and_at_most_one_bit_a_row(n: int, data: st.DataObject) -> None:
    positives = data.draw(st.integers(0, n))
    entropy = label_entropy(n, positives)
    assert entropy == label_entropy(n, n - positives)
    assert 0.0 <= entropy <= n
    share = positives / n
    expected = -sum(p * np.log2(p) for p in (share, 1 - share) if p > 0) * n
    assert entropy == pytest.approx(expected, abs=1e-6)


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="11 positive labels in 10 rows"):
        label_entropy(10, 11)


@pytest.mark.parametrize(("support", "rare"), [(0, False), (1, True), (49, True), (50, False), (500, False)])
def test_a_column_is_rare_below_fifty_rows_off_its_mode(support: int, rare: bool) -> None:
    """A constant column has gradient zero and tells nothing; 1 to 49 rows would get their label sum told."""
    column = np.zeros(1_000, dtype=np.int32)
    column[:support] = np.arange(1, support + 1)
    features = np.column_stack([np.arange(1_000, dtype=np.int32), column])
    assert rare_columns(features) == ((RareColumn(1, support),) if rare else ())
