"""The engine's log on Apache Kafka, through librdkafka: one member of a stage's group.

A partition on its way to the machine:

    given to us -> owned, fetching paused -> the engine restores its state -> started, fetching from its position
                                                  |
    taken from us, at any time, told by `poll` and `lost`: an answer to the broker is given only while we poll
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Collection, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as KafkaPartition

from streams.engine.errors import EngineError, LogUnavailableError
from streams.engine.kafka_errors import member_error, text_of
from streams.engine.kafka_producer import KafkaProducer
from streams.engine.kafka_reader import KafkaReader
from streams.engine.kafka_settings import CLIENT, STAGE_READER, KafkaTimeouts, Membership, member_properties
from streams.engine.ports import InputRecord, NotYetError, Polled, TopicPartition
from streams.engine.topics import StageTopics

_log = logging.getLogger(__name__)

#: librdkafka refuses to seek while it is still starting a partition, which takes it milliseconds.
SEEK_RETRY_SECONDS = 0.005
SEEK_ATTEMPTS = 2_000
#: How long news of the group may wait while no records come.
NEWS_SECONDS = 0.05
_NOT_STARTED = {KafkaError._STATE, KafkaError._PREV_IN_PROGRESS, KafkaError._TIMED_OUT}


class KafkaLog:
    """Implements `ports.Log`."""

    def __init__(
        self,
        bootstrap_servers: str,
        topics: StageTopics,
        *,
        group_id: str,
        transactional_id: str,
        properties: Mapping[str, Any] | None = None,
        membership: Membership = Membership.STATIC,
        timeouts: KafkaTimeouts | None = None,
    ) -> None:
        """`properties` are librdkafka's and go to every client, such as TLS settings.

        `transactional_id` is also the member's `group.instance.id`; no two processes may have the same at one time.
        """
        self._topics = topics
        self._group_id = group_id
        self._transactional_id = transactional_id
        self._membership = membership
        self._timeouts = timeouts or KafkaTimeouts()
        self._base: dict[str, Any] = {
            "bootstrap.servers": bootstrap_servers,
            **CLIENT,
            **(properties or {}),
            "client.id": transactional_id,
            "logger": _log,
        }
        self._reader = KafkaReader(self._base, self._timeouts)
        # Made before it joins: while it is not connected librdkafka looks for the coordinator every half second only.
        self._consumer: Consumer | None = self._make_consumer()
        self._is_member = False
        self._owned: set[TopicPartition] = set()
        self._started: set[TopicPartition] = set()
        self._gained: set[TopicPartition] = set()
        self._lost: set[TopicPartition] = set()
        self._is_working = False
        #: Why this member can do no more.
        self._end: EngineError | None = None
        #: Came while a step was computed, in spite of the pause.
        self._held: list[Message] = []

    # --- the group ---

    def join(self) -> None:
        """Become a member of the group."""
        self._is_member = True
        self._member().subscribe(
            list(self._topics.inputs), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
        )

    def poll(self, timeout_ms: int, max_records: int) -> Polled:
        """The first record is waited for, the others are taken if they are there."""
        consumer = self._member()
        if self._is_working:
            consumer.resume(_partitions(self._started))
            self._is_working = False
        messages, self._held = self._held, []
        # (`consume` alone would wait until it has as many as it may have.)
        first = self._wait(consumer, 0 if messages else timeout_ms / 1000)
        if first is not None:
            messages += [first, *consumer.consume(max(1, max_records - 1), 0)]
        records = [record for message in messages if (record := self._record(message)) is not None]
        polled = Polled(
            tuple(record for record in records if record.place in self._started),
            frozenset(self._gained),
            frozenset(self._lost),
        )
        self._gained.clear()
        self._lost.clear()
        return polled

    def keep_alive(self) -> None:
        """Serve rebalances and the poll deadline, with fetching paused."""
        consumer = self._member()
        if not self._is_working:
            consumer.pause(_partitions(self._started))
            self._is_working = True
        message = consumer.poll(0)
        self._check_end()
        if message is not None:
            self._held.append(message)

    def lost(self) -> frozenset[TopicPartition]:
        """What was taken from us since the last poll."""
        return frozenset(self._lost)

    def start(self, positions: Mapping[TopicPartition, int | None]) -> None:
        """Seek, and let the records come."""
        consumer = self._member()
        places = self._owned & positions.keys()
        # What was fetched before the seek is void. librdkafka sees to that in its own queue.
        self._held = [message for message in self._held if message.error() or _place(message) not in places]
        for place in places:
            # Where retention has removed the first records, the reset takes us to the first that is left.
            self._seek(consumer, place, positions[place] or 0)
        self._started |= places
        if not self._is_working:
            consumer.resume(_partitions(places))

    def close(self) -> None:
        """Leave. A static member stays in the group until its session ends, so that it can come back."""
        if self._consumer is not None:
            with contextlib.suppress(KafkaException, RuntimeError):
                self._consumer.close()
            self._consumer = None
        self._reader.close()

    # --- positions, states, topics ---

    def committed(self, places: Collection[TopicPartition]) -> dict[TopicPartition, int | None]:
        """The group's positions. A reader of committed records is refused positions that a transaction may change."""
        try:
            answers = self._member().committed(_partitions(places), timeout=self._timeouts.positions_seconds)
        except KafkaException as error:
            raise NotYetError(f"the group's positions: {text_of(error)}") from error
        positions: dict[TopicPartition, int | None] = {}
        for answer in answers:
            if answer.error is not None:
                raise NotYetError(f"the position in {answer.topic}[{answer.partition}]: {answer.error.str()}")
            positions[TopicPartition(answer.topic, answer.partition)] = answer.offset if answer.offset >= 0 else None
        return positions

    def read_state(self, place: TopicPartition) -> list[tuple[bytes, bytes | None]]:
        """Everything up to the high watermark."""
        return self._reader.read_to_end(place)

    def partition_count(self, topic: str) -> int:
        """Asked once a topic."""
        return self._reader.partition_count(topic)

    def make_producer(self, number: int = 0) -> KafkaProducer:
        """With the slot's transactional id; further ones are `vfl.acme.joiner.0.1`, `vfl.acme.joiner.0.2`, ..."""
        name = f"{self._transactional_id}.{number}" if number else self._transactional_id
        return KafkaProducer(self._base, name, self._timeouts, lambda: self._member().consumer_group_metadata())

    # --- inside ---

    def _make_consumer(self) -> Consumer:
        return Consumer(
            {
                **self._base,
                **STAGE_READER,
                **member_properties(self._membership, self._timeouts),
                "group.id": self._group_id,
                "error_cb": self._on_error,
                **({"group.instance.id": self._transactional_id} if self._membership.is_static else {}),
            }
        )

    def _member(self) -> Consumer:
        if self._consumer is None or not self._is_member:
            raise RuntimeError("the process has not joined its group yet, or left it: a bug in the engine")
        return self._consumer

    def _wait(self, consumer: Consumer, seconds: float) -> Message | None:
        """The next message; None when the time is over or the group has news, which `Consumer.poll` does not tell."""
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            message = consumer.poll(max(0.0, min(left, NEWS_SECONDS)))
            self._check_end()
            if message is not None or left <= NEWS_SECONDS or self._gained or self._lost:
                return message

    def _on_assign(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        """Take them without fetching: their state has to be restored first."""
        # The engine seeks later; any number given here spares librdkafka to look one up, which can take half a second.
        taken = [KafkaPartition(p.topic, p.partition, 0) for p in partitions]
        if self._membership.is_incremental:
            consumer.incremental_assign(taken)
        else:
            consumer.assign(taken)
        if taken:
            consumer.pause(taken)
        places = {TopicPartition(p.topic, p.partition) for p in partitions}
        self._owned |= places
        self._gained |= places

    def _on_revoke(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        places = {TopicPartition(p.topic, p.partition) for p in partitions}
        self._owned -= places
        self._started -= places
        self._gained -= places
        self._lost |= places
        if self._membership.is_incremental:
            consumer.incremental_unassign(partitions)
        else:
            consumer.unassign()

    def _seek(self, consumer: Consumer, place: TopicPartition, position: int) -> None:
        for _ in range(SEEK_ATTEMPTS):
            try:
                consumer.seek(KafkaPartition(place.topic, place.partition, position))
                return
            except KafkaException as error:
                if error.args[0].code() not in _NOT_STARTED:
                    raise LogUnavailableError(f"cannot read {place} from {position}: {text_of(error)}") from error
                time.sleep(SEEK_RETRY_SECONDS)
        raise LogUnavailableError(f"cannot read {place} from {position}: librdkafka does not start it")

    def _record(self, message: Message) -> InputRecord | None:
        """The record, or None for what librdkafka only wants to say. Raises when this member is out."""
        error = message.error()
        if error is None:
            place = _place(message)
            return InputRecord(place.topic, place.partition, message.offset() or 0, message.key(), message.value())
        self._on_error(error)
        self._check_end()
        return None

    def _on_error(self, error: KafkaError) -> None:
        """Called by librdkafka within `poll`. What ends a member, such as another one in its place, comes this way."""
        self._end = self._end or member_error(error, self._transactional_id)
        _log.info("the broker says: %s", error.str())

    def _check_end(self) -> None:
        if self._end is not None:
            raise self._end


def _place(message: Message) -> TopicPartition:
    return TopicPartition(str(message.topic()), message.partition() or 0)


def _partitions(places: Collection[TopicPartition]) -> list[KafkaPartition]:
    return [KafkaPartition(place.topic, place.partition) for place in places]
