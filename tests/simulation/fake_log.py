"""The engine's ports on the fake broker."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from streams.engine.errors import SlotTakenError
from streams.engine.ports import (
    ClientError,
    ClientErrorKind,
    InputRecord,
    NotYetError,
    OutputRecord,
    Polled,
    StorageError,
    TopicPartition,
)
from tests.simulation.fake_broker import FakeBroker, Fate, FencedError, Group, RefusedError

_T = TypeVar("_T")


class FakeClock:
    """Stands still until it is told to move."""

    def __init__(self, now_ms: int = 1_000_000) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        return self._now_ms

    def advance_to(self, now_ms: int) -> None:
        assert now_ms >= self._now_ms
        self._now_ms = now_ms


class InlineWorker:
    """Computes at once; then the group is served, as it would be in the middle of a long step."""

    def run(self, work: Callable[[], _T], keep_alive: Callable[[], None]) -> _T:
        result = work()
        keep_alive()
        return result


class FakeBlobStore:
    """A party's blob store; survives its processes. `is_broken` makes every call fail."""

    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker
        self.objects: dict[bytes, bytes] = {}
        self.is_broken = False

    def put(self, sha256: bytes, content: bytes) -> None:
        if self.is_broken:
            raise StorageError("no space left")
        self._broker.decide_fate("put_blob")
        assert self.objects.setdefault(sha256, content) == content

    def get(self, sha256: bytes) -> bytes:
        if self.is_broken:
            raise StorageError("no answer")
        return self.objects[sha256]

    def has(self, sha256: bytes) -> bool:
        return sha256 in self.objects


class FakeProducer:
    """A transactional producer."""

    def __init__(self, log: FakeLog, transactional_id: str) -> None:
        self.log = log
        self.broker = log.broker
        self.transactional_id = transactional_id
        self.epoch = -1

    def init(self) -> None:
        fate = self.broker.decide_fate("init")
        if fate is Fate.REFUSED:
            raise ClientError(ClientErrorKind.TIMED_OUT, "init: no answer")
        self.epoch = self.broker.take_id(self.transactional_id)
        if fate in (Fate.UNANSWERED, Fate.DELAYED):
            raise ClientError(ClientErrorKind.TIMED_OUT, "init: no answer")

    def begin(self) -> None:
        """Local in Kafka, too."""

    def produce(self, record: OutputRecord) -> None:
        place = TopicPartition(record.topic, record.partition)
        self._call(
            "produce",
            lambda: self.broker.transactional_append(
                self.transactional_id, self.epoch, place, record.key, record.value
            ),
        )

    def produce_plainly(self, record: OutputRecord) -> None:
        """Outside the transaction: for engines that do it wrong."""
        self.broker.decide_fate("produce")
        self.broker.append(TopicPartition(record.topic, record.partition), record.key, record.value)

    def produce_transparently(self, record: OutputRecord) -> None:
        """Outside the transaction, but counted among what engines wrote."""
        self.broker.decide_fate("produce")
        self.broker.append_as_committed(TopicPartition(record.topic, record.partition), record.key, record.value)

    def send_offsets(self, positions: Mapping[TopicPartition, int]) -> None:
        generation = self.log.generation
        self._call(
            "send_offsets",
            lambda: self.broker.send_positions(
                self.transactional_id, self.epoch, self.log.group_id, self.log, generation, positions
            ),
        )

    def send_offsets_plainly(self, positions: Mapping[TopicPartition, int]) -> None:
        """Outside the transaction: for engines that do it wrong."""
        self.broker.decide_fate("send_offsets")
        self.log.group.committed.update(positions)

    def commit(self) -> None:
        self._call("commit", lambda: self.broker.commit(self.transactional_id, self.epoch))

    def close(self) -> None:
        """Nothing is said to the broker."""

    def _call(self, name: str, effect: Callable[[], None]) -> None:
        fate = self.broker.decide_fate(name)
        if fate is Fate.REFUSED:
            raise ClientError(ClientErrorKind.ABORTABLE, f"{name}: refused")
        if fate is Fate.DELAYED:
            self.broker.held_back.append(lambda: _try(effect))
            raise ClientError(ClientErrorKind.TIMED_OUT, f"{name}: no answer")
        try:
            effect()
        except FencedError as error:
            raise ClientError(ClientErrorKind.FENCED, str(error)) from error
        except RefusedError as error:
            raise ClientError(ClientErrorKind.ABORTABLE, str(error)) from error
        if fate is Fate.UNANSWERED:
            raise ClientError(ClientErrorKind.TIMED_OUT, f"{name}: no answer")


