"""The coordinators' joint table is the truth: every (role, phase, event type) does what it lists, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from schemas.catalogue import record_classes
from schemas.codec import decode, encode
from schemas.job_states import EndedJob, GuestJob, HostJob, JobPhase, NewJob
from schemas.jobs import (
    ApproveJob,
    CancelJob,
    DeclineJob,
    EndJob,
    JobAccepted,
    JobFailed,
    JobSpec,
    Leak,
    PartyApproved,
    PartyDeclined,
    PartySpec,
    PartyStageSucceeded,
    ProposeJob,
    Reason,
    Role,
    Stage,
    StageStarted,
    StartStage,
    SubmitJob,
)
from schemas.record import Record
from schemas.tasks import (
    LocalFault,
    PeerFault,
    StartTask,
    TaskFailed,
    TaskProgressed,
    TaskResumed,
    TaskStarted,
    TaskSucceeded,
    TaskSuspended,
    TimerFired,
)
from streams.machine import CancelTimer, Event, SetTimer, Step, ToEvents, ToPeer, ToStage
from streams.machines.job import phase_of
from streams.machines.job.protocol import CONTROL, TRANSITIONS
from streams.machines.transition import Transition
from tests.machines.job_world import ASKING, EAGER, GUEST, HOST, JOB, SPEC, dataset, machine, succeeded

PROFILE = dataset(GUEST).profile


@dataclass(frozen=True)
class Situation:
    """A role in a phase, with the states that stand for it."""

    role: str
    phase: JobPhase
    states: tuple[Record, ...]

    def __str__(self) -> str:
        return f"{self.role}-{self.phase}"


LEAKY = replace(SPEC, accept_leaks=(Leak.SMALL_TABLE,))
#: Train takes one host for now; the coordinator is written for more.
TWO_HOSTS = replace(SPEC, hosts=(*SPEC.hosts, PartySpec("hooli", "d")))
WRONG = replace(SPEC, label="")


def _guest(stage: Stage, *ready: str, suspended_by: str = "", spec: JobSpec = SPEC) -> GuestJob:
    return GuestJob(JOB, spec, PROFILE, stage, ready, suspended_by)


def _host(
    stage: Stage, *, approved: bool = True, ready: bool = False, suspended_by: str = "", spec: JobSpec = SPEC
) -> HostJob:
    return HostJob(JOB, spec, PROFILE, approved, stage, ready, suspended_by)


SITUATIONS = (
    Situation("guest", JobPhase.NEW, (NewJob(JOB),)),
    Situation("host", JobPhase.NEW, (NewJob(JOB),)),
    Situation(
        "guest",
        JobPhase.PROPOSED,
        (
            _guest(Stage.JOB),
            _guest(Stage.JOB, suspended_by=HOST),
            _guest(Stage.JOB, spec=TWO_HOSTS),
            _guest(Stage.JOB, spec=LEAKY),
        ),
    ),
    Situation(
        "host",
        JobPhase.AWAITING_APPROVAL,
        (_host(Stage.JOB, approved=False), _host(Stage.JOB, approved=False, spec=LEAKY)),
    ),
    Situation("host", JobPhase.APPROVED, (_host(Stage.JOB),)),
    Situation(
        "guest",
        JobPhase.RUNNING,
        tuple(
            _guest(stage, *ready, suspended_by=blame)
            for stage in (Stage.ALIGN, Stage.REGISTER)
            for ready in ((), (GUEST,), (HOST,))
            for blame in ("", HOST)
            if not (ready == (HOST,) and blame == HOST)
        ),
    ),
    Situation(
        "host",
        JobPhase.RUNNING,
        tuple(
            _host(stage, ready=ready, suspended_by=blame)
            for stage in (Stage.ALIGN, Stage.REGISTER)
            for ready in (False, True)
            for blame in ("", GUEST)
        ),
    ),
    Situation("guest", JobPhase.ENDED, (EndedJob(JOB, Role.GUEST, SPEC, None),)),
    Situation("host", JobPhase.ENDED, (EndedJob(JOB, Role.HOST, SPEC, Reason.CANCELLED),)),
)

_STAGES = (Stage.ALIGN, Stage.TRAIN, Stage.REGISTER, Stage.JOB)


def records_of(cls: type[Record], own: str, peer: str) -> tuple[Record, ...]:
    """Records of a type that a coordinator may meet, in every variant that can make a difference."""
    task = TaskFailed(JOB, Stage.ALIGN, own, Reason.INTERNAL_ERROR, own, "x")
    variants: dict[type[Record], tuple[Record, ...]] = {
        SubmitJob: (SubmitJob(JOB, SPEC), SubmitJob(JOB, WRONG)),
        CancelJob: (CancelJob(JOB, "x"),),
        ApproveJob: (ApproveJob(JOB),),
        DeclineJob: (DeclineJob(JOB, "x"), DeclineJob(JOB, "")),
        ProposeJob: (ProposeJob(JOB, SPEC), ProposeJob(JOB, WRONG)),
        PartyApproved: (PartyApproved(JOB, PROFILE, ()),),
        PartyDeclined: (PartyDeclined(JOB, Reason.DECLINED, ()),),
        StartStage: tuple(StartStage(JOB, stage) for stage in _STAGES),
        PartyStageSucceeded: tuple(PartyStageSucceeded(JOB, stage) for stage in _STAGES),
        EndJob: (
            EndJob(JOB, None, "", ""),
            EndJob(JOB, Reason.CANCELLED, peer, ""),
            EndJob(JOB, Reason.TOO_FEW_ROWS, own, "x"),
        ),
        TimerFired: tuple(TimerFired(JOB, name, 1) for name in ("deadline", "patience", "other")),
        LocalFault: (LocalFault(JOB, Reason.INTERNAL_ERROR, "x"),),
        PeerFault: (
            PeerFault(JOB, peer, Reason.PROTOCOL_VIOLATION, "x"),
            PeerFault(JOB, "nobody", Reason.PROTOCOL_VIOLATION, "x"),
        ),
        TaskSucceeded: tuple(succeeded(own, stage) for stage in _STAGES),
        TaskFailed: tuple(TaskFailed(JOB, stage, own, task.reason, own, "x") for stage in _STAGES),
        TaskSuspended: tuple(TaskSuspended(JOB, stage, own, Reason.PEER_SILENT, peer) for stage in _STAGES),
        TaskResumed: tuple(TaskResumed(JOB, stage, own) for stage in _STAGES),
        TaskStarted: (TaskStarted(JOB, Stage.ALIGN, own),),
        TaskProgressed: (TaskProgressed(JOB, Stage.ALIGN, own, 1, 2, "rows", ""),),
        JobAccepted: (JobAccepted(JOB, own, Role.GUEST, SPEC, None),),
        StageStarted: (StageStarted(JOB, own, Stage.ALIGN),),
        StartTask: (StartTask(JOB, Stage.ALIGN, Role.GUEST, SPEC, PROFILE, ()),),
    }
    return variants.get(cls, ())


#: Every type that a coordinator can meet: what the table lists, and what its own topics carry besides.
EVENTS = sorted(
    {row.event for row in TRANSITIONS} | {TaskStarted, TaskProgressed, JobAccepted, StageStarted, StartTask},
    key=lambda cls: cls.__name__,
)
WALK = [(situation, event) for situation in SITUATIONS for event in EVENTS]


def rows_for(situation: Situation, event: type[Record]) -> list[Transition]:
    """The rows of the table for a role, a phase and an event."""
    return [row for row in TRANSITIONS if (row.role, row.phase, row.event) == (situation.role, situation.phase, event)]


def steps_of(situation: Situation, event: type[Record], sender: str) -> list[tuple[Record, Record, Step]]:
    """Every step from the states of the situation by records of the type."""
    own, peer = (GUEST, HOST) if situation.role == "guest" else (HOST, GUEST)
    found = []
    for policy in (EAGER, ASKING):
        for state in situation.states:
            for record in records_of(event, own, peer):
                taken = machine(own, policy).step(state, Event(record, sender, dataset(own)))
                found.append((state, record, taken))
    assert found, f"no record of type {event.__name__} to walk with"
    return found


def sent_by(step: Step) -> set[type[Record]]:
    """The types of the records that a step sends."""
    return {type(output.record) for output in step.outputs if isinstance(output, (ToEvents, ToPeer, ToStage))}


def true_sender(situation: Situation, event: type[Record]) -> str:
    """Who sends records of this type to this role."""
    own, peer = (GUEST, HOST) if situation.role == "guest" else (HOST, GUEST)
    return peer if event in CONTROL else own


@pytest.mark.parametrize(("situation", "event"), WALK, ids=lambda value: getattr(value, "__name__", str(value)))
def test_every_role_phase_and_event_is_decided_as_the_table_says(situation: Situation, event: type[Record]) -> None:
    rows = rows_for(situation, event)
    assert len(rows) <= 1, "a table that says two things says nothing"
    for state, record, step in steps_of(situation, event, true_sender(situation, event)):
        told = f"{situation} {record}: {step}"
        after = phase_of(step.state)
        if rows:
            assert after in rows[0].to, told
            assert sent_by(step) <= set(rows[0].sends), told
        elif step.state == state:
            assert step.outputs == (), told
        else:
            failures = [o.record for o in step.outputs if isinstance(o, ToEvents) and isinstance(o.record, JobFailed)]
            assert [f.reason for f in failures] == [Reason.PROTOCOL_VIOLATION], told
            assert failures[0].blame == true_sender(situation, event), told
            assert after is JobPhase.ENDED, told


@pytest.mark.parametrize("row", TRANSITIONS, ids=lambda row: f"{row.role}-{row.phase}-{row.event.__name__}")
def test_no_row_of_the_table_promises_what_never_happens(row: Transition) -> None:
    situation = next(s for s in SITUATIONS if (s.role, s.phase) == (row.role, row.phase))
    steps = [step for *_, step in steps_of(situation, row.event, true_sender(situation, row.event))]
    assert {phase_of(step.state) for step in steps} == set(row.to)
    assert {sent for step in steps for sent in sent_by(step)} == set(row.sends)


@pytest.mark.parametrize("situation", SITUATIONS, ids=str)
def test_every_step_is_repeatable_stores_its_state_and_keeps_its_timers(situation: Situation) -> None:
    for event in EVENTS:
        for state, record, step in steps_of(situation, event, true_sender(situation, event)):
            assert decode(encode(step.state)) == step.state, record
            if phase_of(step.state) is JobPhase.ENDED and phase_of(state) is not JobPhase.ENDED:
                assert not [output for output in step.outputs if isinstance(output, SetTimer)]
            cancelled = {output.name for output in step.outputs if isinstance(output, CancelTimer)}
            assert cancelled <= {"deadline", "patience"}


def test_the_walk_meets_every_command_and_control_record_of_the_contract() -> None:
    """A record added to schemas/jobs.py must be decided here, or be an event that coordinators only write."""
    events = {row.event for row in TRANSITIONS}
    named = {
        cls
        for cls in record_classes()
        if cls.__module__ == "schemas.jobs"
        and not cls.__name__.startswith("Job")
        and hasattr(cls, "__dataclass_fields__")
        if "job_id" in cls.__dataclass_fields__ and cls.__name__ not in ("StageStarted", "CommandRefused")
    }
    assert named <= events


def test_records_that_belong_to_no_coordinator_do_not_disturb_the_own_party() -> None:
    """Whatever comes through the own door and is not for the coordinator is ignored, in every phase."""
    for situation in SITUATIONS:
        own = GUEST if situation.role == "guest" else HOST
        for state in situation.states:
            step = machine(own).step(state, Event(StartTask(JOB, Stage.ALIGN, Role.GUEST, SPEC, PROFILE, ()), own))
            assert step == Step(state)
