"""The engine with a small machine, and everything that can go wrong, everywhere: what is committed stays the same."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from streams.engine.errors import TornTransactionError
from streams.engine.ports import TopicPartition
from tests.simulation.fake_broker import Fate
from tests.simulation.fake_log import FakeLog
from tests.simulation.harness import Plan, Story, World, crash_at, suffer
from tests.simulation.toy import STAGE, ToyDone, ToyMachine, ToyStart, register_toys

ROUNDS = 2
#: One and a half chunks of the simulation.
PAYLOAD_BYTES = 600
SEEDS = range(12)


def make_world(*, slots: int = 1, jobs: int = 1, **settings: Any) -> World:
    register_toys()
    plans = [
        Plan(party, STAGE, functools.partial(ToyMachine, party), slot, plain_commands=frozenset({ToyStart}))
        for party in ("guest", "host")
        for slot in range(slots)
    ]
    world = World(plans, **settings)
    for number in range(jobs):
        world.submit("guest", STAGE, ToyStart(f"job-{number}", "host", ROUNDS, PAYLOAD_BYTES))
    return world


@functools.cache
def undisturbed(jobs: int = 1, slots: int = 1) -> tuple[Story, int]:
    """What must always come out, and how many calls a run makes."""
    world = make_world(jobs=jobs, slots=slots).run()
    return world.story(), world.broker.calls


def calls(jobs: int = 1, slots: int = 1) -> range:
    return range(undisturbed(jobs, slots)[1])


def test_the_undisturbed_run_tells_the_whole_story() -> None:
    world = make_world().run()
    [guest] = world.records("vfl.job.events.guest.v1")
    [host] = world.records("vfl.job.events.host.v1")
    assert isinstance(guest, ToyDone) and isinstance(host, ToyDone)
    assert (guest.count, host.count) == (ROUNDS, ROUNDS)
    assert guest.detail.endswith("records_sent=4, records_received=2)")
    assert world.records("vfl.model.registry.guest.v1") == [guest]
    assert world.records("vfl.deadletter.guest.v1") == world.records("vfl.deadletter.host.v1") == []


# --- crashes -------------------------------------------------------------------------------------------------------


def test_a_crash_at_any_call_changes_nothing() -> None:
    """A call is a crash point when it changes the world: the others cannot be told from the next of these."""
    expected, _ = undisturbed()
    for number in calls():
        world = make_world()
        world.broker.fate_of = crash_at(number)
        world.run()
        assert world.crashes == 1, f"no crash at call {number}"
        assert world.story() == expected, f"crash at call {number}, {world.broker.call_names[number]}"


def test_crashes_at_any_two_calls_change_nothing() -> None:
    expected, count = undisturbed()
    happened = 0
    # The second may lie in what the first made necessary.
    for first, second in itertools.combinations(range(count + 12), 2):
        world = make_world()
        world.broker.fate_of = crash_at(first, second)
        world.run()
        happened += world.crashes == 2
        assert world.story() == expected, f"crashes at calls {first} and {second}"
    assert happened > count * (count - 1) / 2


@pytest.mark.parametrize("fate", [Fate.UNANSWERED, Fate.DELAYED, Fate.REFUSED])
def test_a_refused_or_unanswered_or_late_call_changes_nothing(fate: Fate) -> None:
    """Nor does a crash at any call of the recovery from it."""
    expected, count = undisturbed()
    for number in range(count):
        for crash in (None, *range(number + 1, number + 9)):
            world = make_world()
            world.broker.fate_of = lambda n, name, number=number, crash=crash: (  # type: ignore[misc]
                fate if n == number else Fate.CRASH if n == crash else Fate.NORMAL
            )
            world.run()
            assert world.story() == expected, f"{fate} at call {number}, crash at {crash}"


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_a_process_that_was_replaced_while_it_was_paused_changes_nothing(seed: int | None) -> None:
    """It sleeps at some call while its successor does all there is to do; then it wakes up and goes on."""
    expected, _ = undisturbed()
    fenced = 0
    for number in calls():
        world = make_world(seed=seed)

        def pause(n: int, name: str, number: int = number, world: World = world) -> Fate:
            if n == number:
                world.replace_current()
            return Fate.NORMAL

        world.broker.fate_of = pause
        world.run()
        assert world.zombies == []
        assert world.story() == expected, f"paused at call {number}, {world.broker.call_names[number]}"
        fenced += world.fenced
    assert fenced >= len(calls())


@pytest.mark.parametrize("seed", SEEDS)
def test_another_slot_takes_over_from_one_that_never_returns(seed: int) -> None:
    """It must wait for the dead one's transaction: decided but not told everywhere, or open until it is too old."""
    expected, count = undisturbed(2, 2)
    for number in range(count):
        world = make_world(jobs=2, slots=2, seed=seed, restarts_after_crash=False)
        world.broker.fate_of = crash_at(number)
        world.run()
        assert world.crashes == 1
        assert world.story() == expected, f"crash at call {number}, {world.broker.call_names[number]}"


