"""A whole job, the twelve processes of two parties that take part in it: one model, in both registries, once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from schemas.cohorts import COHORT
from schemas.jobs import (
    PIPELINE,
    EvaluateSpec,
    JobSpec,
    JobSucceeded,
    Leak,
    ProposeJob,
    Stage,
    SubmitJob,
    TrainSpec,
)
from schemas.models import ModelRegistered
from schemas.record import Record
from schemas.tasks import StartTask, TaskSucceeded
from streams.dataset import Dataset
from streams.engine.topics import CLIENT_COMMANDS, TASK_EVENTS
from streams.machine import Machine
from streams.machines.align import AlignMachine
from streams.machines.cohort import CohortMachine
from streams.machines.evaluate import EvaluateMachine
from streams.machines.job import JobMachine, Policy
from streams.machines.register import RegisterMachine
from streams.machines.train import TrainMachine
from tests.machines.parties import JOB_ID, make_dataset, make_spec, secret_of
from tests.simulation.claims import check_all_crashes, check_storms
from tests.simulation.harness import MemoMachine, Memory, Plan, World, events_topic

PARTIES = ("guest", "host")
COMMON, STRANGERS = 24, 3
KEY_BITS = 512
POLICY = Policy(auto_approve=True, accept_leaks=tuple(Leak))
MEMORY = Memory()


def make_spec_of_job() -> JobSpec:
    train = TrainSpec(max_passes=2, rank=2, coarse_passes=1, key_bits=KEY_BITS, guest_logit_clip=8, host_logit_clip=4)
    return replace(
        make_spec(),
        train=train,
        evaluate=EvaluateSpec(0.3),
        accept_leaks=tuple(Leak),
        patience_seconds=100_000,
        deadline_seconds=1_000_000,
    )


def make_datasets() -> dict[str, Dataset]:
    """Most people in common, in orders of their own; a label that depends on both parties' columns."""
    draw = np.random.default_rng(3)
    people = COMMON + STRANGERS
    values = {party: draw.normal(size=(people, 3)) for party in PARTIES}
    label = (values["guest"][:, 0] + values["host"][:, 0] + draw.normal(size=people) > 0).astype(np.int8)
    found = {}
    for party in PARTIES:
        names = [f"person-{n}" if n < COMMON else f"{party}-only-{n}" for n in range(people)]
        order = draw.permutation(people)
        ids = [names[k] for k in order.tolist()]
        found[party] = make_dataset(ids, values[party][order], label[order] if party == "guest" else None)
    return found


SPEC, DATASETS = make_spec_of_job(), make_datasets()


def machines_of(party: str) -> dict[str, Callable[[], Machine]]:
    secret = secret_of(party)
    peers = frozenset(PARTIES) - {party}
    return {
        Stage.JOB: lambda: JobMachine(party, POLICY, peers=peers, least_key_bits=KEY_BITS),
        Stage.ALIGN: lambda: AlignMachine(party, secret, 16),
        Stage.TRAIN: lambda: TrainMachine(party, secret, KEY_BITS, 10),
        Stage.EVALUATE: lambda: EvaluateMachine(party, 4),
        Stage.REGISTER: lambda: RegisterMachine(party, "test"),
        COHORT: lambda: CohortMachine(party),
    }


def make_machine(party: str, stage: str) -> Machine:
    return MemoMachine(machines_of(party)[stage](), f"{party}/{stage}", MEMORY)


def prepare(party: str, record: Record) -> Dataset | None:
    """As a party's processes do it."""
    needs_data = isinstance(record, StartTask) and record.stage is not Stage.REGISTER
    return DATASETS[party] if needs_data or isinstance(record, SubmitJob | ProposeJob) else None


def make_plan(party: str, stage: str) -> Plan:
    return Plan(
        party,
        stage,
        functools.partial(make_machine, party, stage),
        prepare=functools.partial(prepare, party),
        plain_commands=CLIENT_COMMANDS if stage is Stage.JOB else frozenset(),
        plain_events=TASK_EVENTS if stage is Stage.JOB else frozenset(),
    )


def make_world(**settings: Any) -> World:
    plans = [make_plan(party, stage) for party in PARTIES for stage in (Stage.JOB, *PIPELINE, COHORT)]
    world = World(plans, chunk_bytes=4_000, **settings)
    world.submit("guest", Stage.JOB, SubmitJob(JOB_ID, SPEC))
    return world


def digest_in_registry(world: World, party: str) -> bytes:
    (model,) = world.records(f"vfl.model.registry.{party}.v1")
    assert isinstance(model, ModelRegistered)
    return model.model_sha256


def test_the_job_registers_one_model_everywhere() -> None:
    world = make_world().run()
    for party in PARTIES:
        told = world.records(events_topic(party))
        assert [type(record) for record in told].count(JobSucceeded) == 1
        assert [record.stage for record in told if isinstance(record, TaskSucceeded)] == list(PIPELINE)
        assert world.records(f"vfl.deadletter.{party}.v1") == []
    assert len({digest_in_registry(world, party) for party in PARTIES}) == 1


def test_a_crash_of_any_process_at_any_call_changes_nothing() -> None:
    assert check_all_crashes(make_world, 1) > 500


def test_a_storm_passes_and_the_model_comes_out() -> None:
    check_storms(make_world, range(12))
