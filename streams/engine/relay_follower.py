"""Follows plain compacted topics from their beginning, without a group: for tables that a process keeps in memory."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from streams.engine.errors import LogUnavailableError
from streams.engine.kafka_errors import text_of
from streams.engine.kafka_settings import CLIENT, STATE_READER, reading_group
from streams.engine.ports import InputRecord

_log = logging.getLogger(__name__)

RECORDS = 1_000
#: How long the follower waits for news; it ends within this time.
POLL_SECONDS = 0.1
#: A broker that has just started may take some seconds until it answers.
REQUEST_SECONDS = 10.0
#: News of a topic at rest: a fetch that the broker holds for so long. The end of a partition is told as often.
FETCH_WAIT_MS = 50


class TopicFollower:
    """`take` gets every committed record, in the order of each partition. It is called by one thread at a time."""

    def __init__(
        self,
        bootstrap_servers: str,
        properties: Mapping[str, Any],
        topics: Sequence[str],
        take: Callable[[InputRecord], None],
        client_id: str,
    ) -> None:
        self._servers = bootstrap_servers
        self._topics = topics
        self._take = take
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=f"{client_id}-follower", daemon=True)
        self._consumer = Consumer(
            {
                **CLIENT,
                **STATE_READER,
                "fetch.wait.max.ms": FETCH_WAIT_MS,
                **properties,
                "bootstrap.servers": bootstrap_servers,
                "client.id": client_id,
                "group.id": reading_group(properties),
                "logger": _log,
            }
        )

    def start(self) -> None:
        """Read everything that is there now, then follow in a thread. Raises `LogUnavailableError`."""
        ends = {(topic, partition): self._end(topic, partition) for topic, partition in self._places()}
        self._consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for topic, partition in ends])
        left = {place for place, end in ends.items() if end > 0}
        deadline = time.monotonic() + REQUEST_SECONDS
        while left:
            messages = self._next()
            for message in messages:
                place = (str(message.topic()), message.partition() or 0)
                # At the end librdkafka tells the offset of the end, which may lie behind markers of transactions.
                position = (message.offset() or 0) + (0 if message.error() else 1)
                self._deal(message)
                if position >= ends.get(place, 0):
                    left.discard(place)
            if messages:
                deadline = time.monotonic() + REQUEST_SECONDS
            elif time.monotonic() > deadline:
                raise LogUnavailableError(
                    f"{', '.join(sorted({topic for topic, _ in left}))} cannot be read to the end"
                )
        self._thread.start()

    def close(self) -> None:
        """End the thread and let go of the connection."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._consumer.close()

    def _follow(self) -> None:
        while not self._stopping.is_set():
            try:
                for message in self._next():
                    self._deal(message)
            except Exception:  # noqa: BLE001  (logged)
                # A table that stands still without a word would be worse than anything in the record.
                _log.exception("a record of %s is passed over", ", ".join(self._topics))

    def _next(self) -> list[Message]:
        """The first message is waited for, the others are taken if they are there."""
        first = self._consumer.poll(POLL_SECONDS)
        return [] if first is None else [first, *self._consumer.consume(RECORDS, 0)]

    def _deal(self, message: Message) -> None:
        error = message.error()
        if error is None:
            topic, partition = str(message.topic()), message.partition() or 0
            self._take(InputRecord(topic, partition, message.offset() or 0, message.key(), message.value()))
        elif error.code() != KafkaError._PARTITION_EOF:
            _log.info("following %s: %s", message.topic(), error.str())

    def _places(self) -> list[tuple[str, int]]:
        places = []
        for topic in self._topics:
            try:
                found = self._consumer.list_topics(topic, timeout=REQUEST_SECONDS).topics.get(topic)
            except KafkaException as error:
                raise LogUnavailableError(
                    f"no answer about topic {topic} from {self._servers}: {text_of(error)}; is this the broker's"
                    " address, and does it run?"
                ) from error
            if found is None or found.error is not None or not found.partitions:
                raise LogUnavailableError(f"there is no topic {topic}: make the party's topics first")
            places += [(topic, partition) for partition in found.partitions]
        return places

    def _end(self, topic: str, partition: int) -> int:
        """Where the partition ends now, for a reader of committed records; 0 if it is empty."""
        deadline = time.monotonic() + REQUEST_SECONDS
        while True:
            try:
                low, high = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), REQUEST_SECONDS)
                return high if high > low else 0
            except KafkaException as error:
                # A partition whose broker has just come back has no leader for a moment.
                if time.monotonic() > deadline:
                    raise LogUnavailableError(f"the end of {topic}[{partition}]: {text_of(error)}") from error
            self._stopping.wait(POLL_SECONDS)
