"""Features from the party's own topic, all of it in memory: lookups touch no network.

Each record's key is the person's pseudonym and its value a sealed `FeatureRow`: the broker learns no id and no value.
A record without a value deletes the person.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from consumers.feature_rows import Row, RowReader, make_plan
from schemas.codec import DecodeError
from streams.engine.kafka_errors import text_of
from streams.engine.kafka_settings import CLIENT, STATE_READER, reading_group
from streams.engine.seal import Keyring, SealError
from streams.features import FeatureSourceError, PersonFeatures
from streams.kernels.scorecard import name_person

_log = logging.getLogger(__name__)

#: Records taken from librdkafka's queue at once, and how long it may take to fill.
BATCH, POLL_SECONDS = 2_000, 0.05
#: Requests about partitions and their ends, and the pause before one that failed is repeated.
REQUEST_SECONDS, RETRY_SECONDS = 5.0, 0.5
#: The thread ends after one poll; a request about ends may be under way.
STOP_SECONDS = 2 * REQUEST_SECONDS
#: Ways to read a row that are kept: layouts of rows x models.
CACHED_PLANS = 1_000


class TopicSource:
    """A `FeatureSource` on a compacted topic, read to its end and followed in a thread."""

    def __init__(self, keyring: Keyring, topic: str, connection: Mapping[str, str | int | bool]) -> None:
        """`connection`: properties of the Kafka client, `bootstrap.servers` among them."""
        self._keyring, self._topic, self._connection = keyring, topic, connection
        self._pseudonym_key = keyring.pseudonym_key()
        self._rows: dict[bytes, Row] = {}
        #: Persons in the order in which they became known, some more than once: see `ids_after`.
        self._arrivals: list[str] = []
        self._reader = RowReader()
        #: (Columns of a row, columns that are wanted) -> how to read them.
        self._plans: dict[tuple[tuple[str, ...], tuple[str, ...]], Callable[[Row], dict[str, object]]] = {}
        self._unreadable: set[bytes] = set()
        self._problem = "it has not begun"
        self._ready, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    # --- for whoever looks up ---

    def fetch(self, entity_ids: Sequence[str], columns: Sequence[str]) -> list[PersonFeatures | None]:
        """As `FeatureSource`. Raises `FeatureSourceError` until the topic was read to its end."""
        self._check()
        wanted = tuple(columns)
        return [
            None if (row := self._find(entity_id)) is None else self._to_features(row, wanted)
            for entity_id in entity_ids
        ]

    def person(self, entity_id: str) -> PersonFeatures | None:
        """Everything that is known of one person. Raises `FeatureSourceError` as `fetch`."""
        self._check()
        row = self._find(entity_id)
        return None if row is None else self._to_features(row, row.columns)

    def known_ids(self) -> list[str]:
        """As they were loaded, that is, normalised. Raises `FeatureSourceError` as `fetch`."""
        self._check()
        # A list of a dict's values is made in one step that no other thread can come between.
        return [row.entity_id for row in list(self._rows.values())]

    def ids_after(self, position: int) -> tuple[list[str], int]:
        """Who became known after `position` (0: everybody), and the position to ask from next time.

        May name persons that are known already, and such that were deleted since. Raises `FeatureSourceError`.
        """
        self._check()
        end = len(self._arrivals)
        return self._arrivals[position:end], end

    def pseudonyms(self) -> list[bytes]:
        """The keys of all records, those included that cannot be read. Raises `FeatureSourceError` until ready."""
        self._check_ready()
        return [*self._rows, *self._unreadable]

    def __len__(self) -> int:
        return len(self._rows)

    def _find(self, entity_id: str) -> Row | None:
        return self._rows.get(name_person(self._pseudonym_key, entity_id))

    def _to_features(self, row: Row, wanted: tuple[str, ...]) -> PersonFeatures:
        plan = self._plans.get((row.columns, wanted))
        if plan is None:
            if len(self._plans) >= CACHED_PLANS:
                self._plans.clear()
            plan = self._plans[row.columns, wanted] = make_plan(row.columns, wanted)
        return PersonFeatures(plan(row), row.as_of_ms)

    def _check_ready(self) -> None:
        if not self._ready.is_set():
            raise FeatureSourceError(f"the features in {self._topic} are not read yet: {self._problem}")

    def _check(self) -> None:
        self._check_ready()
        if self._unreadable and not self._rows:
            raise FeatureSourceError(
                f"no record of {self._topic} opens: they were sealed with another storage key; load the features again"
            )

    # --- life ---

    def start(self) -> None:
        """Begin to read."""
        self._problem = "reading"
        self._thread = threading.Thread(target=self._run, name="features", daemon=True)
        self._thread.start()

    def await_ready(self, seconds: float) -> None:
        """Return when the topic was read to its end. Raises `FeatureSourceError`."""
        self._ready.wait(seconds)
        self._check_ready()

    def close(self) -> None:
        """End the thread. What was loaded stays."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)

    # --- the thread ---

    def _run(self) -> None:
        consumer = Consumer(
            {
                **self._connection,
                **CLIENT,
                **STATE_READER,
                # Fetches wait long at the end, where this reader always is: new features may come 0.1 s later.
                "fetch.wait.max.ms": 100,
                # It never joins and never commits; librdkafka wants a name all the same.
                "group.id": reading_group(self._connection),
            },
            logger=_log,
        )
        try:
            left = self._begin(consumer)
            while not self._stop.is_set():
                for message in consumer.consume(BATCH, POLL_SECONDS):
                    self._take(message, left)
                if not left and not self._ready.is_set():
                    self._ready.set()
        except Exception as error:  # noqa: BLE001  it is told to whoever asks
            _log.exception("features are no longer read")
            # Rows that nobody renews must not be used for ever.
            self._problem = f"what reads them failed: {type(error).__name__}; start this process again"
            self._ready.clear()
        finally:
            consumer.close()

    def _begin(self, consumer: Consumer) -> dict[int, int]:
        """Assign all partitions; the ends of those that hold something."""
        while not self._stop.is_set():
            try:
                found = consumer.list_topics(self._topic, timeout=REQUEST_SECONDS).topics[self._topic]
                if found.error is not None or not found.partitions:
                    raise LookupError
                ends: dict[int, int] = {}
                places = []
                for partition in found.partitions:
                    place = TopicPartition(self._topic, partition)
                    first, ends[partition] = consumer.get_watermark_offsets(place, timeout=REQUEST_SECONDS)
                    # A number, because librdkafka takes half a second to look up the first offset by itself.
                    places.append(TopicPartition(self._topic, partition, first))
                consumer.assign(places)
                return {
                    place.partition: ends[place.partition] for place in places if place.offset < ends[place.partition]
                }
            except LookupError:
                problem = f"there is no topic {self._topic}"
            except KafkaException as error:
                problem = f"the broker does not answer: {text_of(error)}"
            if problem != self._problem:
                _log.warning("features: %s; waiting", problem)
            self._problem = problem
            self._stop.wait(RETRY_SECONDS)
        return {-1: 0}

    def _take(self, message: Message, left: dict[int, int]) -> None:
        error, partition = message.error(), message.partition()
        if error is None:
            self._apply(partition or 0, message.key() or b"", message.value())
        elif error.code() == KafkaError._PARTITION_EOF:
            if partition in left and (message.offset() or 0) >= left[partition]:
                del left[partition]
        else:
            # The client reconnects by itself, and what was loaded is there.
            _log.info("reading %s: %s", self._topic, error.str())

    def _apply(self, partition: int, key: bytes, value: bytes | None) -> None:
        if value is None:
            self._rows.pop(key, None)
            self._unreadable.discard(key)
            return
        try:
            row = self._reader.read(self._keyring.open_state(self._topic, partition, key, value))
        except (SealError, DecodeError) as error:
            # An older row would be a wrong answer; none is an honest one.
            self._rows.pop(key, None)
            if not self._unreadable:
                _log.error(
                    "a record of %s[%d] cannot be read, its person is unknown: %s", self._topic, partition, error
                )
            self._unreadable.add(key)
            return
        self._unreadable.discard(key)
        is_new = key not in self._rows
        self._rows[key] = row
        if is_new:
            self._arrivals.append(row.entity_id)
