"""What is under way: records that were read and whose outputs the broker does not have yet.

A parcel is what one poll brought. Parcels may be done in any order; a position moves only past those before which
everything is done. So whatever is committed was delivered, and a crash repeats at most what was under way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from confluent_kafka import KafkaError, Message

from streams.engine.ports import TopicPartition
from streams.engine.relay_ports import StampedRecord


class Parcel:
    """Records of one poll, and how much of what follows from them is missing."""

    __slots__ = ("_flight", "generation", "pending", "records")

    def __init__(self, flight: Flight, records: Sequence[StampedRecord], generation: int) -> None:
        self._flight = flight
        self.records = records
        self.generation = generation
        #: Outputs that are not delivered, works that are not done, and 1 while it is being handled.
        self.pending = 1

    def add(self) -> None:
        """One more output or work."""
        self.pending += 1
        self._flight.outputs += 1

    def delivered(self, error: KafkaError | None, message: Message) -> None:
        """The broker's word on an output; librdkafka calls it within the producer's `poll`."""
        if error is not None:
            self._flight.failures.append((str(message.topic()), error))
            return
        self.end_one()

    def end_one(self) -> None:
        """One output or work less."""
        self.pending -= 1
        self._flight.outputs -= 1


class Flight:
    """All parcels, oldest first, and the positions that may be committed. One thread uses it."""

    def __init__(self) -> None:
        self._parcels: deque[Parcel] = deque()
        self._generation = 0
        self._done: dict[TopicPartition, int] = {}
        self._sent: dict[TopicPartition, int] = {}
        self.records = 0
        #: Outputs and works that are not done.
        self.outputs = 0
        #: Outputs that the broker refused for good, with their topics.
        self.failures: list[tuple[str, KafkaError]] = []

    def open(self, records: Sequence[StampedRecord]) -> Parcel:
        """A parcel that is being handled; `close` it when all that follows from it was handed over."""
        parcel = Parcel(self, records, self._generation)
        self._parcels.append(parcel)
        self.records += len(records)
        return parcel

    def close(self, parcel: Parcel) -> None:
        """All that follows from it was handed over."""
        parcel.pending -= 1

    def reap(self) -> None:
        """Move the positions past what is done."""
        while self._parcels and self._parcels[0].pending == 0:
            parcel = self._parcels.popleft()
            self.records -= len(parcel.records)
            if parcel.generation == self._generation:
                for record in parcel.records:
                    self._done[record.place] = record.offset + 1

    def take_positions(self) -> dict[TopicPartition, int]:
        """Positions to commit; empty if the last ones that were taken are still true."""
        changed = {place: position for place, position in self._done.items() if self._sent.get(place) != position}
        self._sent.update(changed)
        return changed

    def distrust(self) -> None:
        """A commit failed: all positions are to be committed again."""
        self._sent.clear()

    def forget(self) -> None:
        """The partitions are not ours any more: what is under way ends, and moves no position."""
        self._generation += 1
        self._done.clear()
        self._sent.clear()
