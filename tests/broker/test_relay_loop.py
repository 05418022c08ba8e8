"""The relay loop around a toy: order, back-pressure, slow work, poisoned records, writes that are refused."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from infra.broker import EmbeddedBroker
from schemas.codec import decode
from schemas.deadletter import DeadLetter
from streams.engine.dead_letter import UndeliverableError
from streams.engine.errors import EngineError, LogUnavailableError
from streams.engine.kafka_settings import KafkaTimeouts
from streams.engine.ports import OutputRecord
from streams.engine.relay_counts import PartitionCounts
from streams.engine.relay_loop import RelayLoop
from streams.engine.relay_ports import Later, RelayPlaces, StampedRecord
from tests.broker.score_houses import DEADLINE_SECONDS, follow

_numbers = itertools.count(1)


class Echo:
    """Repeats every record. What a record says decides what else becomes of it."""

    def __init__(self, output: str) -> None:
        self.output = output
        self.handled: list[int] = []
        self.stamps: list[int] = []
        self.go_on = threading.Event()

    def open(self, record: StampedRecord) -> bytes:
        value = record.value or b""
        if value.startswith(b"unreadable"):
            raise UndeliverableError("it says so itself")
        self.stamps.append(record.timestamp_ms)
        return value

    def handle(self, items: Sequence[bytes]) -> Iterator[Sequence[OutputRecord] | Later]:
        self.handled.append(len(items))
        if any(item.startswith(b"bug") for item in items):
            raise ZeroDivisionError("a bug that this record wakes")
        quick = [item for item in items if not item.startswith((b"slow", b"broken"))]
        yield [OutputRecord(self.output, 0, b"", item) for item in quick]
        for item in items:
            if item.startswith(b"slow"):
                yield Later("slow", lambda item=item: self._wait(item))  # type: ignore[misc]
            elif item.startswith(b"broken"):
                yield Later("broken", self._break)

    def _wait(self, item: bytes) -> list[OutputRecord]:
        assert self.go_on.wait(DEADLINE_SECONDS)
        return [OutputRecord(self.output, 0, b"", item)]

    def _break(self) -> list[OutputRecord]:
        raise ZeroDivisionError("a bug in slow work")


class Toy:
    """A loop in a thread, and its topics."""

    def __init__(self, broker: EmbeddedBroker, make_topic: Callable[..., str], **options: int) -> None:
        self.bootstrap = broker.bootstrap
        self.name = f"relay-toy-{next(_numbers)}"
        self.input, self.output, self.letters = (
            make_topic(f"{self.name}-{what}") for what in ("input", "output", "letters")
        )
        self.options = options
        self.echo = Echo(self.output)
        self.producer = Producer({"bootstrap.servers": self.bootstrap})
        self.loop: RelayLoop | None = None
        self.thread: threading.Thread | None = None
        self.error: BaseException | None = None

    def make_loop(self, output: str = "", *, is_patient: bool = False) -> RelayLoop:
        self.echo = Echo(output or self.output)
        places = RelayPlaces(
            party="toys",
            process="echo",
            bootstrap_servers=self.bootstrap,
            input=self.input,
            dead_letter=self.letters,
            group_id=self.name,
            instance_id=f"{self.name}-0",
            patient=frozenset({self.echo.output}) if is_patient else frozenset(),
            patience_ms=20,
        )
        timeouts = KafkaTimeouts(session_ms=6_000, heartbeat_ms=600)
        return RelayLoop(places, self.echo, timeouts=timeouts, **self.options)

    def start(self, output: str = "", *, is_patient: bool = False) -> None:
        self.loop = loop = self.make_loop(output, is_patient=is_patient)

        def run() -> None:
            try:
                loop.run()
            except EngineError as error:
                self.error = error

        self.thread = threading.Thread(target=run)
        self.thread.start()

    def stop(self) -> None:
        if self.loop is not None and self.thread is not None:
            self.loop.stop()
            self.thread.join(DEADLINE_SECONDS)
            assert not self.thread.is_alive()

    def put(self, *values: bytes) -> None:
        for value in values:
            self.producer.produce(self.input, value, partition=0)
        assert self.producer.flush(DEADLINE_SECONDS) == 0

    def read(self, topic: str, enough: Callable[[list[bytes]], bool]) -> list[bytes]:
        found: list[bytes] = []
        missing = [""]
        for message in follow(self.bootstrap, topic, 1, missing):
            found.append(message.value() or b"")
            if enough(found):
                missing.clear()
        return found

    def echoes(self, count: int) -> list[bytes]:
        return self.read(self.output, lambda found: len(found) >= count)

    def dead_letters(self, count: int) -> list[DeadLetter]:
        records = [decode(value) for value in self.read(self.letters, lambda found: len(found) >= count)]
        assert all(isinstance(record, DeadLetter) for record in records)
        return records  # type: ignore[return-value]

    def position(self) -> int:
        """What the group has committed."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": self.name})
        try:
            (found,) = consumer.committed([TopicPartition(self.input, 0)], timeout=DEADLINE_SECONDS)
        finally:
            consumer.close()
        return max(0, found.offset)


