"""The engine's log on Apache Kafka, through librdkafka.

What is set here and why:

* `group.instance.id` equals the transactional id: a process that was killed comes back as the same member and gets
  its partitions without a rebalance (KIP-345).
* `retry.backoff.ms` of 5: just after a commit the coordinator answers CONCURRENT_TRANSACTIONS, and librdkafka's default
  of 100 ms would be the p99 of every hop.
* Partitions are assigned paused. The engine restores their state, then says from which position to fetch.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Collection, Mapping
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
)
from confluent_kafka import (
    TopicPartition as KafkaPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from streams.engine.errors import LogUnavailableError, SlotTakenError
from streams.engine.kafka_producer import KafkaProducer
from streams.engine.ports import InputRecord, NotYetError, Polled, TopicPartition
from streams.engine.topics import StageTopics

_log = logging.getLogger(__name__)

#: A dead member that does not come back loses its partitions after so long; the broker's least is 6 s by default.
SESSION_TIMEOUT_MS = 10_000
#: Silence of the poll thread after which the group gives up on us; `keep_alive` comes far more often.
MAX_POLL_INTERVAL_MS = 300_000
#: Requests about offsets, positions and metadata.
REQUEST_SECONDS = 10.0
#: How long reading a state partition may stand still before the engine serves the group in between.
STATE_READ_SECONDS = 5.0
#: Until a seek on a partition that librdkafka is still starting is tried again, and how often.
SEEK_RETRY_SECONDS = 0.02
SEEK_ATTEMPTS = 250

#: Common to every client. A record may be 1 MB and its envelope a little more.
CLIENT_PROPERTIES: dict[str, Any] = {
    "retry.backoff.ms": 5,
    "retry.backoff.max.ms": 50,
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 1_000,
    "broker.address.family": "v4",
    "log.connection.close": False,
}

_CONSUMER_PROPERTIES: dict[str, Any] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "isolation.level": "read_committed",
    "auto.offset.reset": "earliest",
    "session.timeout.ms": SESSION_TIMEOUT_MS,
    "heartbeat.interval.ms": 2_000,
    "max.poll.interval.ms": MAX_POLL_INTERVAL_MS,
    "partition.assignment.strategy": "cooperative-sticky",
    # Megabytes prefetched for each process; the default of 64 MB a partition would be most of its memory.
    "queued.max.messages.kbytes": 16_384,
    "fetch.queue.backoff.ms": 20,
    "fetch.error.backoff.ms": 50,
}


class KafkaLog:
    """One member of a stage's group. Implements `ports.Log`."""

    def __init__(
        self,
        bootstrap_servers: str,
        topics: StageTopics,
        *,
        group_id: str,
        transactional_id: str,
        properties: Mapping[str, Any] | None = None,
        group_protocol: str = "classic",
    ) -> None:
        """`properties` are librdkafka's, such as TLS settings; `group_protocol`: `classic` or `consumer` (KIP-848)."""
        self._topics = topics
        self._group_id = group_id
        self._transactional_id = transactional_id
        self._base = {
            "bootstrap.servers": bootstrap_servers,
            **CLIENT_PROPERTIES,
            **(properties or {}),
            "client.id": transactional_id,
            "logger": _log,
        }
        self._group_protocol = group_protocol
        self._consumer: Consumer | None = None
        self._admin: AdminClient | None = None
        self._counts: dict[str, int] = {}
        self._owned: set[TopicPartition] = set()
        self._started: set[TopicPartition] = set()
        self._gained: set[TopicPartition] = set()
        self._lost: set[TopicPartition] = set()
        self._paused_for_work = False
        self._held: list[Message] = []

    # --- the group ---

    def join(self) -> None:
        """Become a member of the group."""
        properties = {
            **self._base,
            **_CONSUMER_PROPERTIES,
            "group.id": self._group_id,
            "group.instance.id": self._transactional_id,
        }
        if self._group_protocol == "consumer":
            for name in ("session.timeout.ms", "heartbeat.interval.ms", "partition.assignment.strategy"):
                del properties[name]
            properties["group.protocol"] = "consumer"
        self._consumer = Consumer(properties)
        self._consumer.subscribe(
            list(self._topics.inputs), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
        )

    def poll(self, timeout_ms: int, max_records: int) -> Polled:
        """The first record is waited for, the others are taken if they are there."""
        consumer = self._member()
        if self._paused_for_work:
            consumer.resume(_partitions(self._started))
            self._paused_for_work = False
        messages, self._held = self._held, []
        if not messages:
            first = consumer.poll(timeout_ms / 1000)
            messages = [] if first is None else [first, *consumer.consume(max_records - 1, 0)]
        records = tuple(record for message in messages if (record := self._record(message)) is not None)
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
        if not self._paused_for_work:
            consumer.pause(_partitions(self._started))
            self._paused_for_work = True
        message = consumer.poll(0)
        if message is not None:
            self._held.append(message)

    def lost(self) -> frozenset[TopicPartition]:
        """What was taken from us since the last poll."""
        return frozenset(self._lost)

    def start(self, positions: Mapping[TopicPartition, int | None]) -> None:
        """Seek and let the records come."""
        consumer = self._member()
        for place, position in positions.items():
            if place in self._owned:
                self._seek(consumer, place, OFFSET_BEGINNING if position is None else position)
                self._started.add(place)
        self._held = [message for message in self._held if _place(message) not in positions]
        if not self._paused_for_work:
            consumer.resume(_partitions(self._started & positions.keys()))

    def close(self) -> None:
        """Leave. A static member stays in the group until its session ends, so that it can come back."""
        if self._consumer is not None:
            with contextlib.suppress(KafkaException, RuntimeError):
                self._consumer.close()
            self._consumer = None

    # --- positions, states, topics ---

    def committed(self, places: Collection[TopicPartition]) -> dict[TopicPartition, int | None]:
        """The group's positions; a transaction that is about to change one is waited for."""
        try:
            answers = self._member().committed(_partitions(places), timeout=REQUEST_SECONDS)
        except KafkaException as error:
            raise NotYetError(f"the group's positions: {_text(error)}") from error
        positions: dict[TopicPartition, int | None] = {}
        for answer in answers:
            if answer.error is not None:
                raise NotYetError(f"the position in {answer.topic}[{answer.partition}]: {answer.error.str()}")
            positions[TopicPartition(answer.topic, answer.partition)] = answer.offset if answer.offset >= 0 else None
        return positions

    def read_state(self, place: TopicPartition) -> list[tuple[bytes, bytes | None]]:
        """Everything up to the high watermark."""
        partition = KafkaPartition(place.topic, place.partition)
        end = self._high_watermark(partition)
        if end == 0:
            return []
        reader = Consumer(
            {
                **self._base,
                **_CONSUMER_PROPERTIES,
                # Never joins and never commits; librdkafka wants a name all the same.
                "group.id": self._group_id,
                "enable.partition.eof": True,
            }
        )
        try:
            reader.assign([KafkaPartition(place.topic, place.partition, OFFSET_BEGINNING)])
            return _read_until(reader, place, end)
        finally:
            reader.close()

    def partition_count(self, topic: str) -> int:
        """Asked once a topic."""
        if topic not in self._counts:
            try:
                found = self._administrator().list_topics(topic, timeout=REQUEST_SECONDS).topics.get(topic)
            except KafkaException as error:
                raise LogUnavailableError(
                    f"no answer about topic {topic} from {self._base['bootstrap.servers']}: {_text(error)}; is this the"
                    " broker's address, and does it run?"
                ) from error
            if found is None or found.error is not None or not found.partitions:
                raise LookupError(f"there is no topic {topic}")
            self._counts[topic] = len(found.partitions)
        return self._counts[topic]

    def make_producer(self) -> KafkaProducer:
        """With the slot's transactional id."""
        return KafkaProducer(self._base, self._transactional_id, self._group_metadata)

    # --- inside ---

    def _member(self) -> Consumer:
        if self._consumer is None:
            raise RuntimeError("the process has not joined its group yet, or left it: a bug in the engine")
        return self._consumer

    def _administrator(self) -> AdminClient:
        if self._admin is None:
            self._admin = AdminClient(self._base)
        return self._admin

    def _group_metadata(self) -> Any:
        return self._member().consumer_group_metadata()

    def _high_watermark(self, partition: KafkaPartition) -> int:
        try:
            futures = self._administrator().list_offsets(
                {partition: OffsetSpec.latest()},  # type: ignore[no-untyped-call]
                isolation_level=IsolationLevel.READ_UNCOMMITTED,
                request_timeout=REQUEST_SECONDS,
            )
            return int(futures[partition].result().offset)
        except KafkaException as error:
            raise NotYetError(f"the end of {partition.topic}[{partition.partition}]: {_text(error)}") from error

    def _on_assign(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        """Take them without fetching: their state has to be restored first."""
        consumer.incremental_assign([KafkaPartition(p.topic, p.partition, OFFSET_BEGINNING) for p in partitions])
        consumer.pause([KafkaPartition(p.topic, p.partition) for p in partitions])
        places = {TopicPartition(p.topic, p.partition) for p in partitions}
        self._owned |= places
        self._gained |= places

    def _on_revoke(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        places = {TopicPartition(p.topic, p.partition) for p in partitions}
        self._owned -= places
        self._started -= places
        self._gained -= places
        self._lost |= places
        consumer.incremental_unassign(partitions)

    def _seek(self, consumer: Consumer, place: TopicPartition, position: int) -> None:
        for _ in range(SEEK_ATTEMPTS):
            try:
                consumer.seek(KafkaPartition(place.topic, place.partition, position))
                return
            except KafkaException as error:
                if error.args[0].code() not in (KafkaError._STATE, KafkaError._PREV_IN_PROGRESS, KafkaError._TIMED_OUT):
                    raise LogUnavailableError(f"cannot read {place} from {position}: {_text(error)}") from error
                time.sleep(SEEK_RETRY_SECONDS)
        raise LogUnavailableError(f"cannot read {place} from {position}: librdkafka does not start it")

    def _record(self, message: Message) -> InputRecord | None:
        """The record, or None for what librdkafka wants to tell. Raises when this member is out."""
        error = message.error()
        if error is None:
            place = _place(message)
            return InputRecord(place.topic, place.partition, int(message.offset() or 0), message.key(), message.value())
        if error.code() in (KafkaError.FENCED_INSTANCE_ID, KafkaError._FENCED):
            raise SlotTakenError(f"another process is the member {self._transactional_id} of its group: {error.str()}")
        if error.fatal():
            raise LogUnavailableError(f"the group member is out of order: {error.str()}")
        if error.code() in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED):
            raise LogUnavailableError(f"{self._transactional_id} may not read: {error.str()}; see the access rules")
        _log.info("the broker says: %s", error.str())
        return None


def _read_until(reader: Consumer, place: TopicPartition, end: int) -> list[tuple[bytes, bytes | None]]:
    """Committed records below offset `end`, and perhaps some after it."""
    entries: list[tuple[bytes, bytes | None]] = []
    deadline = time.monotonic() + STATE_READ_SECONDS
    while time.monotonic() < deadline:
        for message in reader.consume(1, STATE_READ_SECONDS) + reader.consume(10_000, 0):
            error = message.error()
            if error is None:
                entries.append((message.key() or b"", message.value()))
                deadline = time.monotonic() + STATE_READ_SECONDS
            elif error.code() == KafkaError._PARTITION_EOF:
                # Under read_committed this is the last stable offset, which may be below the end.
                if int(message.offset() or 0) >= end:
                    return entries
            else:
                _log.info("reading %s: %s", place, error.str())
    raise NotYetError(f"records before offset {end} are not decided, or the broker is slow")


def _place(message: Message) -> TopicPartition:
    return TopicPartition(str(message.topic()), int(message.partition() or 0))


def _partitions(places: Collection[TopicPartition]) -> list[KafkaPartition]:
    return [KafkaPartition(place.topic, place.partition) for place in places]


def _text(error: KafkaException) -> str:
    return str(error.args[0].str())
