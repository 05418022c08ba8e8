"""Scoring computes the integers of training, and rounding what is shared costs what is claimed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from streams.kernels.fixed_point import LOGIT_BITS, WEIGHT_BITS, add_intercept, linear_predictor
from streams.kernels.holdout import count_training_rows, split_rows
from streams.kernels.scoring import (
    SHARED_LOGIT_BITS,
    Half,
    quantise_logits,
    restore_logits,
    score_features,
    score_half,
)
from streams.kernels.standardisation import fit_standardisation, standardise


def make_half(values: np.ndarray[tuple[int, int], np.dtype[np.float64]], intercept: int | None, clip: float) -> Half:
    draw = np.random.default_rng(3)
    weights = tuple(int(w) for w in np.rint(draw.normal(size=values.shape[1]) * 2**WEIGHT_BITS))
    return Half(fit_standardisation(values), 8.0, weights, intercept, clip)


def test_a_row_scores_as_in_training_bit_for_bit() -> None:
    values = np.random.default_rng(1).normal(size=(500, 4)) * [1.0, 100.0, 0.01, 7.0]
    half = make_half(values, intercept=12_345_678, clip=1000.0)
    features = standardise(values, half.standardisation, 8.0)
    trained = linear_predictor(add_intercept(features), (*half.weights, 12_345_678))
    assert score_half(values, half).tolist() == trained.tolist()
    one_by_one = [int(score_half(values[k : k + 1], half)[0]) for k in range(500)]
    assert one_by_one == trained.tolist()


def test_logits_stay_in_the_box() -> None:
    values = np.random.default_rng(1).normal(size=(200, 3))
    scores = score_half(values, make_half(values, intercept=None, clip=0.5))
    assert scores.max() == 1 << (LOGIT_BITS - 1) and scores.min() == -(1 << (LOGIT_BITS - 1))


def test_a_constant_column_scores_nothing_even_when_it_changes_later() -> None:
    training = np.column_stack([np.full(20, 5.0), np.arange(20.0)])
    half = make_half(training, intercept=None, clip=8.0)
    later = training.copy()
    later[:, 0] = 1e6
    assert score_half(later, half).tolist() == score_half(training, half).tolist()


def test_wrong_columns_are_refused() -> None:
    values = np.random.default_rng(1).normal(size=(20, 3))
    with pytest.raises(ValueError, match="columns"):
        score_half(values[:, :2], make_half(values, intercept=None, clip=8.0))


@given(st.lists(st.integers(-(2**33), 2**33), min_size=1))
def test_rounding_moves_a_logit_by_half_a_quantum_at_most(logits: list[int]) -> None:
    exact = np.array(logits, dtype=np.int64)
    back = restore_logits(quantise_logits(exact))
    assert int(np.abs(back - exact).max()) <= 1 << (LOGIT_BITS - SHARED_LOGIT_BITS - 1)


def test_a_logit_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        quantise_logits(np.array([1 << 42], dtype=np.int64))


def test_rounding_costs_less_than_a_ten_thousandth_of_auc() -> None:
    """Worst of thirty tables of 3,000 rows, the host's part as large as the guest's."""
    draw = np.random.default_rng(11)
    for _ in range(30):
        guest, host = (np.rint(draw.normal(size=3000) * 2**LOGIT_BITS).astype(np.int64) for _ in range(2))
        total = np.ldexp((guest + host).astype(np.float64), -LOGIT_BITS)
        label = draw.random(3000) < 1 / (1 + np.exp(-total))
        rounded = guest + restore_logits(quantise_logits(host))
        assert abs(roc_auc_score(label, rounded) - roc_auc_score(label, total)) < 1e-4


def test_score_features_takes_no_intercept_at_hosts() -> None:
    features = np.array([[1 << 13], [-(1 << 13)]], dtype=np.int32)
    assert score_features(features, (1 << 24,), None, 8.0).tolist() == [1 << 20, -(1 << 20)]
    assert score_features(features, (1 << 24,), 1 << 24, 8.0).tolist() == [1 << 21, 0]


@given(st.integers(0, 10_000), st.floats(0.0, 0.99))
def test_training_rows_and_hold_out_are_the_joint_rows_in_order(rows: int, fraction: float) -> None:
    joint = np.arange(rows, dtype="<u4")[::-1]
    training, holdout = split_rows(joint.tobytes(), fraction)
    assert np.concatenate([training, holdout]).tolist() == joint.tolist()
    assert len(training) == count_training_rows(rows, fraction)
    assert len(holdout) == math.floor(rows * fraction)
