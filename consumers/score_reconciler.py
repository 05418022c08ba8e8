"""The reconciler: shows each peer what this party thinks was answered, and compares it with what the peer thinks.

python -m consumers.score_reconciler --home DIR

It speaks of an interval when the history writer has read everything that was written until a while after its end.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from consumers.party import Party
from consumers.process import run_process
from consumers.score_accounts import Accounts, Outgoing, RefusedError, StaleError
from infra.connection import connect_as
from infra.history_store import (
    HistoryError,
    HistoryStore,
    HistoryUnavailableError,
    open_history,
)
from infra.statement_store import StatementStore
from infra.topics import (
    RECONCILER,
    dead_letter_topic,
    group_id,
    score_audit_topic,
    statements_topic,
    transactional_id,
)
from schemas.record import Record
from streams.engine.dead_letter import make_dead_letter
from streams.engine.errors import EngineError
from streams.engine.kafka_errors import member_error
from streams.engine.kafka_settings import CLIENT, PRODUCER, READER, KafkaTimeouts, Membership, member_properties
from streams.engine.messages import DecodeError, MessageSeal, SealError
from streams.engine.ports import InputRecord

_log = logging.getLogger("isthmus.reconciler")

PURPOSE = "score-statements"
POLL_SECONDS = 0.2
RETRY_SECONDS = 0.5
FLUSH_SECONDS = 5.0
#: An interval rests for this long, or as long as it is itself, before anybody speaks of it: answers are on their way.
MARGIN_SECONDS = 30.0
#: Between two looks for intervals that are over or have changed.
LOOK_SECONDS = 10.0

_T = TypeVar("_T")


class Reconciler:
    """One member of the group; the one that has the topic's only partition speaks. `run` uses one thread."""

    def __init__(
        self, party: Party, history: HistoryStore, slot: int = 0, *, timeouts: KafkaTimeouts | None = None
    ) -> None:
        settings = party.settings
        self._party = party.name
        self._partitions = settings.topics.partitions
        self._history = history
        seconds = settings.score.statement_seconds
        self._margin_ms = int(1000 * min(MARGIN_SECONDS, seconds))
        self._look_seconds = min(LOOK_SECONDS, seconds / 4)
        store = StatementStore(history, party.name)
        self._accounts = Accounts(party.secrets, settings.peers, store, seconds * 1000, _now_ms)
        self._seal = MessageSeal(party.keyring, PURPOSE)
        self._ending = threading.Event()
        self._member = transactional_id(RECONCILER, party.name, slot)
        base: dict[str, Any] = {
            **CLIENT,
            **connect_as(settings, RECONCILER),
            "client.id": self._member,
            "logger": _log,
        }
        self._consumer = Consumer(
            {
                **base,
                **READER,
                **member_properties(Membership.STATIC, timeouts or KafkaTimeouts()),
                "group.id": group_id(RECONCILER, party.name),
                "group.instance.id": self._member,
            }
        )
        self._producer = Producer({**base, **PRODUCER, "enable.idempotence": True})
        self._lost: list[str] = []
        self._is_active = False

    def stop(self) -> None:
        """Ask `run` to end."""
        self._ending.set()

    def run(self) -> None:
        """Work until `stop` is called. Raises `EngineError`."""
        topics = [statements_topic(self._party)]
        self._consumer.subscribe(topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke)
        look_at = 0.0
        try:
            while not self._ending.is_set():
                message = self._consumer.poll(POLL_SECONDS)
                if message is not None:
                    self._take(message)
                if self._is_active and time.monotonic() >= look_at:
                    self._send(self._patiently(self._look))
                    look_at = 0.0 if self._accounts.has_more else time.monotonic() + self._look_seconds
        finally:
            self._consumer.close()
            self._history.close()

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._is_active = bool(partitions)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._is_active = False

    def _look(self) -> list[Outgoing]:
        complete_ms = self._history.caught_up_ms(score_audit_topic(self._party), self._partitions) - self._margin_ms
        return self._accounts.build_due(complete_ms) if complete_ms > 0 else []

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            if (end := member_error(error, self._member)) is not None:
                raise end
            _log.info("%s", error.str())
            return
        topic, partition, value = str(message.topic()), message.partition() or 0, message.value()
        if value is not None:
            try:
                sender, record = self._seal.open(value, topic, partition)
                self._send(self._patiently(lambda: self._accounts.receive(sender, record)))
            except StaleError as problem:
                _log.info("not taken: %s", problem)
            except (DecodeError, SealError, RefusedError) as problem:
                self._set_aside(message, str(problem))
        if not self._ending.is_set():
            with contextlib.suppress(KafkaException):
                self._consumer.commit(message=message, asynchronous=False)

    def _patiently(self, act: Callable[[], list[_T]]) -> list[_T]:
        """Do it when the database answers; nothing, when the process is told to stop before that."""
        while not self._ending.is_set():
            try:
                return act()
            except HistoryUnavailableError as problem:
                _log.warning("the database is away, waiting: %s", problem)
                # At most one record is under way: what is read meanwhile is read again.
                self._keep_alive()
        return []

    def _keep_alive(self) -> None:
        places = self._consumer.assignment()
        self._consumer.pause(places)
        self._ending.wait(RETRY_SECONDS)
        if (message := self._consumer.poll(0)) is not None and message.error() is None:
            topic, partition, offset = str(message.topic()), message.partition() or 0, message.offset() or 0
            self._consumer.seek(TopicPartition(topic, partition, offset))
        self._consumer.resume(self._consumer.assignment())

    # --- sending ---

    def _send(self, outgoing: list[Outgoing]) -> None:
        """Statements that were not sent yet, then the rest; returns when the broker has everything."""
        unsent = self._patiently(self._accounts.unsent)
        for receiver, record, _ in unsent:
            self._produce(receiver, record)
        for receiver, record in outgoing:
            self._produce(receiver, record)
        if (unsent or outgoing) and self._is_flushed():
            for _, _, mark_sent in unsent:
                self._patiently(lambda mark=mark_sent: [mark()])  # type: ignore[misc]

    def _produce(self, receiver: str, record: Record) -> None:
        topic = statements_topic(receiver)
        try:
            value = self._seal.seal(record, receiver, topic, 0)
        except SealError as problem:
            _log.warning("nothing is sent to %s: %s", receiver, problem)
            return
        self._put(topic, b"", value)

    def _put(self, topic: str, key: bytes, value: bytes) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key, 0, on_delivery=self._on_delivery)
                return
            except BufferError:
                self._producer.poll(RETRY_SECONDS)

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._lost.append(f"{message.topic()}: {error.str()}")

    def _is_flushed(self) -> bool:
        """Whether the broker has everything; waits for it until the process is told to stop."""
        while self._producer.flush(FLUSH_SECONDS):
            if self._ending.is_set():
                return False
        if self._lost:
            raise EngineError(f"a record for {self._lost[0]}; after a restart it is sent again")
        return True

    def _set_aside(self, message: Message, reason: str) -> None:
        topic, partition, offset = str(message.topic()), message.partition() or 0, message.offset() or 0
        _log.warning("%s[%d] offset %d is set aside: %s", topic, partition, offset, reason)
        key = message.key()
        record = InputRecord(topic, partition, offset, key if isinstance(key, bytes) else None, message.value())
        letter = make_dead_letter(dead_letter_topic(self._party), self._party, RECONCILER, record, reason)
        self._put(letter.topic, letter.key, letter.value or b"")
        self._is_flushed()


def _now_ms() -> int:
    return int(time.time() * 1000)


@click.command()
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), required=True, help="The party's home.")
@click.option("--slot", type=click.IntRange(0, 99), default=0, show_default=True, help="Number among equal processes.")
def main(home: Path, slot: int) -> None:
    """Compare a party's scoring accounts with its peers."""
    run_process(home, RECONCILER, lambda party: Reconciler(party, open_history(party.settings), slot), (HistoryError,))


if __name__ == "__main__":
    main()
