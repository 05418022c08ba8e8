"""Fixed point: exact sums, one rounding, overflow refused before it happens."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.kernels.fixed_point import (
    FX,
    LOGIT_BITS,
    WEIGHT_BITS,
    FixedPointError,
    add_intercept,
    largest,
    linear_predictor,
    logit_bound,
    round_ratio,
    shift_right,
    to_fixed,
    to_float,
    weighted_sums,
)


def nearest_even(value: Fraction) -> int:
    """Python's own rounding of exact fractions is half even."""
    return round(value)


@given(st.lists(st.integers(-(2**62), 2**62), min_size=1), st.integers(0, 40))
def test_shifting_right_rounds_to_nearest_even(values: list[int], bits: int) -> None:
    expected = [nearest_even(Fraction(value, 1 << bits)) for value in values]
    assert shift_right(np.array(values, dtype=np.int64), bits).tolist() == expected


@given(st.integers(-(2**70), 2**70), st.integers(1, 2**40))
def test_ratios_round_to_nearest_even(numerator: int, denominator: int) -> None:
    assert round_ratio(numerator, denominator) == nearest_even(Fraction(numerator, denominator))


@given(st.floats(-1000, 1000), st.integers(0, 30))
def test_conversion_rounds_the_exact_value(value: float, bits: int) -> None:
    assert int(to_fixed([value], bits)[0]) == nearest_even(Fraction(value) * 2**bits)


@given(st.integers(-(2**53), 2**53), st.integers(0, 40))
def test_conversion_back_loses_nothing(value: int, bits: int) -> None:
    assert to_fixed(to_float([value], bits), bits).tolist() == [value]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2.0**50])
def test_values_that_do_not_fit_are_refused(value: float) -> None:
    with pytest.raises(FixedPointError, match="finite and below"):
        to_fixed([value], 13)


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_logits_are_the_exact_sum_rounded_once(rows: int, columns: int, seed: int) -> None:
    draws = np.random.RandomState(seed)
    features = draws.randint(-(2**16), 2**16 + 1, size=(rows, columns)).astype(np.int32)
    weights = tuple(int(w) for w in draws.randint(-(2**33), 2**33, size=columns))
    expected = [
        nearest_even(
            Fraction(sum(int(x) * w for x, w in zip(row, weights, strict=True)), 1 << (FX + WEIGHT_BITS - LOGIT_BITS))
        )
        for row in features
    ]
    assert linear_predictor(features, weights).tolist() == expected


def test_a_logit_that_could_overflow_is_refused_before_it_is_computed() -> None:
    features = np.full((1, 2), 2**16, dtype=np.int32)
    limit = 2**62 // 2**17
    assert logit_bound(features, (limit - 1, limit)) < 2**62
    assert linear_predictor(features, (limit - 1, limit)).tolist() == [limit]  # half a unit below, tied, to even
    with pytest.raises(FixedPointError, match="a logit could reach"):
        linear_predictor(features, (limit, limit))


def test_the_wrong_number_of_weights_is_refused() -> None:
    with pytest.raises(FixedPointError, match="do not match 3 weights"):
        linear_predictor(np.zeros((4, 2), dtype=np.int32), (1, 2, 3))


@given(st.integers(0, 40), st.integers(0, 2**32 - 1), st.sampled_from([2**20, 2**45]))
def test_weighted_sums_are_exact_even_where_int64_would_wrap(rows: int, seed: int, size: int) -> None:
    """With values of 2^45 and features of 2^16 four rows already exceed int64: the blocks keep it exact."""
    draws = np.random.RandomState(seed)
    features = draws.choice([-(2**16), 2**16, 12345], size=(rows, 3)).astype(np.int32)
    values = draws.choice([-size, size, size - 7], size=rows).astype(np.int64)
    expected = tuple(
        sum(int(x) * int(v) for x, v in zip(features[:, j], values, strict=True)) for j in range(features.shape[1])
    )
    assert weighted_sums(features, values) == expected


def test_a_product_beyond_int64_is_refused() -> None:
    with pytest.raises(FixedPointError, match="a single product"):
        weighted_sums(np.array([[2**16]], dtype=np.int32), np.array([2**47], dtype=np.int64))


def test_the_intercept_is_a_column_of_ones() -> None:
    features = np.zeros((3, 2), dtype=np.int32)
    assert add_intercept(features)[:, 2].tolist() == [2**FX] * 3
    one_and_a_half = 3 << (WEIGHT_BITS - 1)
    assert to_float(linear_predictor(add_intercept(features), (0, 0, one_and_a_half)), LOGIT_BITS).tolist() == [1.5] * 3


def test_the_largest_magnitude_survives_the_most_negative_integer() -> None:
    assert largest(np.array([-(2**31), 5], dtype=np.int32)) == 2**31
    assert largest(np.array([], dtype=np.int64)) == 0
