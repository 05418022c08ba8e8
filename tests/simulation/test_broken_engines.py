"""Engines that do it wrong, one rule each: the simulation must notice, or its silence about ours would mean nothing.

Each is caught twice: by the engine's own second line of defence, the checkpoint that must equal the committed position;
and with that line cut, by the story.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping

import pytest

from streams.engine.errors import EngineError, TornTransactionError
from streams.engine.ports import NotYetError, OutputRecord, Producer, TopicPartition
from streams.engine.process import StageProcess
from streams.engine.slices import Slice
from streams.engine.state_log import StateLog
from streams.engine.transaction import Transactor
from tests.simulation.fake_broker import Fate
from tests.simulation.fake_log import FakeLog, FakeProducer
from tests.simulation.harness import World, crash_at
from tests.simulation.test_toy import interrupt_step, make_world, undisturbed

Positions = Mapping[TopicPartition, int]


def is_state(record: OutputRecord) -> bool:
    return ".state." in record.topic


class OffsetsAfterwards(Transactor):
    """Commits the positions after the transaction, as consumers do on their own."""

    def _write(self, producer: Producer, records: Iterable[OutputRecord], positions: Positions) -> None:
        self._positions = positions
        producer.begin()
        for record in records:
            producer.produce(record)

    def _commit(self, producer: Producer) -> None:
        assert isinstance(producer, FakeProducer)
        producer.commit()
        producer.send_offsets_plainly(self._positions)


class OffsetsBefore(OffsetsAfterwards):
    """Commits the positions first: at most once."""

    def _commit(self, producer: Producer) -> None:
        assert isinstance(producer, FakeProducer)
        producer.send_offsets_plainly(self._positions)
        producer.commit()


class StateOutside(Transactor):
    """Writes states as they come, outside the transaction."""

    def _write(self, producer: Producer, records: Iterable[OutputRecord], positions: Positions) -> None:
        assert isinstance(producer, FakeProducer)
        for record in filter(is_state, records):
            producer.produce_plainly(record)
        super()._write(producer, [record for record in records if not is_state(record)], positions)


class StateAfterwards(Transactor):
    """Writes states when the transaction is through."""

    def _write(self, producer: Producer, records: Iterable[OutputRecord], positions: Positions) -> None:
        self._states = [record for record in records if is_state(record)]
        super()._write(producer, [record for record in records if not is_state(record)], positions)

    def _commit(self, producer: Producer) -> None:
        assert isinstance(producer, FakeProducer)
        producer.commit()
        for record in self._states:
            producer.produce_plainly(record)


class OutputsOutside(Transactor):
    """Sends as it computes."""

    def _write(self, producer: Producer, records: Iterable[OutputRecord], positions: Positions) -> None:
        assert isinstance(producer, FakeProducer)
        for record in records:
            if not is_state(record):
                producer.produce_transparently(record)
        super()._write(producer, [record for record in records if is_state(record)], positions)


class CommitRepeated(Transactor):
    """Takes a commit without an answer for one that failed, and does the work again with what it has in memory."""

    def _commit(self, producer: Producer) -> None:
        try:
            producer.commit()
        except Exception:  # noqa: BLE001
            self._write(producer, self._records, self._last_positions)
            producer.commit()

    def _write(self, producer: Producer, records: Iterable[OutputRecord], positions: Positions) -> None:
        self._records, self._last_positions = records, positions
        super()._write(producer, records, positions)


class TrustingStateLog(StateLog):
    """Does not compare the checkpoints."""

    def restore(
        self,
        partition: int,
        entries: Iterable[tuple[bytes, bytes | None]],
        committed: Mapping[TopicPartition, int | None],
    ) -> Slice:
        kept = list(entries)
        try:
            return super().restore(partition, kept, committed)
        except TornTransactionError:
            whole = super().restore(partition, kept, {})
            return Slice(partition, committed, whole.jobs.values())


def trust(process: StageProcess) -> None:
    parts = process.loop._parts
    blind = TrustingStateLog(parts.topics.state, parts.state_log._keyring)
    process.loop._parts = dataclasses.replace(parts, state_log=blind)


def find_harm(make: Callable[[], World], fates: Iterable[Callable[[int, str], Fate]], jobs: int = 1) -> set[str]:
    """How the runs with these faults went wrong."""
    expected, _ = undisturbed(jobs)
    harm: set[str] = set()
    for fate in fates:
        world = make()
        world.broker.fate_of = fate
        try:
            world.run()
        except TornTransactionError:
            harm.add("torn")
        except (EngineError, AssertionError) as error:
            harm.add(f"stopped: {error}")
        else:
            if world.story() != expected:
                harm.add("story")
    return harm


CALLS = range(70)


@pytest.mark.parametrize("engine", [OffsetsAfterwards, OffsetsBefore, StateOutside, StateAfterwards])
def test_whatever_is_left_outside_the_transaction_is_noticed(engine: type[Transactor]) -> None:
    def make_transactor(log: FakeLog) -> Transactor:
        return engine(log.make_producer)

    crashes = [crash_at(number) for number in CALLS]
    # A crash between the job's record and the checkpoint, when states are written one by one, is not told by either.
    harm = find_harm(lambda: make_world(make_transactor=make_transactor), crashes)
    assert "torn" in harm and (harm == {"torn"} or engine in (StateOutside, StateAfterwards))
    assert "story" in find_harm(lambda: make_world(make_transactor=make_transactor, adjust=trust), crashes)


@pytest.mark.parametrize("engine", [OutputsOutside])
def test_outputs_outside_the_transaction_are_noticed(engine: type[Transactor]) -> None:
    """The checkpoint cannot tell: state and positions are in order, only the outputs are there twice."""
    harm = find_harm(lambda: make_world(make_transactor=lambda log: engine(log.make_producer)), map(crash_at, CALLS))
    assert harm == {"story"}


def test_a_commit_that_is_repeated_in_place_is_noticed() -> None:
    def unanswered_at(number: int) -> Callable[[int, str], Fate]:
        return lambda n, name: Fate.UNANSWERED if n == number and name == "commit" else Fate.NORMAL

    harm = find_harm(
        lambda: make_world(make_transactor=lambda log: CommitRepeated(log.make_producer)),
        map(unanswered_at, CALLS),
    )
    assert harm == {"story"}


class CarelessLog(FakeLog):
    """Leaves a predecessor's transaction alone (a new transactional id at each start), and reads unstable positions."""

    numbers = itertools.count()

    def make_producer(self, number: int = 0) -> FakeProducer:
        return FakeProducer(self, f"{self.instance}-{next(self.numbers)}")

    def committed(self, places: Collection[TopicPartition]) -> dict[TopicPartition, int | None]:
        return {place: self.group.committed.get(place) for place in places}


