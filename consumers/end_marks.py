"""Up to which time everything that partitions held has been booked, under load as well.

Under load a partition has grown on before what was read of it is booked. So its end is remembered, with the time at
which it was the end, until that is reached.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaException, TopicPartition

Place = tuple[str, int]

REQUEST_SECONDS = 10.0


class EndMarks:
    """Ends that have not been reached yet; one a partition."""

    def __init__(self) -> None:
        self._marks: dict[Place, tuple[int, int]] = {}

    def look_up(self, consumer: Consumer, places: Mapping[Place, int]) -> None:
        """Remember where those partitions end now of which nothing is remembered; those that do not tell wait."""
        now_ms = int(time.time() * 1000)
        for place in places.keys() - self._marks.keys():
            try:
                ends = consumer.get_watermark_offsets(TopicPartition(*place), REQUEST_SECONDS)
            except KafkaException:
                return
            self._marks[place] = (ends[1], now_ms)

    def take_reached(self, booked: Mapping[Place, int]) -> dict[int, list[Place]]:
        """The partitions whose remembered ends have been booked, by the time (ms) of the look; they are forgotten."""
        reached: dict[int, list[Place]] = {}
        for place, (end, at_ms) in list(self._marks.items()):
            if booked.get(place, -1) >= end:
                reached.setdefault(at_ms, []).append(place)
                del self._marks[place]
        return reached

    def clear(self) -> None:
        """Forget everything: other partitions are ours now."""
        self._marks.clear()
