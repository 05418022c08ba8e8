"""The align stage of two parties on the fake broker: the joint rows are handed on once, whatever happens."""

from __future__ import annotations

import functools
from typing import Any

from schemas.jobs import Stage
from schemas.record import Record
from schemas.tasks import StartTask, TaskSucceeded
from streams.machine import Machine
from streams.machines.align import AlignMachine
from tests.machines.align_cases import datasets_for
from tests.machines.parties import JOB_ID, make_spec, role_of, secret_of, start_task
from tests.simulation.claims import check_all_crashes, check_single_crashes, check_storms, check_takeovers
from tests.simulation.harness import MemoMachine, Memory, Plan, World

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