def test_a_predecessor_whose_transaction_is_not_ended_is_noticed() -> None:
    """It had committed, its markers are on their way: its successor does the same work again."""
    for adjust, expected in ((lambda process: None, "torn"), (trust, "story")):
        harm: set[str] = set()
        for seed in range(6):
            harm |= find_harm(
                lambda seed=seed, adjust=adjust: make_world(seed=seed, make_log=CarelessLog, adjust=adjust),  # type: ignore[misc]
                map(crash_at, CALLS),
            )
        assert expected in harm


class ShortSightedLog(FakeLog):
    """Reads the state up to the last stable offset, where a predecessor's marker is still missing."""

    def read_state(self, place: TopicPartition) -> list[tuple[bytes, bytes | None]]:
        end = self.broker.last_stable_offset(place)
        return [(entry.key or b"", entry.value) for _, entry in self.broker.read_committed(place, 0, end)]


def test_a_restore_that_ends_at_the_last_stable_offset_is_noticed() -> None:
    for adjust, expected in ((lambda process: None, "torn"), (trust, "story")):
        harm: set[str] = set()
        for seed in range(8):
            harm |= find_harm(
                lambda seed=seed, adjust=adjust: make_world(  # type: ignore[misc]
                    slots=2, seed=seed, make_log=ShortSightedLog, adjust=adjust, restarts_after_crash=False
                ),
                map(crash_at, CALLS),
            )
        assert expected in harm


class UnstableLog(FakeLog):
    """Reads positions that a predecessor's transaction is about to change."""

    def committed(self, places: Collection[TopicPartition]) -> dict[TopicPartition, int | None]:
        return {place: self.group.committed.get(place) for place in places}


def test_positions_read_while_they_are_unstable_are_noticed() -> None:
    harm: set[str] = set()
    for seed in range(8):
        harm |= find_harm(
            lambda seed=seed: make_world(slots=2, seed=seed, make_log=UnstableLog, restarts_after_crash=False),  # type: ignore[misc]
            map(crash_at, CALLS),
        )
    assert "torn" in harm


def test_results_of_partitions_that_were_lost_in_between_are_noticed() -> None:
    def forget(process: StageProcess) -> None:
        process.loop._log.lost = lambda: frozenset()  # type: ignore[method-assign]

    def make(number: int) -> World:
        world = make_world(adjust=forget)
        interrupt_step(world, number)
        return world

    expected, _ = undisturbed()
    assert any(make(number).run().story() != expected for number in range(1, 12))


class ImpatientLog(FakeLog):
    """Does not wait for a marker, and takes what is there for all there is."""

    def read_state(self, place: TopicPartition) -> list[tuple[bytes, bytes | None]]:
        try:
            return super().read_state(place)
        except NotYetError:
            return []


def test_a_restore_that_does_not_wait_is_noticed() -> None:
    harm: set[str] = set()
    for seed in range(8):
        harm |= find_harm(
            lambda seed=seed: make_world(slots=2, seed=seed, make_log=ImpatientLog, restarts_after_crash=False),  # type: ignore[misc]
            map(crash_at, CALLS),
        )
    assert "torn" in harm
