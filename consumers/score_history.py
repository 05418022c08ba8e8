"""The history writer: what the audit and results topics say, into the database and into files for data tools.

python -m consumers.score_history --home DIR

The database knows how far it has read, so a process that is killed, or a database that is restored from yesterday's
copy, goes on exactly there. While the database is away the writer waits, and says so.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from consumers.end_marks import EndMarks, Place
from consumers.party import Party
from consumers.process import run_process
from consumers.score_archive import Archive, ArchiveError
from consumers.score_rows import RowMaker, UnbookableError
from infra.connection import connect_as
from infra.history_store import (
    Booking,
    HistoryError,
    HistoryStore,
    HistoryUnavailableError,
    PositionMovedError,
    Progress,
    open_history,
)
from infra.object_store import ObjectStoreError
from infra.topics import HISTORY, dead_letter_topic, group_id, results_topic, score_audit_topic, transactional_id
from schemas.codec import DecodeError, decode
from streams.engine.dead_letter import make_dead_letter
from streams.engine.errors import EngineError
from streams.engine.kafka_errors import member_error
from streams.engine.kafka_settings import (
    BOOKS_READER,
    CLIENT,
    PRODUCER,
    READER,
    KafkaTimeouts,
    Membership,
    member_properties,
)
from streams.engine.ports import InputRecord

_log = logging.getLogger("isthmus.history")

#: Records in one transaction of the database.
MOST_RECORDS = 2_000
POLL_SECONDS = 0.2
#: Between two tries of a database that is away.
RETRY_SECONDS = 0.5
ARCHIVE_RETRY_SECONDS = 10.0
REQUEST_SECONDS = 5.0


class HistoryWriter:
    """One member of the group. `run` and what it calls use one thread; `stop` may come from another."""

    def __init__(
        self,
        party: Party,
        store: HistoryStore,
        slot: int = 0,
        *,
        most_records: int = MOST_RECORDS,
        timeouts: KafkaTimeouts | None = None,
        **archive_options: Any,
    ) -> None:
        """`archive_options` are those of `Archive`."""
        self._party = party.name
        self._store = store
        self._rows = RowMaker(party.name)
        self._most_records = most_records
        self._ending = threading.Event()
        self._member = transactional_id(HISTORY, party.name, slot)
        self._base: dict[str, Any] = {
            **CLIENT,
            **connect_as(party.settings, HISTORY),
            "client.id": self._member,
            "logger": _log,
        }
        self._consumer = Consumer(
            {
                **self._base,
                **BOOKS_READER,
                **member_properties(Membership.STATIC, timeouts or KafkaTimeouts()),
                "enable.partition.eof": True,
                "group.id": group_id(HISTORY, party.name),
                "group.instance.id": self._member,
            }
        )
        self._producer: Producer | None = None
        self._archive = Archive(store, party.objects, {**self._base, **READER}, **archive_options)
        self._archive_at = 0.0
        self._note_seconds = min(5.0, party.settings.score.statement_seconds / 4)
        self._note_at = 0.0
        #: Ours, but the database has not said yet where to go on.
        self._unplaced: list[Place] = []
        #: Where the database stands, and where we have read to.
        self._booked: dict[Place, int] = {}
        self._read: dict[Place, int] = {}
        self._marks = EndMarks()
        #: Came while fetching was paused.
        self._early: list[Message] = []

    def stop(self) -> None:
        """Ask `run` to end."""
        self._ending.set()

    def run(self) -> None:
        """Write until `stop` is called. Raises `EngineError`."""
        topics = [score_audit_topic(self._party), results_topic(self._party)]
        self._consumer.subscribe(topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke)
        _log.info("the history of %s is kept in %s", self._party, self._store.place)
        try:
            while not self._ending.is_set():
                self._turn()
        finally:
            self._consumer.close()
            self._store.close()

    def _turn(self) -> None:
        if self._unplaced and not self._try("find out where to go on", self._place):
            # Nothing is fetched: this is for the group, and for errors.
            self._check(self._consumer.poll(RETRY_SECONDS))
            return
        messages, self._early = self._early, []
        messages += self._consumer.consume(self._most_records, POLL_SECONDS)
        booking = Booking()
        for message in messages:
            self._read_message(message, booking)
        now = time.monotonic()
        is_time_to_note = now >= self._note_at
        if booking.outcomes or booking.results or booking.answers or is_time_to_note:
            self._book(booking)
        if is_time_to_note:
            self._note_at = now + self._note_seconds
            self._marks.look_up(self._consumer, self._booked)
        self._note_caught_up()
        if now >= self._archive_at:
            self._advance_archive()

    # --- the group ---

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # Nothing is fetched before the database has said from where.
        consumer.assign([])
        self._forget([(one.topic, one.partition) for one in partitions])

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.unassign()
        self._forget([])

    def _forget(self, places: list[Place]) -> None:
        self._unplaced = places
        self._booked, self._read, self._early = {}, {}, []
        self._marks.clear()
        self._archive.forget()

    def _place(self) -> None:
        places = self._unplaced
        found = self._store.read_positions(places)
        self._consumer.assign(
            [TopicPartition(topic, partition, found[topic, partition]) for topic, partition in places]
        )
        self._booked, self._read, self._unplaced = dict(found), dict(found), []
        _log.info("goes on in %d partitions, behind %d records", len(found), sum(found.values()))

    # --- records ---

    def _read_message(self, message: Message, booking: Booking) -> None:
        offset = message.offset() or 0
        place = (str(message.topic()), message.partition() or 0)
        if not self._check(message):
            return
        if place not in self._read or offset < self._read[place]:
            return
        value = message.value()
        if value is not None:
            try:
                self._rows.add(decode(value), booking)
            except (DecodeError, UnbookableError) as problem:
                self._set_aside(message, str(problem))
        self._read[place] = offset + 1

    def _check(self, message: Message | None) -> bool:
        """Whether it is a record. Raises `EngineError` for the end of the membership."""
        error = None if message is None else message.error()
        if message is None or error is None:
            return message is not None
        place = (str(message.topic()), message.partition() or 0)
        if error.code() == KafkaError._PARTITION_EOF:
            # Behind marks of transactions, which count as offsets.
            if place in self._read:
                self._read[place] = max(self._read[place], message.offset() or 0)
        elif (end := member_error(error, self._member)) is not None:
            raise end
        else:
            _log.info("%s", error.str())
        return False

    def _set_aside(self, message: Message, reason: str) -> None:
        """A dead letter, delivered before anything moves past the record."""
        topic, partition, offset = str(message.topic()), message.partition() or 0, message.offset() or 0
        _log.warning("%s[%d] offset %d is set aside: %s", topic, partition, offset, reason)
        key = message.key()
        record = InputRecord(topic, partition, offset, key if isinstance(key, bytes) else None, message.value())
        letter = make_dead_letter(dead_letter_topic(self._party), self._party, HISTORY, record, reason)
        self._producer = self._producer or Producer({**self._base, **PRODUCER, "enable.idempotence": True})
        self._producer.produce(letter.topic, letter.value, letter.key, letter.partition)
        while self._producer.flush(REQUEST_SECONDS):
            if self._ending.is_set():
                raise EngineError("the broker took no dead letter until the process was told to stop")

    def _book(self, booking: Booking) -> None:
        """Write; wait while the database is away. Rows are dropped when their partitions are no longer ours."""
        read = self._read
        progress = tuple(
            Progress(*place, self._booked[place], next_offset)
            for place, next_offset in read.items()
            if next_offset != self._booked[place]
        )
        if not progress:
            return
        whole = Booking(progress, booking.outcomes, booking.results, booking.answers, booking.late_answers)
        places = [TopicPartition(*place) for place in read]
        is_paused = False
        while not self._try("write", lambda: self._store.book(whole)):
            if not is_paused:
                self._consumer.pause(places)
                is_paused = True
            message = self._consumer.poll(RETRY_SECONDS)
            if self._read is not read or self._ending.is_set():
                return
            if message is not None:
                self._early.append(message)
        if self._read is not read:
            return
        if is_paused:
            self._consumer.resume(places)
        self._booked = dict(read)
        offsets = [TopicPartition(*place, next_offset) for place, next_offset in read.items()]
        # For those who look at lag: nothing starts from there.
        with contextlib.suppress(KafkaException):
            self._consumer.commit(offsets=offsets, asynchronous=True)

    def _try(self, what: str, act: Callable[[], object]) -> bool:
        """Whether the database did it."""
        try:
            act()
        except HistoryUnavailableError as problem:
            _log.warning("the database is away, waiting to %s: %s", what, problem)
            return False
        except PositionMovedError as problem:
            _log.warning("begins again where the database stands: %s", problem)
            self._consumer.unassign()
            self._forget(list(self._booked))
        return True

    # --- beside ---

    def _note_caught_up(self) -> None:
        """Tell the reconciler up to which time everything is in the tables."""
        for at_ms, places in self._marks.take_reached(self._booked).items():
            # Where the database is away the next mark tells.
            self._try("note how far it is", partial(self._store.note_caught_up, places, at_ms))

    def _advance_archive(self) -> None:
        audit = score_audit_topic(self._party)
        for place, booked in self._booked.items():
            if place[0] != audit:
                continue
            try:
                self._archive.advance(*place, booked)
            except (ArchiveError, HistoryUnavailableError, ObjectStoreError) as problem:
                _log.warning("files of %s[%d] have to wait: %s", *place, problem)
                self._archive_at = time.monotonic() + ARCHIVE_RETRY_SECONDS
                return


@click.command()
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), required=True, help="The party's home.")
@click.option("--slot", type=click.IntRange(0, 99), default=0, show_default=True, help="Number among equal processes.")
def main(home: Path, slot: int) -> None:
    """Keep the history of a party's scoring."""
    run_process(home, HISTORY, lambda party: HistoryWriter(party, open_history(party.settings), slot), (HistoryError,))


if __name__ == "__main__":
    main()
