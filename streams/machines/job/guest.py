"""The coordinator of the party that started the job: propose, collect consent, run stage by stage, end everywhere."""

from __future__ import annotations

from dataclasses import replace

from schemas.job_states import EndedJob, GuestJob, NewJob
from schemas.jobs import (
    PIPELINE,
    ApproveJob,
    CancelJob,
    DeclineJob,
    EndJob,
    JobAccepted,
    JobApproved,
    JobRejected,
    JobScheduled,
    JobSucceeded,
    Leak,
    Mistake,
    PartyApproved,
    PartyDeclined,
    PartyStageSucceeded,
    ProposeJob,
    Reason,
    Role,
    Stage,
    StageStarted,
    StartStage,
    SubmitJob,
)
from schemas.tasks import (
    LocalFault,
    PeerFault,
    StartTask,
    TaskFailed,
    TaskResumed,
    TaskSucceeded,
    TaskSuspended,
    TimerFired,
)
from streams.dataset import Dataset, DatasetProblem
from streams.machine import CancelTimer, Event, Output, SetTimer, Step, ToEvents, ToPeer, ToStage
from streams.machines.job.ending import (
    DEADLINE,
    PATIENCE,
    cancel,
    cut_mistakes,
    end,
    fail,
    fail_by_record,
    is_current,
    obey,
    participants_of,
    peers_of,
    refuse,
    resumed,
    suspend,
    suspend_by_task,
    violate,
)
from streams.machines.job.policy import OwnParty
from streams.machines.job.validation import validate_job_id, validate_spec


def submit(own: OwnParty, state: NewJob, command: SubmitJob, resource: object) -> Step:
    """A client wants a job: check everything that can be checked here, then ask the hosts."""
    spec, job_id = command.spec, state.job_id
    wrong = (
        *validate_job_id(job_id),
        *validate_spec(spec, own.least_key_bits, own.privacy, own.key_profile),
        *_mistakes_of_place(own, command),
    )
    # Data is looked at for the guest only: a host's share is not this client's to check.
    is_here = spec.guest.party == own.name
    data_wrong = resource.mistakes if is_here and isinstance(resource, DatasetProblem) else ()
    if not wrong and not data_wrong and not isinstance(resource, Dataset):
        data_wrong = (Mistake("guest.dataset", "was not loaded: see the log of the coordinator"),)
    if wrong or data_wrong:
        reason = Reason.INVALID_SPEC if wrong else Reason.INVALID_DATA
        event = JobRejected(job_id, own.name, reason, (*wrong, *data_wrong))
        return Step(EndedJob(job_id, Role.GUEST, spec, reason), (ToEvents(event),))
    assert isinstance(resource, Dataset)
    job = GuestJob(job_id, spec, resource.profile, Stage.JOB)
    outputs: list[Output] = [ToEvents(JobAccepted(job_id, own.name, Role.GUEST, spec, command.retry_of))]
    outputs += [ToPeer(host, ProposeJob(job_id, spec)) for host in peers_of(job)]
    outputs += [SetTimer(DEADLINE, spec.deadline_seconds * 1000), SetTimer(PATIENCE, spec.patience_seconds * 1000)]
    return Step(job, tuple(outputs))


def step_guest(own: OwnParty, state: GuestJob, event: Event) -> Step:
    """One input of a job that this party started; the sender is this party or a host of the job."""
    match state.stage, event.record:
        case Stage.JOB, PartyApproved() as record:
            return _note_approval(own, state, event.sender, record)
        case Stage.JOB, PartyDeclined() as record:
            detail = f"{event.sender} declined the job"
            mistakes = cut_mistakes(record.mistakes)
            return fail(own.name, state, record.reason, event.sender, detail, mistakes=mistakes, told_by=event.sender)
        case stage, PartyApproved() if stage is not Stage.JOB:
            return Step(state)
        case _, PartyStageSucceeded(stage=stage) if is_current(state, stage):
            return _note_ready(own, state, event.sender)
        case _, PartyStageSucceeded(stage=stage) if _is_past(state, stage):
            return Step(state)
        case _, TaskSucceeded(stage=stage) if is_current(state, stage):
            return _note_ready(own, state, own.name)
        case _, TaskFailed(stage=stage) as record if is_current(state, stage):
            return fail_by_record(own.name, state, record)
        case _, TaskSuspended(stage=stage) as record if is_current(state, stage):
            return suspend_by_task(own.name, state, record)
        case _, TaskResumed(stage=stage) if is_current(state, stage):
            return Step(replace(state, suspended_by=""), resumed(own.name, state))
        case _, TaskSucceeded() | TaskFailed() | TaskSuspended() | TaskResumed():
            return Step(state)
        case _, TimerFired(name=name):
            return _note_timer(own, state, name)
        case _, EndJob(reason=Reason() as reason) as record:
            return obey(own.name, state, event.sender, record, reason)
        case _, LocalFault() | PeerFault() as record:
            return fail_by_record(own.name, state, record)
        case _, CancelJob() as command:
            return cancel(own.name, state, command.reason)
        case _, SubmitJob() as command:
            return repeat(own, state, state.spec, command)
        case _, ApproveJob() | DeclineJob() as command:
            return refuse(
                own.name, state, state.job_id, command, "job_id", "this party started the job: cancel it instead"
            )
        case _:
            return violate(own.name, state, event.sender, event.record)