# --- ownership -----------------------------------------------------------------------------------------------------


def test_partitions_taken_and_given_back_during_a_step_void_its_results() -> None:
    """Somebody else may have processed the same records in between, as here: the generation alone does not tell."""
    expected, _ = undisturbed()
    for number in itertools.count(1):
        world = make_world()
        moves = interrupt_step(world, number)
        world.run()
        assert world.story() == expected, f"taken away in step {number}"
        if not moves:
            break
    assert number > 8


def interrupt_step(world: World, number: int) -> list[str]:
    """In the given keep-alive of the run, let another member process everything, and then leave."""
    moves: list[str] = []
    seen = itertools.count(1)
    original = FakeLog.keep_alive

    def keep_alive(log: FakeLog) -> None:
        if next(seen) == number:
            moves.append(log.group_id)
            place = world.current
            # It sorts before the owner, so it gets the partition; it works until it has nothing to do.
            twin = world.make_twin(place.plan, f"vfl.{place.plan.party}.{STAGE}.!")
            twin.start()
            while twin.loop.turn(0) or not twin.loop.is_whole:
                pass
            world.broker.expire(log.group_id, f"vfl.{place.plan.party}.{STAGE}.!")
        original(log)

    world.make_log = _log_with(keep_alive)
    return moves


def _log_with(keep_alive: Callable[[FakeLog], None]) -> type[FakeLog]:
    return type("InterruptedLog", (FakeLog,), {"keep_alive": keep_alive})


def test_partitions_move_while_jobs_run() -> None:
    expected, _ = undisturbed(4, 2)
    for seed in SEEDS:
        world = make_world(jobs=4, slots=2, partitions=4, seed=seed)
        for _ in range(12):
            world.round()
            world.broker.expire(f"vfl.host.{STAGE}.v1", f"vfl.host.{STAGE}.{seed % 2}")
        assert world.run().story() == expected


# --- batches, duplicates -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("poll_records", [1, 2, 3, 500])
@pytest.mark.parametrize("partitions", [1, 3])
def test_how_records_are_batched_does_not_show(poll_records: int, partitions: int) -> None:
    world = make_world(jobs=5, poll_records=poll_records, partitions=partitions).run()
    assert world.story() == undisturbed(5)[0]


def test_what_a_mirror_repeats_changes_nothing() -> None:
    expected, _ = undisturbed(2)
    for seed in range(40):
        world = make_world(jobs=2, seed=seed)
        for _ in range(30):
            world.round()
            if world.random.random() < 0.3:
                world.mirror_again()
        assert world.run().story() == expected


@pytest.mark.parametrize("seed", range(60))
def test_a_storm_passes_and_everything_comes_out(seed: int) -> None:
    """Safety while calls fail in every way, liveness when they no longer do."""
    expected, _ = undisturbed(3)
    world = make_world(jobs=3, partitions=2, seed=seed)
    rates = {Fate.CRASH: 0.04, Fate.UNANSWERED: 0.03, Fate.DELAYED: 0.03, Fate.REFUSED: 0.03}
    world.broker.fate_of = suffer(seed, 600, rates)
    for _ in range(80):
        world.round()
        if world.random.random() < 0.1:
            world.mirror_again()
    assert world.run().story() == expected
    assert world.crashes


# --- torn transactions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [-1, 1])
def test_positions_that_do_not_fit_the_state_stop_the_process(shift: int) -> None:
    """What a late request of an older transaction does to Kafka's clients without KIP-890."""
    world = make_world().run()
    committed = world.broker.groups[f"vfl.host.{STAGE}.v1"].committed
    place = TopicPartition(f"vfl.{STAGE}.exchange.host.v1", 0)
    committed[place] += shift
    assert world.running[1].plan.party == "host"
    world.running[1].process = None
    with pytest.raises(TornTransactionError, match=r"committed offset is \d+, but the state .* up to \d+"):
        world.run()


def test_positions_that_expired_stop_the_process() -> None:
    world = make_world().run()
    world.broker.groups[f"vfl.host.{STAGE}.v1"].committed.clear()
    world.running[1].process = None
    with pytest.raises(TornTransactionError, match=r"is None, but .*--reset-offsets --to-offset"):
        world.run()


def test_a_state_topic_that_was_emptied_stops_the_process() -> None:
    world = make_world().run()
    world.broker.logs[TopicPartition(f"vfl.{STAGE}.state.host.v1", 0)].clear()
    world.running[1].process = None
    with pytest.raises(TornTransactionError, match="includes the input up to None"):
        world.run()
