"""The population stability index."""

from __future__ import annotations

import math
import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.views.score_drift import Reference, Standing, count_bins, measure_drift

FOUR = Reference((560, 600, 640), (0.25, 0.25, 0.25, 0.25), 1_000)


def test_the_index_of_shares_known_from_a_textbook() -> None:
    """Shares of 10, 40, 30, 20 % where a quarter each was expected: the sum worked out by hand."""
    points = Counter({560: 100, 561: 400, 601: 300, 641: 200})
    by_hand = sum((now - 0.25) * math.log(now / 0.25) for now in (0.1, 0.4, 0.3, 0.2))
    drift = measure_drift(points, FOUR)
    assert drift.index == pytest.approx(by_hand)
    assert (drift.standing, drift.rows) == (Standing.MODERATE, 1_000)


@given(st.dictionaries(st.integers(-50, 50), st.integers(1, 9)), st.sets(st.integers(-40, 40), min_size=1))
def test_upper_edges_belong_to_their_bins(points: dict[int, int], edges: set[int]) -> None:
    upper = [-math.inf, *sorted(edges), math.inf]
    expected = [sum(count for value, count in points.items() if low < value <= high) for low, high in pairwise(upper)]
    assert count_bins(points, sorted(edges)) == expected


def test_the_same_people_are_stable_and_others_are_not() -> None:
    draw = random.Random(5)
    same = Counter(draw.choice((550, 590, 630, 700)) for _ in range(2_000))
    assert measure_drift(same, FOUR).standing is Standing.STABLE
    assert measure_drift(Counter({550: 2_000}), FOUR).standing is Standing.LARGE


def test_few_rows_say_nothing() -> None:
    assert measure_drift(Counter({550: 79}), FOUR).standing is Standing.TOO_FEW
    assert measure_drift(Counter({550: 80}), FOUR).standing is Standing.LARGE
    assert measure_drift(Counter(), FOUR).index is None


def test_empty_bins_on_either_side_have_a_finite_index() -> None:
    one_sided = Reference((560,), (1.0, 0.0), 1_000)
    drift = measure_drift(Counter({700: 500}), one_sided)
    assert drift.index is not None and math.isfinite(drift.index) and drift.index > 5


@pytest.mark.parametrize(
    "reference", [None, Reference((), (1.0,), 10), Reference((1, 2), (0.5, 0.5), 10), Reference((1,), (0.5, 0.5), 0)]
)
def test_without_a_usable_reference_there_is_no_index(reference: Reference | None) -> None:
    drift = measure_drift(Counter({1: 500}), reference)
    assert (drift.index, drift.standing, drift.rows) == (None, Standing.NO_REFERENCE, 500)
