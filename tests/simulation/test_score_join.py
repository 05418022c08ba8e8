"""The joiner on the fake broker, and everything that can go wrong, everywhere: what is told stays the same."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import pytest

from schemas.deadletter import DeadLetter
from schemas.scoring import Purpose, ScoreReason, ScoresRouted
from schemas.scoring_states import JoinDelta
from streams.engine.errors import EngineError, TornTransactionError
from streams.engine.join_process import PRODUCERS, SEAL_PURPOSE
from streams.engine.join_slices import JoinSlice, JoinStateLog
from streams.engine.messages import MessageSeal
from streams.engine.ports import NotYetError, OutputRecord, Producer, TopicPartition
from streams.engine.seal import Keyring
from streams.engine.transaction import Transactor
from streams.machines.score import deltas
from streams.machines.score.ledger import JoinRules
from tests.machines import score_bench
from tests.machines.score_bench import NOW_MS, answered, refused
from tests.simulation.fake_broker import Fate
from tests.simulation.fake_log import FakeLog, FakeProducer
from tests.simulation.harness import crash_at, make_keyrings, suffer
from tests.simulation.join_world import GROUP, GUEST, TOPICS, JoinWorld, Told, pause_at

Records = Iterable[OutputRecord]
Positions = Mapping[TopicPartition, int]


#: Longer than a broker takes to abort the transaction of somebody who is gone, a few times.
routed = functools.partial(score_bench.routed, deadline_ms=NOW_MS + 1_000_000)


def make_world(**settings: Any) -> JoinWorld:
    """Scored, shadowed, degraded, silent, refused, repeated, too late, unreadable: one of each."""
    world = JoinWorld(**{"poll_records": 2, **settings})
    world.answer(answered("early"), answered("late", version="v0"))
    world.route(routed("early"), routed("scored"), routed("scored", purpose=Purpose.SHADOW))
    world.answer(answered("scored"), answered("scored", value=3), answered("scored", purpose=Purpose.SHADOW))
    world.route(routed("degraded"), routed("silent"), routed("late"), routed("scored", version="v2"))
    world.write(TOPICS.answers, 0, b"junk")
    world.answer(refused(ScoreReason.NO_SUCH_PERSON, "degraded"), answered("nobody"))
    world.route(routed("refused", reason=ScoreReason.SOURCE_FAILED, party=GUEST), routed("early"))
    return world


EXPECTED = Counter(
    {
        "early live scored none 649": 1,
        "scored live scored none 649": 1,
        "scored shadow scored none 649": 1,
        "degraded live degraded no_such_person 614": 1,
        "silent live degraded late 614": 1,
        "late live degraded late 614": 1,
        "refused live refused source_failed None": 1,
    }
)


@functools.cache
def undisturbed(**settings: Any) -> tuple[Told, int]:
    world = make_world(**settings).run()
    return world.told(), world.broker.calls


def check(world: JoinWorld, what: object) -> None:
    assert world.told() == undisturbed(partitions=world.partitions)[0], what


def settle(world: JoinWorld) -> None:
    """Until nothing is left to do at this time."""
    while world.round():
        pass


def check_once(world: JoinWorld) -> None:
    """Outcomes, that may depend on how much time went by, are there once each, and results agree with the audit."""
    told = world.told()
    assert sorted(line.split()[:2] for line in told.audited.elements()) == sorted(line.split()[:2] for line in EXPECTED)
    assert told.joined == Counter({line: 1 for line in told.audited if " shadow " not in line})
    assert sum(told.letters.values()) == 1


def test_the_undisturbed_run_tells_everything_once() -> None:
    told, _ = undisturbed()
    assert told.audited == EXPECTED
    assert told.joined == Counter({line: 1 for line in EXPECTED if " shadow " not in line})
    assert told.late == Counter({"scored live host v1 3": 1, "late live host v0 20": 1, "nobody live host v1 20": 1})
    assert sum(told.letters.values()) == 1
    assert undisturbed(partitions=3)[0].audited == EXPECTED


@pytest.mark.parametrize("poll_records", [1, 3, 100])
@pytest.mark.parametrize("most_outcomes", [1, 1_000])
def test_how_records_are_batched_does_not_show(poll_records: int, most_outcomes: int) -> None:
    check(make_world(poll_records=poll_records, most_outcomes=most_outcomes).run(), (poll_records, most_outcomes))


# --- crashes -------------------------------------------------------------------------------------------------------


def test_a_crash_at_any_call_changes_nothing() -> None:
    for number in range(undisturbed()[1]):
        world = make_world()
        world.broker.fate_of = crash_at(number)
        world.run()
        assert world.crashes == 1
        check(world, f"crash at call {number}, {world.broker.call_names[number]}")


def test_crashes_at_any_two_calls_change_nothing() -> None:
    pairs = 0
    for first in range(undisturbed()[1]):
        second = first
        while True:
            second += 1
            world = make_world()
            world.broker.fate_of = crash_at(first, second)
            world.run()
            if world.crashes < 2:
                break
            pairs += 1
            check(world, f"crashes at calls {first} and {second}")
    assert pairs > undisturbed()[1] * (undisturbed()[1] - 1) / 2


@pytest.mark.parametrize("fate", [Fate.UNANSWERED, Fate.DELAYED, Fate.REFUSED])
def test_a_call_that_goes_wrong_changes_nothing(fate: Fate) -> None:
    happened = 0
    for number in range(undisturbed()[1]):
        world = make_world()

        def decide(n: int, name: str, number: int = number) -> Fate:
            return fate if n == number and name != "join" else Fate.NORMAL

        world.broker.fate_of = decide
        check(world.run(), f"{fate} at call {number}, {world.broker.call_names[number]}")
        happened += world.broker.calls > undisturbed()[1]
    assert happened > 5


def test_a_joiner_that_is_replaced_while_it_is_paused_at_any_call_changes_nothing() -> None:
    for number in range(undisturbed()[1]):
        world = make_world()
        pause_at(world, number)
        world.run()
        assert world.fenced, f"nobody was fenced after the pause at call {number}"
        check(world, f"paused at call {number}")


def test_a_joiner_that_dies_for_good_leaves_its_work_to_another_slot() -> None:
    _, count = undisturbed(partitions=3, slots=2)
    for seed in range(2):
        for number in range(count):
            world = make_world(partitions=3, slots=2, seed=seed, restarts_after_crash=False)
            world.broker.fate_of = crash_at(number)
            world.run()
            check(world, f"seed {seed}: end at call {number}")


@pytest.mark.parametrize("seed", range(40))
def test_a_storm_passes_and_everything_comes_out(seed: int) -> None:
    world = make_world(partitions=3, slots=2, seed=seed)
    rates = {Fate.CRASH: 0.04, Fate.UNANSWERED: 0.03, Fate.DELAYED: 0.03, Fate.REFUSED: 0.03}
    world.broker.fate_of = suffer(seed, 300, rates)
    for number in range(60):
        world.round()
        if number % 10 == 9:
            world.broker.expire(GROUP, f"joiner.{seed % 2}")
    check_once(world.run())


def test_storms_do_crash_joiners() -> None:
    world = make_world(partitions=3, slots=2, seed=1)
    world.broker.fate_of = suffer(1, 300, {Fate.CRASH: 0.1})
    world.run()
    assert world.crashes > 2


# --- the state -----------------------------------------------------------------------------------------------------


def test_deltas_are_deleted_when_their_requests_are_forgotten_and_the_rest_is_restored() -> None:
    world = JoinWorld(rules=JoinRules(GUEST, remember_ms=1_000))
    items = [
        routed(f"r{n}", request_offset=n, appended_at_ms=at, deadline_ms=at + 500, wait_until_ms=at + 500)
        for n in range(100)
        for at in (NOW_MS + 100 * n,)
    ]
    for item in items:
        world.clock.advance_to(item.appended_at_ms)
        world.route(item)
        world.answer(answered(item.request_id))
        settle(world)
    place = TopicPartition(TOPICS.state, 0)
    latest = dict(world.broker.written(place))
    alive = [value for value in latest.values() if value is not None]
    assert len(latest) >= 100 and len(alive) <= 30
    [process] = world.processes
    assert process is not None
    before = process.loop._slices[0].log.ledger
    world.processes = [None]
    world.route(items[-1])
    world.run()
    [process] = world.processes
    assert process is not None
    assert process.loop._slices[0].log.ledger.finished == before.finished
    assert sum(world.told().audited.values()) == 100


def test_a_sprawling_state_is_written_again_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deltas, "SPRAWL_ENTRIES", 20)
    monkeypatch.setattr(deltas, "SPRAWL_FACTOR", 1)
    world = JoinWorld(rules=JoinRules(GUEST, remember_ms=100))
    world.route(routed("slow", deadline_ms=NOW_MS + 10**7, wait_until_ms=NOW_MS + 10**7))
    for n in range(200):
        at = NOW_MS + 100 * n
        world.clock.advance_to(at)
        world.route(routed(f"r{n}", hosts=(), request_offset=n, appended_at_ms=at, deadline_ms=at))
        settle(world)
    latest = dict(world.broker.written(TopicPartition(TOPICS.state, 0)))
    assert sum(value is not None for value in latest.values()) < 60
    world.processes = [None]
    world.answer(answered("slow"))
    world.run()
    assert world.told().audited["slow live scored none 649"] == 1
    assert sum(world.told().audited.values()) == 201


@pytest.mark.parametrize("shift", [-1, 1])
def test_positions_that_do_not_fit_the_state_stop_the_joiner(shift: int) -> None:
    world = make_world().run()
    world.broker.groups[GROUP].committed[TopicPartition(TOPICS.routed, 0)] += shift
    world.processes = [None]
    with pytest.raises(TornTransactionError, match=r"committed offset is \d+, but the state .* up to \d+"):
        world.run()


def test_a_state_topic_that_was_emptied_stops_the_joiner() -> None:
    world = make_world().run()
    world.broker.logs[TopicPartition(TOPICS.state, 0)].clear()
    world.processes = [None]
    with pytest.raises(TornTransactionError, match="includes the input up to None"):
        world.run()


def test_arrivals_ride_with_outcomes_and_go_alone_only_when_they_are_old() -> None:
    world = JoinWorld()
    settle(world)
    world.route(routed("a"))
    decided = world.broker.decided
    settle(world)
    assert world.broker.decided == decided
    world.answer(answered("a"))
    settle(world)
    assert world.broker.decided == decided + 1
    world.route(routed("b"))
    world.round()
    world.clock.advance_to(world.clock.now_ms() + 50)
    world.round()
    assert world.broker.decided == decided + 2 and sum(world.told().audited.values()) == 1


# --- what does not belong ------------------------------------------------------------------------------------------


def test_what_does_not_belong_is_set_aside_and_the_rest_goes_on() -> None:
    world = JoinWorld(partitions=2)
    keyrings = make_keyrings((GUEST, "host"))
    [stray] = [name for name in ("a", "b", "c", "d") if world.partition_of(name) == 1][:1]
    own, host = MessageSeal(keyrings[GUEST], SEAL_PURPOSE), MessageSeal(keyrings["host"], SEAL_PURPOSE)
    items = ScoresRouted((routed(stray),))
    world.write(TOPICS.routed, 0, own.seal(items, GUEST, TOPICS.routed, 0))
    world.write(TOPICS.routed, 0, host.seal(items, GUEST, TOPICS.routed, 0))
    world.write(TOPICS.routed, 0, own.seal(items, GUEST, TOPICS.routed, 1))
    world.write(TOPICS.answers, 0, own.seal(items, GUEST, TOPICS.answers, 0))
    world.write(TOPICS.answers, 1, MessageSeal(keyrings["host"], "other").seal(items, GUEST, TOPICS.answers, 1))
    world.route(routed("good"))
    world.answer(answered("good", value=1 << 60), answered("good"))
    world.run()
    letters = [each for each in world.records(TOPICS.dead_letter) if isinstance(each, DeadLetter)]
    assert len(letters) == 6
    assert {each.stage for each in letters} == {"score-joiner"}
    reasons = "\n".join(each.reason for each in letters)
    for text in ("belongs in partition 1", "does not belong here", "does not open", "no half says that"):
        assert text in reasons
    assert world.told().audited == Counter({"good live scored none 649": 1})


# --- joiners that do it wrong --------------------------------------------------------------------------------------


class OffsetsAfterwards(Transactor):
    """Commits the positions after the transaction, as consumers do on their own."""

    def _write(self, producer: Producer, records: Records, positions: Positions) -> None:
        self._positions = positions
        producer.begin()
        for record in records:
            producer.produce(record)

    def _commit(self, producer: Producer) -> None:
        assert isinstance(producer, FakeProducer)
        producer.commit()
        producer.send_offsets_plainly(self._positions)


class StateAfterwards(Transactor):
    """Writes deltas when the transaction is through."""

    def _write(self, producer: Producer, records: Records, positions: Positions) -> None:
        kept = list(records)
        self._states = [record for record in kept if record.topic == TOPICS.state]
        super()._write(producer, [record for record in kept if record.topic != TOPICS.state], positions)

    def _commit(self, producer: Producer) -> None:
        assert isinstance(producer, FakeProducer)
        producer.commit()
        for record in self._states:
            producer.produce_plainly(record)


class OutcomesOutside(Transactor):
    """Sends outcomes as they come."""

    def _write(self, producer: Producer, records: Records, positions: Positions) -> None:
        assert isinstance(producer, FakeProducer)
        kept = list(records)
        for record in kept:
            if record.topic == TOPICS.results:
                producer.produce_transparently(record)
        super()._write(producer, [record for record in kept if record.topic != TOPICS.results], positions)


class TrustingStateLog(JoinStateLog):
    """Does not compare the positions."""

    def restore(
        self,
        partition: int,
        entries: Iterable[tuple[bytes, bytes | None]],
        committed: Mapping[TopicPartition, int | None],
        now_ms: int,
    ) -> JoinSlice:
        kept = list(entries)
        found = [self._read(partition, key, value)[0] for key, value in dict(kept).items() if value is not None]
        newest: JoinDelta | None = max(found, key=lambda delta: delta.sequence, default=None)
        told = {each.topic: each.next_position for each in newest.positions} if newest is not None else {}
        restored = super().restore(partition, kept, {p: told.get(p.topic) for p in committed}, now_ms)
        restored.positions = dict(committed)
        return restored


def trusting(keyring: Keyring) -> JoinStateLog:
    return TrustingStateLog(TOPICS.state, keyring, JoinRules(GUEST))


def find_harm(engine: type[Transactor], make_state_log: Callable[[Keyring], JoinStateLog] | None) -> set[str]:
    """How crashes at each call made this engine go wrong."""
    harm: set[str] = set()
    for number in range(undisturbed()[1]):
        world = make_world(
            make_transactor=lambda log: engine(log.make_producer, PRODUCERS), make_state_log=make_state_log
        )
        world.broker.fate_of = crash_at(number)
        try:
            world.run()
        except TornTransactionError:
            harm.add("torn")
        except (EngineError, AssertionError) as error:
            harm.add(f"stopped: {error}")
        else:
            if world.told() != undisturbed()[0]:
                harm.add("told")
    return harm


@pytest.mark.parametrize("engine", [OffsetsAfterwards, StateAfterwards])
def test_whatever_is_left_outside_the_transaction_is_noticed(engine: type[Transactor]) -> None:
    """By the positions in the deltas, and with that line of defence cut, by what is told."""
    assert "torn" in find_harm(engine, None)
    assert "told" in find_harm(engine, trusting)


def test_outcomes_outside_the_transaction_are_noticed() -> None:
    assert find_harm(OutcomesOutside, None) == {"told"}


def test_an_engine_that_does_it_right_is_not_blamed() -> None:
    assert find_harm(Transactor, None) == find_harm(Transactor, trusting) == set()


def test_partitions_that_move_while_requests_wait_change_nothing() -> None:
    for seed in range(10):
        world = make_world(slots=2, partitions=3, seed=seed)
        for _ in range(30):
            world.round()
            world.broker.expire(GROUP, f"joiner.{seed % 2}")
        check(world.run(), f"partitions moved, seed {seed}")


def test_what_was_joined_of_partitions_that_were_lost_in_between_is_void(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one partition was restored, another went to somebody else, who did its work, and came back."""
    world = make_world(partitions=2, poll_records=100)
    process = world.processes[0] = world.make(0)
    process.start()
    log = process._log
    assert isinstance(log, FakeLog)
    original, calls = log.committed, itertools.count()

    def committed(places: Collection[TopicPartition]) -> dict[TopicPartition, int | None]:
        if {place.partition for place in places} == {1} and next(calls) == 0:
            raise NotYetError("not yet")
        return original(places)

    def keep_alive() -> None:
        monkeypatch.undo()
        twin = world.make(-1)
        twin.start()
        while twin.loop.turn(0) or not twin.loop.is_whole:
            pass
        assert twin.loop._slices.keys() == {0} and twin.loop._slices[0].log.ledger.finished
        world.broker.expire(GROUP, "joiner.-1")
        log._serve_group()

    monkeypatch.setattr(log, "committed", committed)
    process.loop.turn(0)
    assert process.loop._slices.keys() == {0}
    monkeypatch.setattr(log, "keep_alive", keep_alive)
    process.loop.turn(0)
    check(world.run(), "partitions moved")
