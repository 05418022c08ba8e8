"""A transactional producer on librdkafka, with its errors told in the engine's four kinds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import TopicPartition as KafkaPartition

from streams.engine.ports import ClientError, ClientErrorKind, OutputRecord, TopicPartition

#: The broker aborts a transaction that is open for so long. Ours begin after the computing and take milliseconds; a
#: killed process that does not come back blocks its readers until then.
TRANSACTION_TIMEOUT_MS = 30_000
#: How long a call waits for its answer. Longer than a broker takes to come back.
CALL_SECONDS = 30.0

_FENCED = {
    KafkaError._FENCED,
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
}
_TIMED_OUT = {KafkaError._TIMED_OUT, KafkaError._TIMED_OUT_QUEUE, KafkaError.REQUEST_TIMED_OUT, KafkaError._TRANSPORT}


class KafkaProducer:
    """Implements `ports.Producer`."""

    def __init__(self, base: Mapping[str, Any], transactional_id: str, group_metadata: Callable[[], Any]) -> None:
        self._group_metadata = group_metadata
        self._producer = Producer(
            {
                **base,
                "transactional.id": transactional_id,
                "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
                "linger.ms": 0,
                "message.max.bytes": 1_048_576,
                "queue.buffering.max.kbytes": 262_144,
            }
        )

    def init(self) -> None:
        """Take the id; the broker ends what a predecessor left open."""
        self._call(lambda: self._producer.init_transactions(CALL_SECONDS))

    def begin(self) -> None:
        """Local to librdkafka."""
        self._call(self._producer.begin_transaction)

    def produce(self, record: OutputRecord) -> None:
        """Queue the record; its delivery is `commit`'s business."""
        try:
            self._send(record)
        except BufferError:
            # The local queue is full: let the broker have it.
            self._producer.flush(CALL_SECONDS)
            try:
                self._send(record)
            except BufferError as error:
                raise ClientError(ClientErrorKind.TIMED_OUT, "the broker does not take our records") from error

    def send_offsets(self, positions: Mapping[TopicPartition, int]) -> None:
        """Commit the group's positions in the transaction, as this generation of the group (KIP-447)."""
        offsets = [KafkaPartition(place.topic, place.partition, position) for place, position in positions.items()]
        self._call(lambda: self._producer.send_offsets_to_transaction(offsets, self._group_metadata(), CALL_SECONDS))

    def commit(self) -> None:
        """Flush and commit."""
        self._call(lambda: self._producer.commit_transaction(CALL_SECONDS))

    def abort(self) -> None:
        """Drop what is queued and abort."""
        self._call(lambda: self._producer.abort_transaction(CALL_SECONDS))

    def close(self) -> None:
        """Forget what is queued."""
        with contextlib.suppress(KafkaException):
            self._producer.purge()

    def _send(self, record: OutputRecord) -> None:
        self._call(lambda: self._producer.produce(record.topic, record.value, record.key, record.partition))

    def _call(self, call: Callable[[], object]) -> None:
        try:
            call()
        except KafkaException as exception:
            error = exception.args[0]
            raise ClientError(_kind(error), f"{error.name()}: {error.str()}") from exception


def _kind(error: KafkaError) -> ClientErrorKind:
    if error.code() in _FENCED:
        return ClientErrorKind.FENCED
    if error.txn_requires_abort():
        return ClientErrorKind.ABORTABLE
    if error.code() in _TIMED_OUT or error.retriable():
        return ClientErrorKind.TIMED_OUT
    return ClientErrorKind.FATAL
