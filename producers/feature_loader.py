"""Fills the party's feature topic. Records are keyed by person: loading again repairs what was left half-done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from numpy.typing import NDArray

from consumers.feature_table import TopicSource
from consumers.features import READY_SECONDS, open_topic_source
from consumers.party import Party
from infra.access import LOADER
from infra.topics import features_topic
from producers.topic_reader import QUIET, check_topics, connection_of
from schemas.codec import encode
from schemas.serving import FeatureRow
from streams.engine.kafka_settings import CLIENT, PRODUCER
from streams.engine.partitioner import partition_of
from streams.kernels.scorecard import name_person

#: Rows between two words about the progress.
PIECE_ROWS = 1_000
#: How long the broker may keep silent.
DELIVERY_SECONDS = 60.0


class FeatureTableError(Exception):
    """The table cannot be loaded; `mistakes` says everything that is wrong with it."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(self.mistakes))


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """Checked features. Row k of `values` (float64, NaN: missing) belongs to the normalised, distinct `ids[k]`."""

    ids: tuple[str, ...]
    columns: tuple[str, ...]
    values: NDArray[np.float64]
    #: Columns that hold no numbers, and were not asked for by name.
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """What to take from a table: the column of ids, of which type they are, and the features; none: all numbers."""

    id: str
    id_type: str = "string"
    columns: tuple[str, ...] = ()


class FeatureLoadError(Exception):
    """Not everything was written; the text says why. Loading again continues where this ended, as it were."""


@dataclass(frozen=True)
class LoadReport:
    """What was written."""

    rows: int
    deleted: int
    seconds: float


def load_features(
    party: Party, table: FeatureTable, *, delete_missing: bool, progress: Callable[[int], object]
) -> LoadReport:
    """Write the table's rows, then delete everybody else if wanted; `progress` is told how many rows are written.

    Raises `BrokerUnavailableError`, `FeatureLoadError`, `FeatureSourceError`.
    """
    began = time.monotonic()
    topic = features_topic(party.name)
    partitions = check_topics(connection_of(party.settings, LOADER), (topic,))[topic]
    key = party.keyring.pseudonym_key()
    keys = [name_person(key, entity_id) for entity_id in table.ids]
    # Before anything is written: who is gone must be known, not guessed.
    gone = sorted(set(_known(party)) - set(keys)) if delete_missing else []
    as_of_ms = time.time_ns() // 1_000_000
    writer = FeatureWriter(party, topic, partitions)
    for start in range(0, len(keys), PIECE_ROWS):
        piece = slice(start, start + PIECE_ROWS)
        for person, record in zip(keys[piece], _records(table, piece, as_of_ms), strict=True):
            writer.write(person, encode(record))
        progress(writer.delivered)
    writer.flush()
    # Only when all rows are there: a load that breaks off deletes nobody.
    for person in gone:
        writer.write(person, None)
    writer.flush()
    progress(len(keys))
    return LoadReport(len(keys), len(gone), time.monotonic() - began)


def open_features(party: Party, seconds: float = READY_SECONDS) -> TopicSource:
    """What the topic holds now. Raises `BrokerUnavailableError`, `FeatureSourceError`."""
    check_topics(connection_of(party.settings, LOADER), (features_topic(party.name),))
    return open_topic_source(party, seconds)


def _known(party: Party) -> list[bytes]:
    source = open_topic_source(party)
    try:
        return source.pseudonyms()
    finally:
        source.close()


def _records(table: FeatureTable, piece: slice, as_of_ms: int) -> Iterator[FeatureRow]:
    values = table.values[piece]
    for entity_id, row in zip(table.ids[piece], values, strict=True):
        yield FeatureRow(entity_id, table.columns, _plain(row), as_of_ms)


def _plain(row: NDArray[np.float64]) -> tuple[float | None, ...]:
    numbers: Sequence[float] = row.tolist()
    return tuple(None if number != number else number for number in numbers)


class FeatureWriter:
    """Seals and sends; no record is lost without an error."""

    def __init__(self, party: Party, topic: str, partitions: int) -> None:
        self._keyring, self._topic, self._partitions = party.keyring, topic, partitions
        self.delivered = 0
        self._error: KafkaError | None = None
        self._producer = Producer(
            {
                **connection_of(party.settings, LOADER),
                **CLIENT,
                **PRODUCER,
                "enable.idempotence": True,
                # Many small records: what waits a little goes together.
                "linger.ms": 20,
                "compression.type": "none",
                "delivery.timeout.ms": int(DELIVERY_SECONDS * 1000),
            },
            logger=QUIET,
        )

    def write(self, key: bytes, plain: bytes | None) -> None:
        """Send one record, waiting while the queue is full. Raises `FeatureLoadError`."""
        partition = partition_of(key, self._partitions)
        value = None if plain is None else self._keyring.seal_state(self._topic, partition, key, plain)
        while True:
            self._check()
            try:
                self._producer.produce(self._topic, value, key, partition, on_delivery=self._note)
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                self._fail(error.args[0])
            else:
                self._producer.poll(0)
                return

    def flush(self) -> None:
        """Wait until everything is written. Raises `FeatureLoadError`."""
        left = self._producer.flush(DELIVERY_SECONDS)
        self._check()
        if left:
            raise FeatureLoadError(f"the broker did not take {left} records within {DELIVERY_SECONDS:g} s; load again")

    def _note(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self.delivered += 1
        else:
            self._error = self._error or error

    def _check(self) -> None:
        if self._error is not None:
            self._fail(self._error)

    def _fail(self, error: KafkaError) -> NoReturn:
        raise FeatureLoadError(
            f"after {self.delivered} records the broker refused: {error.str()}; load again when it is repaired"
        )
