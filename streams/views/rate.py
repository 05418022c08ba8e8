"""Units a second over a hopping window of event time: clocks of readers and restarts play no part.

The window is `WINDOW_MS` long and moves by `HOP_MS`: of each hop the first reading is kept as a mark. The rate is what
was done since the oldest mark. One mark before the window is kept as well, so that a task which reports every other
minute has a rate at all; the window is then as long as the time between its reports.
"""

from __future__ import annotations

from schemas.views import ProgressMark

WINDOW_MS = 60_000
HOP_MS = 10_000


def first_mark(now_ms: int, done: int) -> tuple[ProgressMark, ...]:
    """The marks of a task that begins, or begins again, at `now_ms`."""
    return (ProgressMark(now_ms, done),)


def slide(marks: tuple[ProgressMark, ...], now_ms: int, done: int) -> tuple[ProgressMark, ...]:
    """The marks after the reading `done` at `now_ms`, not before the last one: at most 2 + `WINDOW_MS / HOP_MS`.

    A counter that went back counts something else, or again: the window begins here.
    """
    if not marks or done < marks[-1].done:
        return first_mark(now_ms, done)
    if now_ms // HOP_MS > marks[-1].at_ms // HOP_MS:
        marks = (*marks, ProgressMark(now_ms, done))
    before = [mark for mark in marks if mark.at_ms <= now_ms - WINDOW_MS]
    return (*before[-1:], *marks[len(before) :])


def measure_rate(marks: tuple[ProgressMark, ...], now_ms: int, done: int) -> float:
    """Units a second from the oldest mark to `done` at `now_ms`; 0 when no time has passed."""
    if not marks or now_ms <= marks[0].at_ms:
        return 0.0
    return (done - marks[0].done) / ((now_ms - marks[0].at_ms) / 1000)
