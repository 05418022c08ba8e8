"""From logits to shares, points and probabilities: integers that every machine agrees on."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.kernels.scorecard import (
    LEAST_QUANTUM,
    MOST_QUANTUM,
    POINT_QUANTUM,
    bits_quantum,
    count_points,
    find_band,
    name_person,
    probability_of,
    restore_share,
    share_logit,
)

LOGITS = st.integers(-64 << 20, 64 << 20)
SHARED = st.integers(-64 << 10, 64 << 10)
QUANTA = st.integers(LEAST_QUANTUM, MOST_QUANTUM)


@given(SHARED, QUANTA)
def test_a_share_is_off_by_half_a_quantum_at_most(shared: int, quantum: int) -> None:
    told = Fraction(share_logit(shared, quantum) * quantum, 1 << 30)
    assert abs(told - Fraction(shared, 1 << 10)) <= Fraction(quantum, 1 << 31)


@given(SHARED)
def test_the_finest_share_is_exact(shared: int) -> None:
    assert restore_share(share_logit(shared, bits_quantum(10)), bits_quantum(10)) == shared << 10


@given(st.integers(-3000, 3000), QUANTA)
def test_a_restored_share_is_the_nearest_logit(value: int, quantum: int) -> None:
    exact = Fraction(value * quantum, 1 << 10)
    assert abs(restore_share(value, quantum) - exact) <= Fraction(1, 2)


@pytest.mark.parametrize("quantum", [0, LEAST_QUANTUM - 1, MOST_QUANTUM + 1])
def test_a_quantum_beyond_what_may_be_told_is_refused(quantum: int) -> None:
    with pytest.raises(ValueError, match="quantum"):
        share_logit(1, quantum)


def test_bits_beyond_what_evaluations_tell_are_refused() -> None:
    with pytest.raises(ValueError, match="fractional bits"):
        bits_quantum(11)


def test_twenty_points_double_the_odds() -> None:
    one_doubling = round(math.log(2) * (1 << 20))
    assert [count_points(n * one_doubling, 600, 20) for n in (-2, 0, 1, 5)] == [560, 600, 620, 700]
    assert count_points(one_doubling, 600, -20) == 580
    assert pytest.approx(math.log(2) / 20, abs=1e-9) == POINT_QUANTUM / (1 << 30)


@given(LOGITS, st.integers(-1000, 1000).filter(bool))
def test_points_are_the_nearest_to_the_real_number(logit: int, per_doubling: int) -> None:
    exact = logit / (1 << 20) * per_doubling / math.log(2)
    assert abs(count_points(logit, 0, per_doubling) - exact) <= 0.5 + 1e-3


@given(LOGITS)
def test_a_probability_is_that_of_the_logistic_function(logit: int) -> None:
    assert probability_of(logit) == pytest.approx(1 / (1 + math.exp(-logit / (1 << 20))), abs=2**-24)


def test_a_person_has_another_name_for_everybody() -> None:
    assert name_person(b"k" * 32, "anna") == name_person(b"k" * 32, "anna")
    assert len({name_person(key, who) for key in (b"k" * 32, b"l" * 32) for who in ("anna", "otto")}) == 4
    assert b"anna" not in name_person(b"k" * 32, "anna")


def test_a_band_begins_at_its_points() -> None:
    edges = (500, 600, 700)
    assert [find_band(points, edges) for points in (499, 500, 599, 600, 9999)] == [None, 0, 0, 1, 2]
