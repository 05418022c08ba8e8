"""A faust transport that begins where the windows do, not where the group left off.

Windows live in memory, so a new process wants the records of the longest one again, and all of what is compacted. The
group's committed positions say how far behind the view is, and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

from faust.types import TP

from streams.views.committed import CommittedConsumer, CommittedConsumerThread, CommittedTransport

#: Topic and partition -> the offset to go on at, or None for a partition of which nothing was taken in yet.
Mark = Callable[[str, int], int | None]


class RecentConsumerThread(CommittedConsumerThread):
    """Seeks to records of the last `transport.recent_ms`; of `transport.whole` topics to the beginning."""

    async def seek_to_committed(self) -> dict[TP, int]:
        """Despite its name, which faust has given it: where this process wants to go on."""
        offsets: dict[TP, int] = await self.call_thread(self._seek_back)
        return offsets

    async def _seek_back(self) -> dict[TP, int]:
        consumer, transport = self._ensure_consumer(), cast(RecentTransport, self.transport)
        assigned = list(consumer.assignment())
        since_ms = int(time.time() * 1000) - transport.recent_ms
        wanted = {place: transport.mark(place.topic, place.partition) for place in assigned}
        new = [place for place, offset in wanted.items() if offset is None]
        whole = [place for place in new if place.topic in transport.whole]
        recent = [place for place in new if place.topic not in transport.whole]
        found: dict[Any, int] = await consumer.beginning_offsets(whole) if whole else {}
        if recent:
            ends = await consumer.end_offsets(recent)
            times = await consumer.offsets_for_times(dict.fromkeys(recent, since_ms))
            found |= {place: times[place].offset if times.get(place) else ends[place] for place in recent}
        offsets = {place: found[place] if offset is None else offset for place, offset in wanted.items()}
        for place, offset in offsets.items():
            consumer.seek(place, offset)
        return {TP(place.topic, place.partition): offset for place, offset in offsets.items()}


class RecentConsumer(CommittedConsumer):
    """Faust's consumer around `RecentConsumerThread`."""

    def _new_consumer_thread(self) -> RecentConsumerThread:
        return RecentConsumerThread(self, loop=self.loop, beacon=self.beacon)


class RecentTransport(CommittedTransport):
    """Reads committed records, and begins `recent_ms` ago. `whole`: topics that are read from their beginning."""

    Consumer = RecentConsumer

    def __init__(self, *args: Any, recent_ms: int, whole: frozenset[str], mark: Mark, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.recent_ms, self.whole, self.mark = recent_ms, whole, mark
