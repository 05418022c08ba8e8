"""A transactional producer on librdkafka."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from typing import Any

from confluent_kafka import KafkaException, Producer
from confluent_kafka import TopicPartition as KafkaPartition

from streams.engine.kafka_errors import kind_of
from streams.engine.kafka_settings import PRODUCER, KafkaTimeouts
from streams.engine.ports import ClientError, ClientErrorKind, OutputRecord, TopicPartition

#: A call, and where its end is told: with None, or with what it raised. (A `Future` costs several times as much.)
_Call = tuple[Callable[[], object], SimpleQueue[BaseException | None]]

#: What a call may take beyond the time that librdkafka was given for it.
OVERRUN_SECONDS = 5.0


class KafkaProducer:
    """Implements `ports.Producer`. `group_metadata` gives the member's generation at the time of the call.

    Calls that wait for the broker run in another thread, because librdkafka 2.16 does not always keep the time it is
    given: `send_offsets_to_transaction` was seen to wait for ever when the broker was killed under it. A call that
    overruns counts as unanswered. The thread and the client below it stay behind, out of use.
    """

    def __init__(
        self,
        base: Mapping[str, Any],
        transactional_id: str,
        timeouts: KafkaTimeouts,
        group_metadata: Callable[[], Any],
    ) -> None:
        self._seconds = timeouts.call_seconds
        self._group_metadata = group_metadata
        self._is_stuck = False
        self._producer = Producer(
            {
                **base,
                **PRODUCER,
                "transactional.id": transactional_id,
                "transaction.timeout.ms": timeouts.transaction_ms,
            }
        )
        #: For one thread that makes all calls: a new one for each is work that the broker's answer waits for.
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        #: A transaction that was begun ahead; beginning is a word between two threads of librdkafka, and takes a while.
        self._begun: SimpleQueue[BaseException | None] | None = None
        threading.Thread(target=_make_calls, args=(self._calls,), name=transactional_id, daemon=True).start()

    def init(self) -> None:
        """Take the id; the broker ends what a predecessor left open."""
        self._await("init_transactions", lambda: self._producer.init_transactions(self._seconds))
        self._begin_ahead()

    def begin(self) -> None:
        """Local to librdkafka, and usually done already: the broker hears of a transaction with its first record."""
        begun, self._begun = self._begun, None
        if begun is None:
            raise RuntimeError("the producer is in a transaction, or has no id yet: a bug in the engine")
        self._collect("begin_transaction", begun)

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
        metadata = self._group_metadata()
        self._await(
            "send_offsets_to_transaction",
            lambda: self._producer.send_offsets_to_transaction(offsets, metadata, self._seconds),
        )

    def commit(self) -> None:
        """Flush and commit."""
        self._await("commit_transaction", lambda: self._producer.commit_transaction(self._seconds))
        self._begin_ahead()

    def close(self) -> None:
        """Forget what is queued, say nothing. (`Producer.close` would abort, which can take long without a broker.)"""
        self._calls.put(None)
        if self._is_stuck:
            return
        with contextlib.suppress(KafkaException):
            self._producer.purge()

    def _send(self, record: OutputRecord) -> None:
        self._call(lambda: self._producer.produce(record.topic, record.value, record.key, record.partition))

    def _begin_ahead(self) -> None:
        self._begun = self._submit(self._producer.begin_transaction)

    def _await(self, name: str, call: Callable[[], object]) -> None:
        """Have the call made, and turn to other things when it does not come back."""
        if self._is_stuck:
            raise ClientError(ClientErrorKind.TIMED_OUT, f"{name}: the client is stuck in an earlier call")
        self._collect(name, self._submit(call))

    def _submit(self, call: Callable[[], object]) -> SimpleQueue[BaseException | None]:
        answers: SimpleQueue[BaseException | None] = SimpleQueue()
        self._calls.put((lambda: self._call(call), answers))
        return answers

    def _collect(self, name: str, answers: SimpleQueue[BaseException | None]) -> None:
        try:
            error = answers.get(timeout=self._seconds + OVERRUN_SECONDS)
        except Empty:
            self._is_stuck = True
            raise ClientError(ClientErrorKind.TIMED_OUT, f"{name} did not come back in time") from None
        if error is not None:
            raise error

    def _call(self, call: Callable[[], object]) -> None:
        try:
            call()
        except KafkaException as exception:
            error = exception.args[0]
            raise ClientError(kind_of(error), f"{error.name()}: {error.str()}") from exception


def _make_calls(calls: SimpleQueue[_Call | None]) -> None:
    """The thread: one call after the other, until there is None."""
    while (wanted := calls.get()) is not None:
        call, answers = wanted
        try:
            call()
        except BaseException as error:  # noqa: BLE001  (raised again in the caller's thread)
            answers.put(error)
        else:
            answers.put(None)
