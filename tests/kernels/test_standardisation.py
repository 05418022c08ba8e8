"""Standardisation: scikit-learn's numbers, but the same bits whatever the row order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from streams.kernels.fixed_point import FX
from streams.kernels.standardisation import Standardisation, fit_standardisation, standardise

tables = hnp.arrays(
    np.float64, st.tuples(st.integers(2, 30), st.integers(1, 4)), elements=st.floats(-1e6, 1e6, width=32)
)


@given(tables, st.randoms(use_true_random=False))
def test_row_order_changes_no_bit(values: NDArray[np.float64], random: object) -> None:
    order = list(range(values.shape[0]))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert fit_standardisation(values) == fit_standardisation(values[order])


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_scikit_learn_to_the_last_fractional_bit(seed: int) -> None:
    values = np.random.RandomState(seed).standard_t(3, size=(400, 6)) * [1, 10, 0.01, 5, 1e6, 3] + [0, 5, 9, -4, 1e7, 1]
    ours = standardise(values, fit_standardisation(values), 8.0)
    theirs = np.clip(StandardScaler().fit_transform(values), -8.0, 8.0) * 2**FX
    assert np.abs(ours - theirs).max() <= 0.5 + 1e-6


def test_a_constant_column_is_reported_and_becomes_zeros_even_on_other_rows() -> None:
    """0.1 summed seven times and divided by seven is not 0.1 in floating point: constancy must not rest on that."""
    training = np.column_stack([np.full(7, 0.1), np.arange(7.0)])
    standardisation = fit_standardisation(training)
    assert standardisation.constant == (0,)
    assert (standardisation.means[0], standardisation.scales[0]) == (0.1, 1.0)
    assert standardise(np.array([[5.0, 3.0]]), standardisation).tolist() == [[0, 0]]


def test_values_are_clipped_to_the_stated_clip() -> None:
    standardisation = Standardisation((0.0,), (1.0,))
    assert standardise(np.array([[100.0], [-100.0], [2.5]]), standardisation, 3.0)[:, 0].tolist() == [
        3 << FX,
        -3 << FX,
        5 << (FX - 1),
    ]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e200])
def test_values_without_a_mean_are_refused_with_their_column(bad: float) -> None:
    with pytest.raises(ValueError, match="column 1"):
        fit_standardisation(np.array([[1.0, bad], [2.0, 1.0]]))


def test_no_training_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one training row"):
        fit_standardisation(np.zeros((0, 2)))


@pytest.mark.parametrize("clip", [0.0, -1.0, 8.5])
def test_a_clip_beyond_the_feature_format_is_refused(clip: float) -> None:
    with pytest.raises(ValueError, match="feature_clip"):
        standardise(np.zeros((1, 1)), Standardisation((0.0,), (1.0,)), clip)