@pytest.fixture
def make_toy(broker: EmbeddedBroker, make_topic: Callable[..., str]) -> Iterator[Callable[..., Toy]]:
    made: list[Toy] = []

    def make(**options: int) -> Toy:
        made.append(Toy(broker, make_topic, **options))
        return made[-1]

    yield make
    for toy in made:
        toy.echo.go_on.set()
        toy.stop()


def _numbered(count: int, name: str = "") -> list[bytes]:
    return [f"{name}{number:05}".encode() for number in range(count)]


@pytest.mark.parametrize("is_patient", [False, True])
def test_records_are_handled_in_order_and_together(make_toy: Callable[..., Toy], is_patient: bool) -> None:
    toy = make_toy()
    toy.put(*_numbered(3_000))
    toy.start(is_patient=is_patient)
    assert toy.echoes(3_000) == _numbered(3_000)
    assert max(toy.echo.handled) > 100, "what is there is taken at once"
    assert max(toy.echo.handled) <= 500
    assert min(toy.echo.stamps) > 1_600_000_000_000


def test_a_stop_commits_everything_that_was_delivered(make_toy: Callable[..., Toy]) -> None:
    toy = make_toy()
    toy.put(*_numbered(700))
    toy.start()
    toy.echoes(700)
    toy.stop()
    assert toy.position() == 700
    toy.put(b"next")
    toy.start()
    assert toy.echoes(701)[700:] == [b"next"]


def test_positions_are_committed_while_it_runs(make_toy: Callable[..., Toy]) -> None:
    toy = make_toy()
    toy.put(*_numbered(10))
    toy.start()
    deadline = time.monotonic() + DEADLINE_SECONDS
    while toy.position() < 10:
        assert time.monotonic() < deadline


def test_slow_work_holds_up_nothing_but_the_position(make_toy: Callable[..., Toy]) -> None:
    toy = make_toy()
    toy.start()
    toy.put(b"slow-1", *_numbered(20))
    assert toy.echoes(20) == _numbered(20)
    toy.put(*_numbered(20, "more"))
    assert toy.echoes(40)[20:] == _numbered(20, "more")
    assert toy.position() == 0, "what is not done must be done again after a crash"
    toy.echo.go_on.set()
    assert toy.echoes(41)[40:] == [b"slow-1"]
    toy.stop()
    assert toy.position() == 41


def test_slow_work_that_is_not_done_at_the_end_is_done_by_the_next(make_toy: Callable[..., Toy]) -> None:
    toy = make_toy()
    toy.start()
    toy.put(b"slow-1")
    toy.put(b"quick")
    toy.echoes(1)
    slow = toy.echo
    toy.stop()
    slow.go_on.set()
    toy.start()
    toy.echo.go_on.set()
    found = toy.read(toy.output, lambda found: b"slow-1" in found)
    assert found.count(b"slow-1") == 1 and b"quick" in found


