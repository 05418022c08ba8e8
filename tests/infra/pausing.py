"""Processes that are there and do nothing: a machine that is suspended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

DEADLINE_SECONDS = 30.0


@contextmanager
def pausing(pids: Collection[int]) -> Iterator[None]:
    """Inside, every thread of these processes stands still.

    A signal to stop is only asked for by `kill`: on a busy machine a thread may run on for long enough to answer.
    """
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not all(map(_stands_still, pids)):
            assert time.monotonic() < deadline, f"{sorted(pids)} do not stop"
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _stands_still(pid: int) -> bool:
    """Whether all threads are stopped (state T in proc(5); the name before it may hold blanks and brackets)."""
    stats = [task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)
