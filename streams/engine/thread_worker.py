"""Steps in a thread of their own, so that seconds of computing do not cost the process its place in the group."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import TypeVar

_T = TypeVar("_T")

#: A step that is faster costs no call to the group, which would throw away what was fetched ahead of it.
FIRST_KEEP_ALIVE_SECONDS = 2.0
#: Then as often as this; a rebalance waits for it at most so long.
KEEP_ALIVE_SECONDS = 0.1


class ThreadWorker:
    """One thread for all steps. Kernels release the interpreter's lock in their long calls."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="steps")

    def run(self, work: Callable[[], _T], keep_alive: Callable[[], None]) -> _T:
        """The result of `work`; raises what it raises, or what `keep_alive` raises, after the work has ended."""
        future = self._pool.submit(work)
        seconds = FIRST_KEEP_ALIVE_SECONDS
        try:
            while not wait((future,), seconds, FIRST_COMPLETED).done:
                keep_alive()
                seconds = KEEP_ALIVE_SECONDS
        finally:
            wait((future,))
        return future.result()

    def close(self) -> None:
        """End the thread when its work is done."""
        self._pool.shutdown()
