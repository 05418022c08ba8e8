"""The logistic function by table: near enough to the real one, exactly symmetric, monotone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.kernels.fixed_point import LOGIT_BITS, RESIDUAL_BITS, to_fixed
from streams.kernels.link_tables import TableDamagedError, arrays_digest, load_pinned
from streams.kernels.sigmoid import ONE, logistic_losses, residuals, sigmoid

logits = st.integers(-(40 << LOGIT_BITS), 40 << LOGIT_BITS)


def true_sigma(z: float) -> float:
    """Without overflow."""
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


@given(logits)
def test_sigma_is_within_the_stated_error(z: int) -> None:
    value = int(sigmoid(np.array([z]))[0]) / 2**RESIDUAL_BITS
    assert abs(value - true_sigma(z / 2**LOGIT_BITS)) <= 5.5e-8


@given(logits)
def test_sigma_of_minus_z_is_exactly_one_minus_sigma(z: int) -> None:
    both = sigmoid(np.array([z, -z]))
    assert int(both.sum()) == ONE or z == 0
    assert int(sigmoid(np.array([0]))[0]) == ONE // 2


def test_sigma_never_decreases() -> None:
    grid = np.arange(-(25 << LOGIT_BITS), 25 << LOGIT_BITS, 997, dtype=np.int64)
    assert np.all(np.diff(sigmoid(grid)) >= 0)


@given(logits, st.booleans())
def test_losses_are_within_the_stated_error(z: int, positive: bool) -> None:
    loss = int(logistic_losses(np.array([z]), np.array([positive], dtype=np.int8))[0]) / 2**RESIDUAL_BITS
    real = z / 2**LOGIT_BITS
    margin = real if positive else -real
    assert abs(loss - (math.log1p(math.exp(-abs(real))) + max(-margin, 0.0))) <= 1.3e-7


def test_residuals_never_exceed_one() -> None:
    extreme = np.array([-(2**61), -1, 0, 1, 2**61], dtype=np.int64)
    for label in (0, 1):
        assert np.all(np.abs(residuals(extreme, np.full(5, label, dtype=np.int8))) <= ONE)


def test_residuals_are_sigma_minus_label() -> None:
    z = to_fixed([0.0, 0.0], LOGIT_BITS)
    assert residuals(z, np.array([0, 1], dtype=np.int8)).tolist() == [ONE // 2, -ONE // 2]


def test_a_damaged_table_is_noticed() -> None:
    with pytest.raises(TableDamagedError, match=r"sigmoid\.npz"):
        load_pinned("sigmoid.npz", "sigmoid", ("sigma", "loss"), "00" * 32)


def test_the_digest_covers_type_shape_and_name() -> None:
    array = np.arange(4, dtype=np.int32)
    digests = {
        arrays_digest("a", (array,)),
        arrays_digest("b", (array,)),
        arrays_digest("a", (array.reshape(2, 2),)),
        arrays_digest("a", (array.view(np.uint32),)),
        arrays_digest("a", (array, array[:0])),
    }
    assert len(digests) == 5
    assert arrays_digest("a", (array.astype(">i4"),)) == arrays_digest("a", (array,))