def test_what_is_under_way_is_bounded(make_toy: Callable[..., Toy]) -> None:
    toy = make_toy(most_outputs=30, poll_records=10)
    toy.start()
    toy.put(*[b"slow-%d" % number for number in range(200)])
    toy.put(b"last")
    deadline = time.monotonic() + DEADLINE_SECONDS
    # Each work counts as one under way: beyond 30 no more polls bring anything.
    while sum(toy.echo.handled) <= 30:
        assert time.monotonic() < deadline
    assert toy.loop is not None
    held = toy.loop.turns
    while toy.loop.turns < held + 20:
        assert time.monotonic() < deadline
    assert sum(toy.echo.handled) <= 30 + 10
    toy.echo.go_on.set()
    found = toy.echoes(201)
    assert sorted(found) == sorted([b"last", *[b"slow-%d" % number for number in range(200)]])


def test_one_record_that_cannot_be_handled_costs_the_others_nothing(make_toy: Callable[..., Toy]) -> None:
    toy = make_toy()
    toy.put(*_numbered(5), b"unreadable-1", b"bug-1", *_numbered(5, "after"), b"bug-2")
    toy.start()
    assert sorted(toy.echoes(10)) == sorted(_numbered(5) + _numbered(5, "after"))
    letters = toy.dead_letters(3)
    assert {letter.value: letter.reason for letter in letters} == {
        b"unreadable-1": "it says so itself",
        b"bug-1": "cannot be handled: ZeroDivisionError: a bug that this record wakes",
        b"bug-2": "cannot be handled: ZeroDivisionError: a bug that this record wakes",
    }
    assert {(letter.party, letter.stage, letter.topic) for letter in letters} == {("toys", "echo", toy.input)}
    toy.stop()
    assert toy.position() == 13, "they do not come back"


def test_slow_work_that_fails_becomes_dead_letters_too(make_toy: Callable[..., Toy]) -> None:
    toy = make_toy()
    toy.start()
    toy.put(b"broken-1")
    (letter,) = toy.dead_letters(1)
    assert (letter.value, letter.reason) == (
        b"broken-1",
        "cannot be handled: ZeroDivisionError: a bug in slow work",
    )
    toy.put(b"next")
    assert toy.echoes(1) == [b"next"]
    toy.stop()
    assert toy.position() == 2


@pytest.mark.parametrize("is_patient", [False, True])
def test_a_record_that_the_broker_refuses_ends_the_process_before_its_position_moves(
    make_toy: Callable[..., Toy], make_topic: Callable[..., str], is_patient: bool
) -> None:
    toy = make_toy()
    small = make_topic(f"{toy.name}-small", max_message_bytes="200")
    toy.put(b"x" * 2_000)
    toy.start(output=small, is_patient=is_patient)
    assert toy.thread is not None
    toy.thread.join(DEADLINE_SECONDS)
    assert isinstance(toy.error, LogUnavailableError) and small in str(toy.error)
    assert toy.position() == 0


def test_a_topic_that_is_not_there_ends_the_process(make_toy: Callable[..., Toy]) -> None:
    toy = make_toy()
    toy.input = f"{toy.name}-that-never-was"
    toy.start()
    assert toy.thread is not None
    toy.thread.join(DEADLINE_SECONDS)
    assert isinstance(toy.error, LogUnavailableError)


def test_partitions_are_counted_once_and_missing_topics_are_told(
    broker: EmbeddedBroker, make_topic: Callable[..., str]
) -> None:
    counts = PartitionCounts(broker.bootstrap, {})
    topic = make_topic(f"counted-{next(_numbers)}", partitions=3)
    assert [counts(topic), counts(topic)] == [3, 3]
    for _ in range(2):
        with pytest.raises(LookupError, match="no topic"):
            counts("counted-nowhere")