def _try(effect: Callable[[], None]) -> None:
    with contextlib.suppress(FencedError, RefusedError):  # It came too late.
        effect()


class FakeLog:
    """One process's member of a group, and its readers."""

    def __init__(
        self,
        broker: FakeBroker,
        group_id: str,
        instance: str,
        inputs: tuple[str, ...],
        *,
        max_records: Callable[[], int] | None = None,
    ) -> None:
        self.broker = broker
        self.group_id = group_id
        self.instance = instance
        self.inputs = inputs
        self.generation = 0
        #: Fewer records a poll than the engine asks for, as it happens.
        self._max_records = max_records
        self._owned: frozenset[TopicPartition] = frozenset()
        self._positions: dict[TopicPartition, int] = {}
        self._lost: set[TopicPartition] = set()
        self._gained: set[TopicPartition] = set()

    @property
    def group(self) -> Group:
        return self.broker.groups[self.group_id]

    def join(self) -> None:
        self.broker.decide_fate("join")
        self.broker.join(self.group_id, self.instance, self, self.inputs)

    def poll(self, timeout_ms: int, max_records: int) -> Polled:
        self._serve_group()
        lost, gained = frozenset(self._lost), frozenset(self._gained)
        self._lost.clear()
        self._gained.clear()
        limit = max_records if self._max_records is None else min(max_records, self._max_records())
        records: list[InputRecord] = []
        for place in sorted(self._positions):
            start = self._positions[place]
            for offset, entry in self.broker.read_committed(place, start, self.broker.last_stable_offset(place)):
                if len(records) == limit:
                    break
                records.append(InputRecord(place.topic, place.partition, offset, entry.key, entry.value))
                self._positions[place] = offset + 1
        return Polled(tuple(records), gained, lost)

    def keep_alive(self) -> None:
        self._serve_group()

    def lost(self) -> frozenset[TopicPartition]:
        return frozenset(self._lost)

    def committed(self, places: Collection[TopicPartition]) -> dict[TopicPartition, int | None]:
        for transaction in self.group.pending:
            if not set(places).isdisjoint(transaction.positions[self.group_id]):
                raise NotYetError("positions are unstable")
        return {place: self.group.committed.get(place) for place in places}

    def read_state(self, place: TopicPartition) -> list[tuple[bytes, bytes | None]]:
        end = self.broker.high_watermark(place)
        if self.broker.last_stable_offset(place) < end:
            raise NotYetError("a marker is on its way")
        return [(entry.key or b"", entry.value) for _, entry in self.broker.read_committed(place, 0, end)]

    def start(self, positions: Mapping[TopicPartition, int | None]) -> None:
        for place, position in positions.items():
            if place in self._owned and place not in self._lost:
                self._positions[place] = position or 0

    def partition_count(self, topic: str) -> int:
        if topic not in self.broker.topics:
            raise LookupError(f"there is no topic {topic}")
        return self.broker.topics[topic]

    def make_producer(self, number: int = 0) -> FakeProducer:
        return FakeProducer(self, f"{self.instance}.{number}" if number else self.instance)

    def close(self) -> None:
        """Static members leave silently."""

    def _serve_group(self) -> None:
        member = self.group.members.get(self.instance)
        if member is not None and member.session is not self:
            raise SlotTakenError(f"another process is member {self.instance}")
        if member is None:
            self.broker.join(self.group_id, self.instance, self, self.inputs)
            member = self.group.members[self.instance]
        if self.generation != self.group.generation:
            self._lost |= self._owned
            self._gained = set(member.places)
            self._owned = member.places
            self._positions.clear()
            self.generation = self.group.generation
