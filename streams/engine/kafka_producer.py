"""A transactional producer on librdkafka."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import KafkaException, Producer
from confluent_kafka import TopicPartition as KafkaPartition

from streams.engine.kafka_errors import kind_of
from streams.engine.kafka_settings import PRODUCER, KafkaTimeouts
from streams.engine.ports import ClientError, ClientErrorKind, OutputRecord, TopicPartition


class KafkaProducer:
    """Implements `ports.Producer`. `group_metadata` gives the member's generation at the time of the call."""

    def __init__(
        self,
        base: Mapping[str, Any],
        transactional_id: str,
        timeouts: KafkaTimeouts,
        group_metadata: Callable[[], Any],
    ) -> None:
        self._seconds = timeouts.call_seconds
        self._group_metadata = group_metadata
        self._producer = Producer(
            {
                **base,
                **PRODUCER,
                "transactional.id": transactional_id,
                "transaction.timeout.ms": timeouts.transaction_ms,
            }
        )

    def init(self) -> None:
        """Take the id; the broker ends what a predecessor left open."""
        self._call(lambda: self._producer.init_transactions(self._seconds))

    def begin(self) -> None:
        """Local to librdkafka."""
        self._call(self._producer.begin_transaction)

    def produce(self, record: OutputRecord) -> None:
        """Queue the record; its delivery is `commit`'s business."""
        try:
            self._send(record)
        except BufferError:
            # The local queue is full: let the broker have it.
            self._producer.flush(self._seconds)
            try:
                self._send(record)
            except BufferError as error:
                raise ClientError(ClientErrorKind.TIMED_OUT, "the broker does not take our records") from error

    def send_offsets(self, positions: Mapping[TopicPartition, int]) -> None:
        """Commit the group's positions in the transaction, as this generation of the group (KIP-447)."""
        offsets = [KafkaPartition(place.topic, place.partition, position) for place, position in positions.items()]
        self._call(lambda: self._producer.send_offsets_to_transaction(offsets, self._group_metadata(), self._seconds))

    def commit(self) -> None:
        """Flush and commit."""
        self._call(lambda: self._producer.commit_transaction(self._seconds))

    def abort(self) -> None:
        """Drop what is queued and abort."""
        self._call(lambda: self._producer.abort_transaction(self._seconds))

    def close(self) -> None:
        """Forget what is queued, say nothing. (`Producer.close` would abort, which can take long without a broker.)"""
        with contextlib.suppress(KafkaException):
            self._producer.purge()

    def _send(self, record: OutputRecord) -> None:
        self._call(lambda: self._producer.produce(record.topic, record.value, record.key, record.partition))

    def _call(self, call: Callable[[], object]) -> None:
        try:
            call()
        except KafkaException as exception:
            error = exception.args[0]
            raise ClientError(kind_of(error), f"{error.name()}: {error.str()}") from exception
