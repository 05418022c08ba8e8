"""The train stage of two parties on the fake broker: the same model to the bit, handed on once, whatever happens."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

from schemas.codec import decode, encode
from schemas.cohorts import COHORT
from schemas.envelope import SealedRecord
from schemas.jobs import Stage
from schemas.models import ModelHalf
from schemas.record import Record
from schemas.tasks import StartTask, TaskSucceeded
from schemas.training import ModelReady
from streams.dataset import Dataset
from streams.engine.ports import TopicPartition
from streams.machine import Machine
from streams.machines.cohort import CohortMachine
from streams.machines.train import TrainMachine
from tests.machines.train_cases import GUEST, HOST, JOB, SECRETS, TRAIN, Case, halves_of, make_case, run_case
from tests.simulation.claims import (
    check_all_crashes,
    check_single_crashes,
    check_storms,
    check_successors,
    check_takeovers,
)
from tests.simulation.harness import MemoMachine, Memory, Plan, World, commands_topic, events_topic

PARTIES = (GUEST, HOST)
KEY_BITS, CHUNK_ROWS = 512, 8


def make_small_case() -> Case:
    """A pass in which the guest knows the residuals, and one with the split link, which has two chunks each way."""
    case = make_case(rows=16, guest_columns=3, host_columns=3, max_passes=2, rank=2, coarse_passes=1, key_bits=KEY_BITS)
    # Who takes over from a dead process waits for its transaction's end; nobody shall lose patience over that.
    return replace(case, spec=replace(case.spec, patience_seconds=10_000))


CASE = make_small_case()
DATASETS: dict[str, Dataset] = {party: CASE.dataset(party) for party in PARTIES}
MEMORY = Memory()


def make_machine(party: str) -> Machine:
    return MemoMachine(TrainMachine(party, SECRETS[party], KEY_BITS, CHUNK_ROWS), party, MEMORY)


def make_register(party: str) -> Machine:
    return MemoMachine(CohortMachine(party), f"{party}/{COHORT}", MEMORY)


def prepare(party: str, record: Record) -> Dataset | None:
    return DATASETS[party] if isinstance(record, StartTask) else None


def make_world(*, slots: int = 1, **settings: Any) -> World:
    plans = [
        Plan(party, TRAIN, functools.partial(make_machine, party), slot, prepare=functools.partial(prepare, party))
        for party in PARTIES
        for slot in range(slots)
    ]
    plans += [
        Plan(party, COHORT, functools.partial(make_register, party), slot) for party in PARTIES for slot in range(slots)
    ]
    world = World(plans, **settings)
    for party in PARTIES:
        world.hand_over(party, Stage.ALIGN, Stage.TRAIN, JOB, CASE.alignment(party))
        world.hand_over(party, Stage.JOB, Stage.TRAIN, JOB, CASE.task(party))
    return world


def make_whole_records() -> World:
    """No record is cut in pieces, so that one envelope is one record."""
    return make_world(chunk_bytes=100_000)


def halves_handed_on(world: World, party: str) -> dict[Stage, list[ModelHalf]]:
    """The party's halves by the stage to which they were handed."""
    found: dict[Stage, list[ModelHalf]] = {}
    for stage in (Stage.EVALUATE, Stage.REGISTER):
        for _, value in world.broker.written(TopicPartition(commands_topic(stage, party), 0)):
            envelope = decode(value or b"")
            assert isinstance(envelope, SealedRecord)
            record = decode(world.keyrings[party].open(envelope))
            assert isinstance(record, ModelReady)
            found.setdefault(stage, []).append(record.half)
    return found


def test_the_engine_trains_what_the_machines_train_by_themselves() -> None:
    expected = halves_of(run_case(CASE, chunk_rows=CHUNK_ROWS))
    world = make_whole_records().run()
    for party in PARTIES:
        assert isinstance(world.records(events_topic(party))[-1], TaskSucceeded)
        assert world.records(f"vfl.deadletter.{party}.v1") == []
        for halves in halves_handed_on(world, party).values():
            assert [encode(half) for half in halves] == [encode(expected[party])]
        assert set(halves_handed_on(world, party)) == {Stage.EVALUATE, Stage.REGISTER}


def test_a_crash_at_any_call_changes_nothing() -> None:
    check_single_crashes(make_world)


def test_no_pair_of_crashes_changes_anything() -> None:
    """Some 17,100 pairs; the hand-overs among what is compared are the model's bytes."""
    assert check_all_crashes(make_world) > 15_000


def test_another_slot_takes_over_from_one_that_never_returns() -> None:
    check_successors(make_world)


def test_a_paused_process_that_was_replaced_changes_nothing() -> None:
    check_takeovers(make_world)


def test_a_storm_passes_and_the_model_comes_out() -> None:
    check_storms(make_world, range(40))
