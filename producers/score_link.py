"""Requests out, results in: what the two score clients share. One thread follows the results of the whole party."""

from __future__ import annotations

import heapq
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from infra.connection import Connection
from infra.topics import requests_topic, results_topic
from producers.score_recall import RecalledResults, ask_ends, read_back
from producers.topic_reader import ANSWER_SECONDS, QUIET, BrokerUnavailableError, check_topics
from schemas.codec import DecodeError, decode, encode
from schemas.scoring import Purpose, ScoreJoined, ScoreRequested
from streams.engine.kafka_settings import CLIENT, PRODUCER, READER, reading_group

#: How long a look for deadlines and delivery failures can wait for the next result.
LOOK_SECONDS = 0.02
#: Requests of so long go to the broker together: each message to it costs as much as several more records in it.
LINGER_MS = 2
#: Taken from librdkafka's queue at once.
MOST_RECORDS = 1_000


class ScoreClientError(Exception):
    """A request has no result. `request_id` names it; the text says why and what to do."""

    def __init__(self, request_id: str, text: str) -> None:
        super().__init__(text)
        self.request_id = request_id


class ScoreTimeoutError(ScoreClientError):
    """No result came in time. The request may have an outcome all the same: see the history."""


class ScoreClosedError(ScoreClientError):
    """The client was closed before the result came."""


@dataclass
class _Pending:
    """A request without a result. `give_up_at` is of the monotonic clock."""

    request_id: str
    purpose: Purpose
    future: Future[ScoreJoined]
    give_up_at: float
    delivered: bool = False


