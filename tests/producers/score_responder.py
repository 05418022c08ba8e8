"""A thread that plays the router and the joiner of a party: each request gets one outcome, as the test says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer, TopicPartition

from infra.topics import requests_topic, results_topic
from schemas.codec import decode, encode
from schemas.scoring import Outcome, Purpose, ScoreJoined, ScoreReason, ScoreRequested

Answer = Callable[[ScoreRequested], ScoreJoined | None]


def points_of(entity_id: str) -> int:
    """What the responder says of a person: from its id, so that a mix-up shows."""
    return 500 + int(entity_id.strip("C") or 0) % 997


def scored(request: ScoreRequested) -> ScoreJoined:
    """A full score of `NAME@ALIAS` or `NAME`, by version 3."""
    name, _, alias = request.model.partition("@")
    now_us = time.time_ns() // 1000
    return ScoreJoined(
        request_id=request.request_id,
        model=name,
        version="3",
        alias=alias or "live",
        outcome=Outcome.SCORED,
        reason=ScoreReason.NONE,
        party="",
        detail="",
        points=points_of(request.entity_id),
        probability=0.25,
        band="good",
        decision="accept",
        purpose=request.purpose,
        requested_at_ms=request.requested_at_ms,
        routed_at_us=now_us,
        answered_at_us=now_us,
        joined_at_us=now_us,
    )


def refused(request: ScoreRequested) -> ScoreJoined:
    """Nobody knows the person."""
    return replace(
        scored(request), outcome=Outcome.REFUSED, reason=ScoreReason.NO_SUCH_PERSON, party="bank", points=None,
        probability=None, band="", decision="",
    )  # fmt: skip


class Responder:
    """Answers from the first request on, in transactions. Use it as a context manager.

    `requests` holds what came, copies included; `aborted` results are written in transactions that are aborted, before
    the right one.
    """

    def __init__(self, bootstrap: str, party: str, answer: Answer = scored, aborted: Answer = lambda _: None) -> None:
        self.requests: list[tuple[Message, ScoreRequested]] = []
        self.answer, self.aborted = answer, aborted
        self._party = party
        self._results = results_topic(party)
        self._seen: set[tuple[str, Purpose]] = set()
        self._stopping = threading.Event()
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "fetch.wait.max.ms": 20})
        topic = requests_topic(party)
        partitions = self._consumer.list_topics(topic, 30).topics[topic].partitions
        self._consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
        self.producer = Producer(
            {"bootstrap.servers": bootstrap, "transactional.id": f"vfl.{party}.score-joiner.0", "retry.backoff.ms": 5}
        )
        self.producer.init_transactions(60)
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        self._consumer.close()

    def write(self, *results: ScoreJoined, abort: bool = False) -> None:
        """Results in one transaction. All of them reach the log, also those of one that is aborted."""
        self.producer.begin_transaction()
        for result in results:
            self.producer.produce(self._results, encode(result), result.request_id.encode())
        assert self.producer.flush(60) == 0
        if abort:
            self.producer.abort_transaction(60)
        else:
            self.producer.commit_transaction(60)

    def _work(self) -> None:
        while not self._stopping.is_set():
            message = self._consumer.poll(0.02)
            if message is None:
                continue
            batch = [(one, self._request(one)) for one in [message, *self._consumer.consume(1000, 0)]]
            self.requests += batch
            new = [request for _, request in batch if self._is_new(request)]
            never = [result for request in new if (result := self.aborted(request)) is not None]
            answers = [result for request in new if (result := self.answer(request)) is not None]
            if never:
                self.write(*never, abort=True)
            if answers:
                self.write(*answers)

    def _request(self, message: Message) -> ScoreRequested:
        assert message.error() is None, message.error()
        request = decode(message.value() or b"")
        assert isinstance(request, ScoreRequested)
        return request

    def _is_new(self, request: ScoreRequested) -> bool:
        key = (request.request_id, request.purpose)
        if key in self._seen:
            return False
        self._seen.add(key)
        return True
