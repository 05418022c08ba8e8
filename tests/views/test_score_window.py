"""Windows over results: against counting everything anew, and what bounds them."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.scoring import Outcome, Purpose, ScoreJoined, ScoreReason
from streams.views import score_window
from streams.views.score_drift import Standing
from streams.views.score_sketch import BUCKETS, bucket_of, micros_of, quantile
from streams.views.score_window import (
    COARSE_US,
    FINE_US,
    HOPS,
    NO_VERSION,
    OTHER_MIX,
    SECOND_US,
    WINDOWS_US,
    ScoreWindows,
    Tally,
    WindowSummary,
)
from tests.views.score_cases import BEGAN_US, PARTY, checked, joined

RISK = ("risk", "1")


def folded(*results: ScoreJoined, now_us: int) -> ScoreWindows:
    windows = ScoreWindows(PARTY)
    for offset, result in enumerate(results):
        windows.fold_result(result, 0, offset, now_us)
    return windows


def by_name(windows: ScoreWindows, now_us: int, version: tuple[str, str] = RISK) -> dict[str, WindowSummary]:
    return {one.window: one for one in windows.summarise(version, now_us)}


MIXES = (
    (Outcome.SCORED, ScoreReason.NONE, ""),
    (Outcome.DEGRADED, ScoreReason.LATE, "bureau"),
    (Outcome.REFUSED, ScoreReason.NO_SUCH_PERSON, PARTY),
    (Outcome.EXPIRED, ScoreReason.LATE, "telco"),
)
#: Time since the one before, for how long it was on its way to the view, and what it says.
arrivals = st.tuples(
    st.integers(0, 40_000_000),
    st.sampled_from([0, 3_000, 20_000_000, 200_000_000, 1_000_000_000]),
    st.sampled_from(MIXES),
    st.integers(500, 700),
    st.tuples(*[st.integers(-2_000, 5_000_000)] * 3),
    st.sampled_from([Purpose.LIVE, Purpose.LIVE, Purpose.LIVE, Purpose.PARITY]),
)


@given(st.lists(arrivals, max_size=80), st.integers(0, 30_000_000))
def test_a_window_holds_what_counting_everything_anew_finds(
    steps: list[tuple[int, int, tuple[Outcome, ScoreReason, str], int, tuple[int, int, int], Purpose]], rest_us: int
) -> None:
    """Results come in any order of their times, some of them very late; the view reads the clock as they come."""
    now_us = BEGAN_US
    windows, results = ScoreWindows(PARTY), []
    windows.fold_version(checked())
    for offset, (step, after, (outcome, reason, blamed), points, hops, purpose) in enumerate(steps):
        now_us += step
        result = joined(
            now_us - after, outcome=outcome, reason=reason, party=blamed, points=points, hops_us=hops, purpose=purpose
        )
        assert windows.fold_result(result, 0, offset, now_us)
        results.append(result)
    now_us += rest_us
    live = [result for result in results if result.purpose is Purpose.LIVE]
    if not live:
        assert windows.versions() == []
        return
    for name, summary in by_name(windows, now_us).items():
        _compare(summary, _recount(live, name, now_us))
    assert windows.totals(RISK) == Counter((str(r.outcome), str(r.reason), r.party) for r in live)


def _recount(results: list[ScoreJoined], name: str, now_us: int) -> list[ScoreJoined]:
    length, pane = WINDOWS_US[name], COARSE_US if name == "15m" else FINE_US
    begins = (now_us // pane + 1) * pane - length
    return [result for result in results if begins <= result.joined_at_us <= now_us]


def _compare(summary: WindowSummary, inside: list[ScoreJoined]) -> None:
    tally = summary.tally
    assert tally.results == len(inside)
    assert tally.mix == Counter((str(r.outcome), str(r.reason), r.party) for r in inside)
    assert tally.points == Counter(r.points for r in inside if r.outcome is Outcome.SCORED)
    length_us = WINDOWS_US[summary.window]
    assert length_us - COARSE_US <= summary.covered_seconds * SECOND_US <= length_us
    spans = {
        "requested_routed": [r.routed_at_us - r.requested_at_ms * 1000 for r in inside],
        "routed_answered": [r.answered_at_us - r.routed_at_us for r in inside],
        "answered_joined": [r.joined_at_us - r.answered_at_us for r in inside],
        "total": [r.joined_at_us - r.requested_at_ms * 1000 for r in inside],
    }
    for hop, buckets in zip(HOPS, tally.hops, strict=True):
        assert buckets == Counter(bucket_of(span) for span in spans[hop])
    for host, misses in summary.hosts.items():
        assert misses.missed == sum(r.party == host for r in inside) > 0
        assert misses.asked == sum(r.party != PARTY for r in inside)
    assert {host for host in ("bureau", "telco") if any(r.party == host for r in inside)} == set(summary.hosts)


def test_what_was_folded_before_changes_nothing() -> None:
    windows = ScoreWindows(PARTY)
    assert windows.fold_result(joined(), 2, 7, BEGAN_US)
    assert not windows.fold_result(joined(), 2, 7, BEGAN_US)
    assert not windows.fold_result(joined(), 2, 3, BEGAN_US)
    assert windows.fold_result(joined(), 1, 3, BEGAN_US)
    assert by_name(windows, BEGAN_US)["15m"].tally.results == 2
    assert (windows.mark(2), windows.mark(1), windows.mark(0)) == (7, 3, None)


def test_the_rate_is_that_of_the_time_that_is_covered() -> None:
    """Ten a second for two minutes: each window says so."""
    results = [joined(BEGAN_US + i * 100_000) for i in range(1200)]
    windows = ScoreWindows(PARTY)
    for offset, result in enumerate(results):
        windows.fold_result(result, 0, offset, result.joined_at_us)
    now_us = results[-1].joined_at_us
    summaries = by_name(windows, now_us)
    assert summaries["10s"].per_second == pytest.approx(10, rel=0.02)
    assert summaries["1m"].per_second == pytest.approx(10, rel=0.02)
    assert summaries["15m"].tally.results == 1200


def test_a_clock_that_is_ahead_counts_as_now() -> None:
    windows = folded(joined(BEGAN_US + 3_600 * SECOND_US), joined(), now_us=BEGAN_US)
    assert by_name(windows, BEGAN_US)["10s"].tally.results == 2
    assert by_name(windows, BEGAN_US + 20 * SECOND_US)["10s"].tally.results == 0


def test_hops_that_were_not_taken_are_not_measured() -> None:
    refused = replace(joined(outcome=Outcome.REFUSED, reason=ScoreReason.LATE, points=None), answered_at_us=0)
    (summary, *_) = folded(refused, now_us=BEGAN_US).summarise(RISK, BEGAN_US)
    assert [buckets.total() for buckets in summary.tally.hops] == [1, 0, 0, 1]


def test_degraded_scores_are_no_drift_of_the_joint_model() -> None:
    degraded = joined(outcome=Outcome.DEGRADED, reason=ScoreReason.LATE, party="bureau", points=400)
    windows = folded(joined(), degraded, now_us=BEGAN_US)
    windows.fold_version(checked())
    assert by_name(windows, BEGAN_US)["1m"].drift.rows == 1


def test_the_newest_check_of_a_version_counts_and_that_of_another_does_not() -> None:
    results = [joined(points=points) for points in (550, 590, 630, 700) for _ in range(50)]
    windows = folded(*results, now_us=BEGAN_US)
    assert by_name(windows, BEGAN_US)["1m"].drift.standing is Standing.NO_REFERENCE
    windows.fold_version(checked(version="2"))
    assert by_name(windows, BEGAN_US)["1m"].drift.standing is Standing.NO_REFERENCE
    windows.fold_version(checked(shares=(1.0, 0.0, 0.0, 0.0)))
    assert by_name(windows, BEGAN_US)["1m"].drift.standing is Standing.LARGE
    windows.fold_version(checked())
    drift = by_name(windows, BEGAN_US)["1m"].drift
    assert (drift.standing, drift.index, drift.rows) == (Standing.STABLE, 0.0, 200)


def test_versions_are_apart_and_what_has_none_is_together() -> None:
    """Names that applications make up do not make series."""
    unknown = [
        joined(model=f"typo-{i}", version="", outcome=Outcome.REFUSED, reason=ScoreReason.UNKNOWN_MODEL, party=PARTY)
        for i in range(100)
    ]
    windows = folded(joined(), joined(version="2"), *unknown, now_us=BEGAN_US)
    assert windows.versions() == [NO_VERSION, ("risk", "1"), ("risk", "2")]
    assert by_name(windows, BEGAN_US, NO_VERSION)["10s"].tally.results == 100


def test_memory_is_bounded_whatever_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many versions, values, reasons and an hour of time: old panes and silent versions go, nothing is uncounted."""
    for name, most in (("MOST_SERIES", 5), ("MOST_POINTS", 20), ("MOST_MIX", 10)):
        monkeypatch.setattr(score_window, name, most)
    windows, now_us = ScoreWindows(PARTY), 0
    for i in range(3_600):
        now_us = BEGAN_US + i * SECOND_US
        result = joined(now_us, version=str(i % 3), points=i, party=f"host-{i}", hops_us=(i, i * i, i * i * i))
        windows.fold_result(result, 0, i, now_us)
        windows.fold_version(checked(version=str(i)))
    for version in windows.versions():
        series = windows._series[version]
        assert len(series.fine) <= score_window.PANES and len(series.coarse) <= score_window.PANES
        panes: list[Tally] = [*series.fine.values(), *series.coarse.values()]
        assert all(len(pane.points) <= 21 and len(pane.mix) <= 11 for pane in panes)
        assert windows.totals(version).total() == 1_200
        assert windows.totals(version)[OTHER_MIX] == 1_190
        assert by_name(windows, now_us, version)["15m"].tally.points.total() == pytest.approx(300, abs=5)
    assert len(windows._references) == 5
    for i in range(20):
        windows.fold_result(joined(now_us, version=f"new-{i}"), 1, i, now_us)
    assert windows.versions() == [("risk", f"new-{i}") for i in (15, 16, 17, 18, 19)]


@given(st.lists(st.integers(1, 2_000_000_000), min_size=1, max_size=200), st.floats(0.01, 1))
def test_a_percentile_is_within_one_percent(values: list[int], share: float) -> None:
    found = quantile(Counter(bucket_of(value) for value in values), share)
    exact = sorted(values)[max(1, math.ceil(share * len(values))) - 1]
    exact = min(max(exact, 10), 1_000_000_000)
    assert found == pytest.approx(exact, rel=0.0101)


def test_a_sketch_has_few_counters_and_nothing_has_no_percentile() -> None:
    assert len({bucket_of(value) for value in (*range(100_000), *(10**k for k in range(20)), -5)}) <= BUCKETS < 1_000
    assert quantile(Counter(), 0.5) is None
    assert micros_of(bucket_of(-5)) == pytest.approx(10, rel=0.01)
