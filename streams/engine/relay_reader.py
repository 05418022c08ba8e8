"""The reading end of a relay: one static member of a group, its partitions, its positions."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as KafkaPartition

from streams.engine import failpoints
from streams.engine.errors import EngineError
from streams.engine.kafka_errors import member_error
from streams.engine.kafka_settings import READER, KafkaTimeouts, Membership, member_properties
from streams.engine.ports import TopicPartition
from streams.engine.relay_parcels import Flight
from streams.engine.relay_ports import RelayPlaces, StampedRecord

_log = logging.getLogger(__name__)

#: How long a poll waits when nothing comes. A record that comes ends it at once.
IDLE_SECONDS = 0.05
COMMIT_SECONDS = 0.2
#: Records that follow each other closer than this are gathered for so long: what a poll costs us, our readers and the
#: broker hardly depends on how many it brings, and is the larger part of a record's cost when it comes alone. A client
#: gathers its requests for 2 ms by itself; what comes as seldom as that goes on at once.
CLOSE_SECONDS = 0.0015
GATHER_SECONDS = 0.003


class RelayReader:
    """`Flight` says what may be committed. `before_revoke` is called while the partitions are still ours."""

    def __init__(
        self,
        places: RelayPlaces,
        base: dict[str, Any],
        timeouts: KafkaTimeouts,
        flight: Flight,
        before_revoke: Callable[[], None],
    ) -> None:
        self._places = places
        self._timeouts = timeouts
        self._flight = flight
        self._before_revoke = before_revoke
        #: Why this member can do no more.
        self.end: EngineError | None = None
        self._owned: set[TopicPartition] = set()
        self._held: list[Message] = []
        self._is_paused = False
        self._commit_at = 0.0
        #: When the last records came.
        self._came_at = 0.0
        #: Commits without an answer yet.
        self._commits = 0
        on_commit: Callable[[KafkaError | None, list[KafkaPartition]], None] = self._on_commit
        self._consumer = Consumer(
            {
                **base,
                **READER,
                **member_properties(Membership.STATIC, timeouts),
                "group.id": places.group_id,
                "group.instance.id": places.instance_id,
                "error_cb": self.on_error,
                "on_commit": on_commit,
            }
        )

    def join(self) -> None:
        """Become a member of the group."""
        self._consumer.subscribe(
            [self._places.input], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    # --- records ---

    def poll(self, most: int) -> list[StampedRecord]:
        """The first record is waited for; the others are taken if they are there, or about to come."""
        if self._is_paused:
            self._consumer.resume(_partitions(self._owned))
            self._is_paused = False
        messages, self._held = self._held, []
        # (`consume` alone would wait until it has as many as it may have.)
        first = self._consumer.poll(0 if messages else IDLE_SECONDS)
        if first is not None:
            now = time.monotonic()
            patience = GATHER_SECONDS if now - self._came_at < CLOSE_SECONDS else 0
            messages += [first, *self._consumer.consume(max(1, most - 1), patience)]
            self._came_at = now
        return [record for message in messages if (record := self._record(message)) is not None]

    def hold(self) -> None:
        """Fetch nothing, but stay a member."""
        if not self._is_paused:
            self._consumer.pause(_partitions(self._owned))
            self._is_paused = True
        message = self._consumer.poll(0)
        if message is not None:
            self._held.append(message)

    def _record(self, message: Message) -> StampedRecord | None:
        """The record, if it is one and the partition still ours."""
        error = message.error()
        if error is not None:
            self.on_error(error)
            return None
        topic, partition = str(message.topic()), message.partition() or 0
        if (topic, partition) not in self._owned:
            return None
        timestamp_ms = message.timestamp()[1]
        return StampedRecord(topic, partition, message.offset() or 0, message.key(), message.value(), timestamp_ms)

    # --- positions ---

    def commit(self, *, at_once: bool = False) -> None:
        """Commit what the flight has left behind, every now and then, without waiting for the answer."""
        now = time.monotonic()
        if now < self._commit_at and not at_once:
            return
        self._commit_at = now + COMMIT_SECONDS
        positions = self._flight.take_positions()
        if not positions:
            return
        offsets = [KafkaPartition(place.topic, place.partition, position) for place, position in positions.items()]
        self._commits += 1
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            self._on_commit(error.args[0], [])
        failpoints.reach(failpoints.AFTER_COMMIT)

    def _on_commit(self, error: KafkaError | None, partitions: list[KafkaPartition]) -> None:
        """What became of a commit; librdkafka calls it within `poll`."""
        self._commits = max(0, self._commits - 1)
        if error is not None:
            self._flight.distrust()
            self.on_error(error)

    def close(self, seconds: float) -> None:
        """Commit, wait so long for the answer, and leave. A static member stays in the group, to come back."""
        with contextlib.suppress(KafkaException, RuntimeError):
            self.commit(at_once=True)
            deadline = time.monotonic() + seconds
            while self._commits and time.monotonic() < deadline and self.end is None:
                self.hold()
                self._consumer.poll(IDLE_SECONDS)
        with contextlib.suppress(KafkaException, RuntimeError):
            self._consumer.close()

    # --- the group ---

    def _on_assign(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        self._owned = {TopicPartition(p.topic, p.partition) for p in partitions}
        self._held.clear()
        self._is_paused = False
        consumer.assign(self._positions(consumer, partitions))
        _log.info("given %s", ", ".join(f"{place.topic}[{place.partition}]" for place in sorted(self._owned)))

    def _positions(self, consumer: Consumer, partitions: list[KafkaPartition]) -> list[KafkaPartition]:
        """Where to go on, as numbers: librdkafka can take half a second to look up what it is not told."""
        if not partitions:
            return []
        try:
            found = consumer.committed(partitions, timeout=self._timeouts.positions_seconds)
        except KafkaException:
            return partitions
        if any(place.error is not None for place in found):
            return partitions
        # Where retention has removed the first records, the reset takes us to the first that is left.
        return [KafkaPartition(place.topic, place.partition, max(0, place.offset)) for place in found]

    def _on_revoke(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        """Commit what can be, so that the next owner repeats little. The broker takes it before our next word."""
        self._before_revoke()
        self.commit(at_once=True)
        self._on_lost(consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        self._flight.forget()
        self._held.clear()
        self._owned.clear()
        consumer.unassign()

    def on_error(self, error: KafkaError) -> None:
        """Called by librdkafka within `poll`. What ends a member, such as another one in its place, comes this way."""
        self.end = self.end or member_error(error, self._places.instance_id)
        _log.info("the broker says: %s", error.str())


def _partitions(places: set[TopicPartition]) -> list[KafkaPartition]:
    return [KafkaPartition(place.topic, place.partition) for place in places]
