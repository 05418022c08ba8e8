"""Audit records as Avro files in the object store, for data tools: by date, model and version.

    scoring/date=2026-11-22/model=credit-risk/version=3/<topic>-<partition>-<first offset>-ScoreAudited.avro

What goes together is decided first, as offsets in the database; then the topic is read from there and the files are
written. A process that is killed in between does the same again, with the same bytes under the same names.
"""

from __future__ import annotations

import datetime
import hashlib
import io
import logging
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import fastavro
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from infra.history_store import HistoryStore
from infra.object_store import ObjectStore
from schemas.catalogue import load_catalogue
from schemas.codec import DecodeError, decode
from schemas.conversion import to_plain
from schemas.record import Record
from schemas.scoring import AnswerAudited, AnswerLate, ScoreAudited
from streams.engine.kafka_settings import reading_group

_log = logging.getLogger(__name__)

#: Offsets in one cut: some megabytes.
CUT_OFFSETS = 20_000
#: What lies in the topic for so long goes into files, however little it is.
CUT_SECONDS = 900.0
#: After a failure.
RETRY_SECONDS = 10.0
READ_SECONDS = 30.0
#: Of a model's name in a path; longer ones end in a digest.
NAME_CHARACTERS = 80
#: The end of the year 9999, where dates end.
LAST_US = 253_402_300_799_000_000


class ArchiveError(Exception):
    """The topic could not be read up to where the cut ends. Trying again later may help."""


class Archive:
    """Cuts the audit topic's partitions into files. One thread calls it."""

    def __init__(
        self,
        store: HistoryStore,
        objects: ObjectStore,
        consumer_properties: Mapping[str, Any],
        *,
        cut_offsets: int = CUT_OFFSETS,
        cut_seconds: float = CUT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._objects = objects
        self._properties = dict(consumer_properties)
        self._cut_offsets = cut_offsets
        self._cut_seconds = cut_seconds
        self._clock = clock
        #: Where a partition's next cut begins, and since when something lies there.
        self._starts: dict[tuple[str, int], int] = {}
        self._since: dict[tuple[str, int], float] = {}

    def forget(self) -> None:
        """Other processes may have the partitions now: what is known of them is asked again."""
        self._starts.clear()
        self._since.clear()

    def advance(self, topic: str, partition: int, next_offset: int) -> bool:
        """Write a cut if one is due, given that the tables hold everything before `next_offset`; says whether.

        Raises `HistoryUnavailableError`, `ObjectStoreError`, `ArchiveError`.
        """
        place = (topic, partition)
        if place not in self._starts:
            cut = self._store.last_cut(topic, partition)
            if cut is not None and not cut[2]:
                self._write(topic, partition, cut[0], cut[1])
                return True
            self._starts[place] = cut[1] if cut else 0
        first = self._starts[place]
        if next_offset <= first:
            self._since.pop(place, None)
            return False
        since = self._since.setdefault(place, self._clock())
        if next_offset - first < self._cut_offsets and self._clock() - since < self._cut_seconds:
            return False
        self._store.add_cut(topic, partition, first, min(next_offset, first + self._cut_offsets))
        # Whoever decided first has decided.
        cut = self._store.last_cut(topic, partition)
        assert cut is not None
        del self._starts[place]
        if not cut[2]:
            self._write(topic, partition, cut[0], cut[1])
        return True

    def _write(self, topic: str, partition: int, first: int, end: int) -> None:
        files: dict[str, list[Record]] = {}
        for message in self._read(topic, partition, first, end):
            try:
                record = decode(message.value() or b"")
            except DecodeError:
                continue  # The history writer has set it aside.
            if isinstance(record, ScoreAudited | AnswerLate | AnswerAudited):
                files.setdefault(file_name(record, topic, partition, first), []).append(record)
        for name, records in files.items():
            self._objects.put_named(name, to_file(name, records))
        self._store.mark_written(topic, partition, first)
        self._since.pop((topic, partition), None)
        _log.info("archived %s[%d] from %d to %d in %d files", topic, partition, first, end - 1, len(files))

    def _read(self, topic: str, partition: int, first: int, end: int) -> Iterator[Message]:
        consumer = Consumer(
            {**self._properties, "group.id": reading_group(self._properties), "enable.partition.eof": True}
        )
        deadline = time.monotonic() + READ_SECONDS
        try:
            consumer.assign([TopicPartition(topic, partition, first)])
            while time.monotonic() < deadline:
                for message in consumer.consume(1_000, 0.1):
                    error, offset = message.error(), message.offset() or 0
                    if error is None and offset < end:
                        yield message
                        deadline = time.monotonic() + READ_SECONDS
                    # The last ones may be marks of transactions, which are never given out.
                    is_end = error is not None and error.code() == KafkaError._PARTITION_EOF
                    if (is_end and offset >= end) or (error is None and offset >= end - 1):
                        return
            raise ArchiveError(f"{topic}[{partition}] was not read up to {end} within {READ_SECONDS:g} s")
        except KafkaException as error:
            raise ArchiveError(f"{topic}[{partition}]: {error.args[0].str()}") from error
        finally:
            consumer.close()


def file_name(record: ScoreAudited | AnswerLate | AnswerAudited, topic: str, partition: int, first: int) -> str:
    """Where the record goes, if its cut of the topic begins at `first`. Dates are UTC, of when it was written."""
    if isinstance(record, ScoreAudited):
        time_us = record.joined_at_us
    else:
        time_us = record.received_at_us if isinstance(record, AnswerLate) else record.answered_at_us
    date = datetime.datetime.fromtimestamp(min(max(time_us, 0), LAST_US) // 1_000_000, datetime.UTC).date()
    folder = f"scoring/date={date}/model={_word(record.model)}/version={_word(record.version)}"
    return f"{folder}/{topic}-{partition}-{first:020d}-{type(record).__name__}.avro"


def to_file(name: str, records: Iterable[Record]) -> bytes:
    """An Avro object container file of records of one class; the same records under the same name give equal bytes."""
    found = list(records)
    cls = type(found[0])
    convert = to_plain(cls)
    out = io.BytesIO()
    fastavro.writer(
        out,
        load_catalogue().newest(cls).parsed,
        (convert(record) for record in found),
        codec="deflate",
        sync_marker=hashlib.sha256(name.encode()).digest()[:16],
    )
    return out.getvalue()


def _word(text: str) -> str:
    """As a part of a path; applications may have asked for a model of any name."""
    word = urllib.parse.quote(text, safe="") or "-"
    if len(word) > NAME_CHARACTERS:
        word = f"{word[:NAME_CHARACTERS]}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    return word
