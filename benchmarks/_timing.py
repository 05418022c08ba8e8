"""Timing that a busy machine disturbs least: processor time, best of several tries."""

from __future__ import annotations

import time
from collections.abc import Callable


def seconds_per_item(work: Callable[[], object], items: int, tries: int = 3) -> float:
    """The least processor time of `work`, divided by `items`."""
    best = float("inf")
    for _ in range(tries):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best / items
