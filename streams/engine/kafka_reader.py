"""Reading what lies in Kafka outside the group: states to their end, topics and their partitions."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from streams.engine.errors import LogUnavailableError
from streams.engine.kafka_errors import text_of
from streams.engine.kafka_settings import STATE_READER, KafkaTimeouts, reading_group
from streams.engine.ports import NotYetError, TopicPartition

_log = logging.getLogger(__name__)

#: Records taken from librdkafka's queue at once.
BATCH = 1_000


class KafkaReader:
    """Consumers of its own that belong to no group. Any thread may call it."""

    def __init__(self, base: dict[str, Any], timeouts: KafkaTimeouts) -> None:
        """`base` are the properties of every client."""
        self._base = base
        self._timeouts = timeouts
        self._lock = threading.Lock()
        self._reader: Consumer | None = None
        self._watcher: Consumer | None = None
        self._counts: dict[str, int] = {}

    def partition_count(self, topic: str) -> int:
        """Asked once a topic. Raises `LookupError` when there is no such topic, `LogUnavailableError`."""
        with self._lock:
            if topic not in self._counts:
                self._counts[topic] = self._ask_partition_count(topic)
            return self._counts[topic]

    def read_to_end(self, place: TopicPartition) -> list[tuple[bytes, bytes | None]]:
        """As `ports.Log.read_state`."""
        with self._lock:
            start, end = self._watermarks(place)
            if start == end:
                return []
            if self._reader is None:
                self._reader = self._make_consumer("read_committed")
            # A number, because librdkafka takes half a second to look up the first offset by itself.
            self._reader.assign([KafkaPartition(place.topic, place.partition, start)])
            try:
                return self._read_until(self._reader, place, end)
            finally:
                self._reader.unassign()

    def close(self) -> None:
        """Let go of the connections."""
        with self._lock:
            for consumer in (self._reader, self._watcher):
                if consumer is not None:
                    consumer.close()
            self._reader = self._watcher = None

    def _ask_partition_count(self, topic: str) -> int:
        try:
            found = self._watch().list_topics(topic, timeout=self._timeouts.request_seconds).topics.get(topic)
        except KafkaException as error:
            raise LogUnavailableError(
                f"no answer about topic {topic} from {self._base['bootstrap.servers']}: {text_of(error)}; is this the"
                " broker's address, and does it run?"
            ) from error
        if found is None or found.error is not None or not found.partitions:
            raise LookupError(f"there is no topic {topic}")
        return len(found.partitions)

    def _watermarks(self, place: TopicPartition) -> tuple[int, int]:
        """The first record, and the end of all. (A consumer of committed ones is told the last stable offset.)"""
        partition = KafkaPartition(place.topic, place.partition)
        try:
            found = self._watch().get_watermark_offsets(partition, timeout=self._timeouts.request_seconds)
        except KafkaException as error:
            # A client whose broker was away can go on knowing no leader for ever: the next question goes to a new one.
            self._watcher = None
            raise NotYetError(f"the end of {place.topic}[{place.partition}]: {text_of(error)}") from error
        if found is None:
            raise NotYetError(f"the end of {place.topic}[{place.partition}]: no answer")
        return found

    def _watch(self) -> Consumer:
        self._watcher = self._watcher or self._make_consumer("read_uncommitted")
        return self._watcher

    def _make_consumer(self, isolation: str) -> Consumer:
        return Consumer(
            {
                **self._base,
                **STATE_READER,
                "isolation.level": isolation,
                "group.id": reading_group(self._base),
            }
        )

    def _read_until(self, reader: Consumer, place: TopicPartition, end: int) -> list[tuple[bytes, bytes | None]]:
        entries: list[tuple[bytes, bytes | None]] = []
        patience = self._timeouts.state_read_seconds
        deadline = time.monotonic() + patience
        while (left := deadline - time.monotonic()) > 0:
            first = reader.poll(left)
            for message in () if first is None else (first, *reader.consume(BATCH, 0)):
                error = message.error()
                if error is None:
                    entries.append((message.key() or b"", message.value()))
                    deadline = time.monotonic() + patience
                elif error.code() == KafkaError._PARTITION_EOF:
                    # Told at the last stable offset, where a transaction that is not decided here holds us back.
                    if (message.offset() or 0) >= end:
                        return entries
                else:
                    _log.info("reading %s[%d]: %s", place.topic, place.partition, error.str())
        raise NotYetError(f"a transaction before offset {end} is not decided, or the broker is slow")