class ScoreLink:
    """Sends requests of one party and hands each its result. Any thread may call it."""

    def __init__(self, party: str, connection: Connection) -> None:
        """Begins to follow the results at their end. Raises `BrokerUnavailableError`."""
        self._servers = connection["bootstrap.servers"]
        self._requests, self._results = requests_topic(party), results_topic(party)
        counts = check_topics(connection, (self._requests, self._results))
        self._partitions = counts[self._results]
        self._reading = {**connection, **CLIENT, **READER, "fetch.wait.max.ms": 50}
        self._reading["group.id"] = reading_group(connection)
        self._lock = threading.Lock()
        self._pending: dict[bytes, _Pending] = {}
        self._deadlines: list[tuple[float, bytes]] = []
        self._recalling = threading.Lock()
        #: Once an application names requests itself.
        self._recalled: RecalledResults | None = None
        self._trouble = ""
        self._closing, self._closed = threading.Event(), False
        self._consumer = Consumer(self._reading, logger=QUIET)
        # As numbers, before the first request is sent: librdkafka looks up "the end" later than that.
        ends = ask_ends(self._consumer, self._results, self._partitions)
        self._consumer.assign([TopicPartition(self._results, *end) for end in ends.items()])
        self._producer = Producer(
            {
                **connection,
                **CLIENT,
                **PRODUCER,
                "linger.ms": LINGER_MS,
                "partitioner": "consistent",
                # Copies of a request do no harm, and a producer that is not idempotent has no state to lose.
                "acks": "all",
                "message.timeout.ms": 30_000,
            },
            logger=QUIET,
        )
        self._thread = threading.Thread(target=self._follow, name="score-results", daemon=True)
        self._thread.start()

    def submit(self, request: ScoreRequested, seconds: float) -> Future[ScoreJoined]:
        """Send the request. The future ends within `seconds` (or so), with a result or a `ScoreClientError`.

        A request that is under way already is not sent again, nor one whose result is known (see `recall`).
        Raises `ScoreClosedError`, `EncodeError`, `BrokerUnavailableError`.
        """
        key, value = request.request_id.encode(), encode(request)
        give_up_at = time.monotonic() + seconds
        with self._lock:
            if self._closing.is_set():
                raise ScoreClosedError(request.request_id, f"request {request.request_id}: the client is closed")
            known = self._recalled.find(key, request.purpose) if self._recalled is not None else None
            if known is not None:
                return _ended(known)
            pending = self._pending.get(key)
            if pending is not None:
                pending.give_up_at = max(pending.give_up_at, give_up_at)
                return pending.future
            pending = _Pending(request.request_id, request.purpose, Future(), give_up_at)
            # Nobody can cancel what was sent; a caller that no longer waits must not break the follower.
            pending.future.set_running_or_notify_cancel()
            self._pending[key] = pending
            heapq.heappush(self._deadlines, (give_up_at, key))
        try:
            self._producer.produce(self._requests, value, key, on_delivery=self._note_delivery)
        except (BufferError, KafkaException) as error:
            refused = BrokerUnavailableError(f"request {request.request_id} was not sent: {error}")
            if self._is_mine(key, pending):
                pending.future.set_exception(refused)
            raise refused from error
        return pending.future

    def recall(self) -> None:
        """From now on know the results of the last quarter of an hour, and those that come, whoever asked.

        A request that has its outcome gets no second one: an application that starts again and repeats its requests
        finds their results here. Raises `BrokerUnavailableError`.
        """
        with self._recalling:
            if self._recalled is not None:
                return
            with self._lock:
                self._recalled = RecalledResults()
            try:
                read_back(self._reading, self._results, self._partitions, self._take)
            except BrokerUnavailableError:
                with self._lock:
                    self._recalled = None
                raise

    def close(self, seconds: float = ANSWER_SECONDS) -> None:
        """Stop; requests without a result end with `ScoreClosedError`. May be called twice."""
        with self._lock:
            self._closing.set()
            if self._closed:
                return
            self._closed = True
        self._thread.join()
        self._producer.flush(seconds if len(self._producer) else 0)
        self._consumer.close()

    # --- the thread -------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        try:
            while not self._closing.is_set():
                # `consume` waits until it has as many as it was asked for; `poll` returns with the first.
                message = self._consumer.poll(LOOK_SECONDS)
                if message is not None:
                    self._take([message, *self._consumer.consume(MOST_RECORDS, 0)])
                self._producer.poll(0)
                self._give_up(time.monotonic())
        finally:
            with self._lock:
                self._closing.set()
                left = list(self._pending.values())
                self._pending.clear()
            for pending in left:
                text = f"request {pending.request_id}: the client was closed before the result came"
                pending.future.set_exception(ScoreClosedError(pending.request_id, text))

    def _take(self, messages: list[Message]) -> None:
        for message in messages:
            error = message.error()
            if error is not None:
                self._trouble = error.str()
                continue
            key, value = message.key(), message.value()
            if key is None or value is None:
                continue
            self._trouble = ""
            with self._lock:
                if self._recalled is not None:
                    self._recalled.keep(key, value)
                pending = self._pending.get(key)
            if pending is not None:
                self._finish(key, pending, value)

    def _finish(self, key: bytes, pending: _Pending, value: bytes) -> None:
        try:
            result = decode(value)
        except DecodeError as error:
            text = f"the result of request {pending.request_id} cannot be read: {error}"
            if self._is_mine(key, pending):
                pending.future.set_exception(ScoreClientError(pending.request_id, text))
            return
        # A parity check may use the id of a request for a score of its own.
        if isinstance(result, ScoreJoined) and result.purpose is pending.purpose and self._is_mine(key, pending):
            pending.future.set_result(result)

    def _is_mine(self, key: bytes, pending: _Pending) -> bool:
        """Whether the caller is the one to end the request: results can be read back while others come."""
        with self._lock:
            if self._pending.get(key) is not pending:
                return False
            del self._pending[key]
            return True

    def _give_up(self, now: float) -> None:
        late: list[_Pending] = []
        with self._lock:
            while self._deadlines and self._deadlines[0][0] <= now:
                _, key = heapq.heappop(self._deadlines)
                pending = self._pending.get(key)
                if pending is None:
                    continue
                if pending.give_up_at > now:
                    heapq.heappush(self._deadlines, (pending.give_up_at, key))
                else:
                    late.append(self._pending.pop(key))
        for pending in late:
            pending.future.set_exception(self._why_late(pending))

    def _why_late(self, pending: _Pending) -> Exception:
        if not pending.delivered:
            return BrokerUnavailableError(
                f"request {pending.request_id} did not reach the broker at {self._servers} in time: does it run? "
                "The request may still arrive; sent again with this id it has one outcome"
            )
        trouble = f" (reading results: {self._trouble})" if self._trouble else ""
        return ScoreTimeoutError(
            pending.request_id,
            f"no result of request {pending.request_id} in time{trouble}: do the score router and joiner run? See "
            f"`isthmus lag`; what became of it is told by `isthmus score history --request {pending.request_id}`",
        )

    def _note_delivery(self, error: KafkaError | None, message: Message) -> None:
        key = message.key() or b""
        with self._lock:
            pending = self._pending.get(key)
            if pending is not None and error is None:
                pending.delivered = True
        if pending is None or error is None or not self._is_mine(key, pending):
            return
        text = f"request {pending.request_id} did not reach the broker at {self._servers}: {error.str()}"
        pending.future.set_exception(BrokerUnavailableError(text))


def _ended(result: ScoreJoined) -> Future[ScoreJoined]:
    future: Future[ScoreJoined] = Future()
    future.set_result(result)
    return future
