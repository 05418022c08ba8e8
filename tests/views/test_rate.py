"""Units a second over the last minute of event time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schemas.views import ProgressMark
from streams.views.rate import HOP_MS, WINDOW_MS, first_mark, measure_rate, slide


def _run(readings: list[tuple[int, int]]) -> tuple[tuple[ProgressMark, ...], float]:
    """Marks and rate after (seconds, done) readings."""
    marks: tuple[ProgressMark, ...] = ()
    rate = 0.0
    for seconds, done in readings:
        marks = slide(marks, seconds * 1000, done)
        rate = measure_rate(marks, seconds * 1000, done)
    return marks, rate


def test_a_steady_task_has_its_rate() -> None:
    assert _run([(second, 3 * second) for second in range(200)])[1] == 3.0


def test_what_was_long_ago_no_longer_counts() -> None:
    """1 a second for ten minutes, then 10 a second for a little over a minute."""
    slow = [(second, second) for second in range(600)]
    fast = [(600 + second, 600 + 10 * second) for second in range(75)]
    assert _run([*slow, *fast])[1] == 10.0


def test_a_task_that_reports_every_other_minute_has_a_rate() -> None:
    assert _run([(120 * report, 6 * report) for report in range(5)])[1] == 0.05


def test_a_counter_that_goes_back_begins_again() -> None:
    marks, rate = _run([(0, 0), (5, 50), (15, 90), (20, 0)])
    assert marks == first_mark(20_000, 0)
    assert rate == 0.0


@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 50)), min_size=1, max_size=40))
def test_the_window_is_covered_and_bounded(steps: list[tuple[int, int]]) -> None:
    """Whatever comes when: at most one mark lies before the window, and one in each hop."""
    marks: tuple[ProgressMark, ...] = ()
    now_ms = done = 0
    for seconds, units in steps:
        now_ms, done = now_ms + seconds * 1000, done + units
        marks = slide(marks, now_ms, done)
    assert sum(mark.at_ms <= now_ms - WINDOW_MS for mark in marks) <= 1
    assert len({mark.at_ms // HOP_MS for mark in marks}) == len(marks) <= WINDOW_MS // HOP_MS + 2
    assert list(marks) == sorted(marks, key=lambda mark: (mark.at_ms, mark.done))
