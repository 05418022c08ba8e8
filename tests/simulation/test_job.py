"""The coordinators of two parties on the fake broker, with processes behind them that succeed at once."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import pytest

from schemas.jobs import PIPELINE, CancelJob, JobCancelled, JobSucceeded, ProposeJob, Stage, SubmitJob
from schemas.record import Record
from schemas.tasks import StartTask, StopTask, TaskStarted, TaskSucceeded
from streams.engine.ports import TopicPartition
from streams.engine.topics import CLIENT_COMMANDS, TASK_EVENTS
from streams.machine import Event, Machine, Step, ToEvents
from streams.machines.job import JobMachine
from tests.machines.job_world import EAGER, GUEST, HOST, JOB, SPEC, dataset
from tests.simulation.claims import check_all_crashes, check_single_crashes, check_storms, check_takeovers
from tests.simulation.harness import MemoMachine, Memory, Plan, World, commands_topic, events_topic

MEMORY = Memory()
PARTIES = (GUEST, HOST)


class ObedientMachine:
    """A stage process whose tasks succeed as soon as they start."""

    def __init__(self, party: str, stage: Stage) -> None:
        self.party = party
        self.stage = str(stage)

    def initial(self, key: str) -> Record:
        return StopTask(key, None)

    def step(self, state: Record, event: Event) -> Step:
        if not isinstance(event.record, StartTask):
            return Step(state)
        start = event.record
        done = TaskSucceeded(start.job_id, start.stage, self.party, 0, 0, 0, 0, ())
        return Step(state, (ToEvents(TaskStarted(start.job_id, start.stage, self.party)), ToEvents(done)))


def make_machine(party: str) -> Machine:
    return MemoMachine(JobMachine(party, EAGER), party, MEMORY)


def prepare(party: str, record: Record) -> object | None:
    return dataset(party) if isinstance(record, SubmitJob | ProposeJob) else None


def make_coordinator(party: str) -> Plan:
    return Plan(
        party,
        Stage.JOB,
        functools.partial(make_machine, party),
        prepare=functools.partial(prepare, party),
        plain_commands=CLIENT_COMMANDS,
        plain_events=TASK_EVENTS,
    )


def make_world(*, cancels: bool = False, **settings: Any) -> World:
    plans = []
    for party in PARTIES:
        workers = [Plan(party, stage, functools.partial(ObedientMachine, party, stage)) for stage in PIPELINE]
        plans += [make_coordinator(party), *workers]
    return submit(World(plans, **settings), cancels)


def make_coordinators() -> World:
    """The coordinators alone. Their stages are played by somebody who never dies."""
    return submit(World([make_coordinator(party) for party in PARTIES], respond=obey))


def submit(world: World, cancels: bool = False) -> World:
    world.submit(GUEST, Stage.JOB, SubmitJob(JOB, replace(SPEC, deadline_seconds=10**6)))
    if cancels:
        world.submit(GUEST, Stage.JOB, CancelJob(JOB, "thought better of it"))
    return world


def obey(world: World) -> bool:
    """Report success for the stage that was started, once. How many were reported lies on the events topic."""
    for party in PARTIES:
        events = TopicPartition(events_topic(party), 0)
        reported = sum(entry.transaction is None and not entry.is_marker for entry in world.broker.logs[events])
        if reported < len(PIPELINE):
            stage = PIPELINE[reported]
            if world.broker.written(TopicPartition(commands_topic(stage, party), 0)):
                world.publish(events.topic, TaskSucceeded(JOB, stage, party, 0, 0, 0, 0, ()))
                return True
    return False


def test_the_job_succeeds_everywhere() -> None:
    world = make_world().run()
    for party in PARTIES:
        told = world.records(f"vfl.job.events.{party}.v1")
        assert sum(isinstance(record, JobSucceeded) for record in told) == 1
        assert sum(isinstance(record, TaskSucceeded) for record in told) == len(PIPELINE)
        assert world.records(f"vfl.deadletter.{party}.v1") == []


def test_a_cancelled_job_ends_everywhere() -> None:
    world = make_world(cancels=True).run()
    for party in PARTIES:
        told = world.records(f"vfl.job.events.{party}.v1")
        assert sum(isinstance(record, JobCancelled) for record in told) == 1


@pytest.mark.parametrize("cancels", [False, True])
def test_a_crash_at_any_call_changes_nothing(cancels: bool) -> None:
    check_single_crashes(functools.partial(make_world, cancels=cancels))


def test_no_pair_of_crashes_of_the_coordinators_changes_anything() -> None:
    """Some 10,000 pairs; whoever works for the coordinators never fails here."""
    assert check_all_crashes(make_coordinators) > 9_000


def test_a_storm_passes_and_the_job_ends_well() -> None:
    check_storms(make_world, range(12))


def test_a_paused_process_that_was_replaced_changes_nothing() -> None:
    check_takeovers(make_world)
