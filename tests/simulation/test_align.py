"""The align stage of two parties on the fake broker: the joint rows are handed on once, whatever happens."""

from __future__ import annotations

import functools
from typing import Any

from schemas.codec import decode
from schemas.envelope import SealedRecord
from schemas.jobs import Stage
from schemas.record import Record
from schemas.tasks import StartTask, TaskSucceeded
from streams.engine.seal import stream_of
from streams.machine import Machine
from streams.machines.align import AlignMachine
from tests.machines.align_cases import datasets_for
from tests.machines.parties import JOB_ID, make_spec, role_of, secret_of, start_task
from tests.simulation.claims import check_all_crashes, check_single_crashes, check_storms, check_takeovers
from tests.simulation.harness import MemoMachine, Memory, Plan, World, exchange_topic

DATASETS = datasets_for(
    guest=[f"person-{n}" for n in range(7)],
    host=[f"person-{n}" for n in range(9, 2, -1)],
)
CHUNK_POINTS = 4
MEMORY = Memory()


def make_machine(party: str) -> Machine:
    return MemoMachine(AlignMachine(party, secret_of(party), CHUNK_POINTS), party, MEMORY)


def prepare(party: str, record: Record) -> object | None:
    return DATASETS[party] if isinstance(record, StartTask) else None


def make_world(**settings: Any) -> World:
    plans = [
        Plan(party, Stage.ALIGN, functools.partial(make_machine, party), prepare=functools.partial(prepare, party))
        for party in DATASETS
    ]
    world = World(plans, **settings)
    for party, dataset in DATASETS.items():
        task = start_task(Stage.ALIGN, role_of(party), make_spec(), dataset)
        world.hand_over(party, Stage.JOB, Stage.ALIGN, JOB_ID, task)
    return world


def test_both_parties_align() -> None:
    world = make_world().run()
    for party in DATASETS:
        assert isinstance(world.records(f"vfl.job.events.{party}.v1")[-1], TaskSucceeded)
        assert world.records(f"vfl.deadletter.{party}.v1") == []


def test_a_crash_at_any_call_changes_nothing() -> None:
    check_single_crashes(make_world)


def test_no_pair_of_crashes_changes_anything() -> None:
    """Some 5,500 pairs."""
    assert check_all_crashes(make_world) > 5_000


def test_a_storm_passes_and_the_rows_come_out() -> None:
    check_storms(make_world, range(25))


def test_a_paused_process_that_was_replaced_changes_nothing() -> None:
    check_takeovers(make_world)


def test_when_the_stage_is_over_no_key_of_a_peers_is_left() -> None:
    """Neither in the states that the topic holds last, nor in memory; and late copies of records are passed over."""
    world = make_world().run()
    spoken = {party: keys_that_peers_used(world, party) for party in DATASETS}
    assert all(len(keys) > 1 for keys in spoken.values()), "several epochs"
    ever, last = states(world, latest=False), states(world, latest=True)
    assert all(any(key in state for state in ever) for keys in spoken.values() for key in keys)
    assert not any(key in state for state in last for keys in spoken.values() for key in keys)
    before = world.story()
    world.mirror_again(9)
    world.run()
    events = {where: told for where, told in world.story().items() if ".exchange." not in where[0]}
    assert events == {where: told for where, told in before.items() if ".exchange." not in where[0]}


def keys_that_peers_used(world: World, party: str) -> set[bytes]:
    """The keys of all epochs in which something was sent to the party."""
    found = set()
    for place in world.broker.logs:
        if place.topic == exchange_topic(Stage.ALIGN, party):
            for _, value in world.broker.written(place):
                envelope = decode(value or b"")
                assert isinstance(envelope, SealedRecord)
                sender = world.keyrings[envelope.sender]
                found.add(sender.epoch_key(stream_of(envelope), envelope.epoch, envelope.manifest))
    return found


def states(world: World, *, latest: bool) -> list[bytes]:
    """What rests on the state topics, opened: everything that ever did, or what is left when they are compacted."""
    opened = []
    for place in world.broker.logs:
        if ".state." in place.topic:
            keyring = world.keyrings[place.topic.split(".")[3]]
            written = [(key or b"", value) for key, value in world.broker.written(place) if value is not None]
            for key, value in dict(written).items() if latest else written:
                opened.append(keyring.open_state(place.topic, place.partition, key, value))
    return opened
