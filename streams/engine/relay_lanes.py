"""Threads for works that may take long, so that nothing else waits for them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence

from streams.engine.ports import OutputRecord
from streams.engine.relay_parcels import Parcel
from streams.engine.relay_ports import Later

#: How long an end waits for a lane; what it has not done is done again by whoever comes next.
END_SECONDS = 1.0


class Lanes:
    """One thread a name, made when it is first needed. Works of one lane are done in order."""

    def __init__(self) -> None:
        self._queues: dict[str, queue.SimpleQueue[tuple[Parcel, Later] | None]] = {}
        self._threads: list[threading.Thread] = []
        self._results: queue.SimpleQueue[tuple[Parcel, Sequence[OutputRecord] | Exception]] = queue.SimpleQueue()

    def submit(self, parcel: Parcel, later: Later) -> None:
        """Have the work done some time."""
        if later.lane not in self._queues:
            self._queues[later.lane] = queue.SimpleQueue()
            thread = threading.Thread(target=self._run, args=(later.lane,), name=f"lane-{later.lane}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._queues[later.lane].put((parcel, later))

    def take(self) -> tuple[Parcel, Sequence[OutputRecord] | Exception] | None:
        """A work that is done, and its outputs or what it raised; None if there is none."""
        try:
            return self._results.get_nowait()
        except queue.Empty:
            return None

    def close(self) -> None:
        """End the threads after what they are doing."""
        for waiting in self._queues.values():
            while not waiting.empty():
                waiting.get()
            waiting.put(None)
        for thread in self._threads:
            thread.join(END_SECONDS)

    def _run(self, lane: str) -> None:
        while (task := self._queues[lane].get()) is not None:
            parcel, later = task
            try:
                result: Sequence[OutputRecord] | Exception = later.work()
            except Exception as error:  # noqa: BLE001  (told to the loop, which knows what to do)
                result = error
            self._results.put((parcel, result))