def repeat(own: OwnParty, state: GuestJob | EndedJob, spec: object, command: SubmitJob) -> Step:
    """A job id is submitted again: by a client that was not sure (nothing happens), or by mistake for another job."""
    if command.spec == spec:
        return Step(state)
    text = "there is already another job of this id: submit with a new one"
    return refuse(own.name, state, state.job_id, command, "job_id", text)


def _mistakes_of_place(own: OwnParty, command: SubmitJob) -> tuple[Mistake, ...]:
    spec = command.spec
    mistakes = []
    if spec.guest.party != own.name:
        text = f"submitted to {own.name!r}, but the guest is {spec.guest.party!r}: submit the job there"
        mistakes.append(Mistake("guest.party", text))
    elif own.peers is not None:
        known = ", ".join(sorted(own.peers)) or "nobody"
        for index, host in enumerate(spec.hosts):
            if host.party not in own.peers and host.party != own.name:
                text = f"keys were never exchanged with {host.party!r}, only with {known}: see `isthmus keys`"
                mistakes.append(Mistake(f"hosts[{index}].party", text))
    return tuple(mistakes)


def _note_approval(own: OwnParty, state: GuestJob, host: str, record: PartyApproved) -> Step:
    if host in state.ready:
        return Step(state)
    if missing := set(state.spec.accept_leaks) - set(record.accept_leaks):
        detail = f"{host} approved without accepting {', '.join(sorted(missing))}"
        return fail(own.name, state, Reason.LEAK_NOT_ACCEPTED, host, detail)
    accepted = tuple(leak for leak in Leak if leak in record.accept_leaks)
    outputs: list[Output] = [ToEvents(JobApproved(state.job_id, own.name, host, accepted))]
    outputs += _back(own, state, host)
    suspended_by = "" if state.suspended_by == host else state.suspended_by
    state = replace(state, ready=tuple(sorted((*state.ready, host))), suspended_by=suspended_by)
    if set(peers_of(state)) - set(state.ready):
        return Step(state, (*outputs, SetTimer(PATIENCE, state.spec.patience_seconds * 1000)))
    outputs += [ToEvents(JobScheduled(state.job_id, own.name, PIPELINE)), CancelTimer(PATIENCE)]
    started = _start_stage(own, state, PIPELINE[0])
    return Step(started.state, (*outputs, *started.outputs))


def _note_ready(own: OwnParty, state: GuestJob, party: str) -> Step:
    if party in state.ready:
        return Step(state)
    # Its own success also answers what its own task was waiting for.
    outputs = _back(own, state, state.suspended_by if party == own.name else party)
    suspended_by = "" if outputs else state.suspended_by
    state = replace(state, ready=tuple(sorted((*state.ready, party))), suspended_by=suspended_by)
    waiting = [name for name in participants_of(state) if name not in state.ready]
    if waiting:
        timer = (SetTimer(PATIENCE, state.spec.patience_seconds * 1000),) if own.name in state.ready else ()
        return Step(state, (*outputs, *timer))
    outputs = (*outputs, CancelTimer(PATIENCE))
    if state.stage is PIPELINE[-1]:
        ended = end(own.name, state, None, "", JobSucceeded(state.job_id, own.name))
        return Step(ended.state, (*outputs, *ended.outputs))
    started = _start_stage(own, state, PIPELINE[PIPELINE.index(state.stage) + 1])
    return Step(started.state, (*outputs, *started.outputs))


def _start_stage(own: OwnParty, state: GuestJob, stage: Stage) -> Step:
    job_id, spec = state.job_id, state.spec
    task = StartTask(job_id, stage, Role.GUEST, spec, state.profile, spec.accept_leaks)
    outputs: list[Output] = [ToEvents(StageStarted(job_id, own.name, stage))]
    outputs += [ToPeer(host, StartStage(job_id, stage)) for host in peers_of(state)]
    outputs += [ToStage(stage, task)]
    return Step(replace(state, stage=stage, ready=(), suspended_by=""), tuple(outputs))


def _note_timer(own: OwnParty, state: GuestJob, name: str) -> Step:
    match name:
        case "deadline":
            blame = _waited_for(own, state)
            detail = f"the job was given {state.spec.deadline_seconds} s; it was waiting for {blame}"
            return fail(own.name, state, Reason.DEADLINE_EXCEEDED, blame, detail)
        case "patience":
            blame = _waited_for(own, state)
            return Step(state) if blame == own.name else suspend(own.name, state, Reason.PEER_SILENT, blame)
    return Step(state)


def _waited_for(own: OwnParty, state: GuestJob) -> str:
    """The party that holds the job up: whom a task waits for, or who is not ready, this party before the others."""
    if state.suspended_by:
        return state.suspended_by
    expected = peers_of(state) if state.stage is Stage.JOB else (own.name, *peers_of(state))
    return next(party for party in expected if party not in state.ready)


def _back(own: OwnParty, state: GuestJob, party: str) -> tuple[Output, ...]:
    return resumed(own.name, state) if party == state.suspended_by else ()


def _is_past(state: GuestJob, stage: Stage) -> bool:
    return stage in PIPELINE and state.stage in PIPELINE and PIPELINE.index(stage) < PIPELINE.index(state.stage)
