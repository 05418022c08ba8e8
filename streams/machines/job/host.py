"""The coordinator of a party that was asked to take part: check, consent or not, run what the guest starts."""

from __future__ import annotations

import re
from dataclasses import replace

from schemas.job_states import EndedJob, HostJob, NewJob
from schemas.jobs import (
    PIPELINE,
    ApproveJob,
    CancelJob,
    DeclineJob,
    EndJob,
    JobAccepted,
    JobApproved,
    JobAwaitingApproval,
    JobRejected,
    JobSucceeded,
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
    cancel,
    cut,
    cut_mistakes,
    end,
    fail,
    fail_by_record,
    is_current,
    obey,
    refuse,
    resumed,
    suspend_by_task,
    violate,
)
from streams.machines.job.policy import OwnParty
from streams.machines.job.validation import validate_job_id, validate_spec

#: The paths of data mistakes that a guest may be told: parts of its own spec.
_TELLABLE = re.compile(r"hosts\[\d+\]\.(dataset|features\[\d+\]|features)")


def consider(own: OwnParty, state: NewJob, sender: str, proposal: ProposeJob, resource: object) -> Step:
    """A guest proposes a job. Nothing that it sent is trusted: the spec is checked as if a stranger had written it."""
    spec, job_id = proposal.spec, state.job_id
    if sender != spec.guest.party:
        # Not `ENDED`: whoever claims another's job must not be able to block that other's job of this id.
        claimed = (Mistake("guest.party", f"{sender!r} proposed a job of the guest {spec.guest.party!r}"),)
        return _decline(own, state, sender, state, Reason.INVALID_SPEC, claimed, claimed)
    ended = EndedJob(job_id, Role.HOST, spec, Reason.INVALID_SPEC)
    agreed = validate_spec(spec, own.least_key_bits, own.privacy, own.key_profile)
    wrong = (*validate_job_id(job_id), *agreed)
    if own.name not in [host.party for host in spec.hosts]:
        wrong = (*wrong, Mistake("hosts", f"the job was proposed to {own.name!r}, which is not among its hosts"))
    if wrong:
        return _decline(own, state, sender, ended, Reason.INVALID_SPEC, wrong, wrong)
    if not isinstance(resource, Dataset):
        unloaded = (Mistake(f"{_own_path(own, proposal)}.dataset", "was not loaded: see the log of the coordinator"),)
        found = resource.mistakes if isinstance(resource, DatasetProblem) else unloaded
        ended = replace(ended, reason=Reason.INVALID_DATA)
        told = tellable(found, _own_path(own, proposal))
        return _decline(own, state, sender, ended, Reason.INVALID_DATA, found, told)
    job = HostJob(job_id, spec, resource.profile, approved=False, stage=Stage.JOB)
    outputs: tuple[Output, ...] = (
        ToEvents(JobAccepted(job_id, own.name, Role.HOST, spec, None)),
        SetTimer(DEADLINE, spec.deadline_seconds * 1000),
    )
    if own.policy.approves(spec):
        approved = _approve(own, job)
        return Step(approved.state, (*outputs, *approved.outputs))
    return Step(job, (*outputs, ToEvents(JobAwaitingApproval(job_id, own.name, spec.accept_leaks))))


def step_host(own: OwnParty, state: HostJob, event: Event) -> Step:
    """One input of a job that this party was asked to join; the sender is this party or the guest."""
    match state.stage, event.record:
        case Stage.JOB, ApproveJob() as command if not state.approved:
            return _approve_by_operator(own, state, command)
        case Stage.JOB, DeclineJob() as command if not state.approved:
            return _decline_by_operator(own, state, command)
        case _, StartStage(stage=stage) if state.approved and stage is _next_stage(state):
            return _start_stage(own, state, stage)
        case _, StartStage(stage=stage) if is_current(state, stage):
            return Step(state)
        case _, TaskSucceeded(stage=stage) if is_current(state, stage) and not state.ready:
            outputs = (*resumed(own.name, state), ToPeer(guest_of(state), PartyStageSucceeded(state.job_id, stage)))
            return Step(replace(state, ready=True, suspended_by=""), outputs)
        case _, TaskFailed(stage=stage) as record if is_current(state, stage):
            return fail_by_record(own.name, state, record)
        case _, TaskSuspended(stage=stage) as record if is_current(state, stage):
            return suspend_by_task(own.name, state, record)
        case _, TaskResumed(stage=stage) if is_current(state, stage):
            return Step(replace(state, suspended_by=""), resumed(own.name, state))
        case _, TaskSucceeded() | TaskFailed() | TaskSuspended() | TaskResumed():
            return Step(state)
        case _, TimerFired(name="deadline"):
            blame = _waited_for(own, state)
            detail = f"the job was given {state.spec.deadline_seconds} s; it was waiting for {blame}"
            return fail(own.name, state, Reason.DEADLINE_EXCEEDED, blame, detail)
        case _, TimerFired():
            return Step(state)
        case _, EndJob(reason=None) if state.stage is PIPELINE[-1] and state.ready:
            return end(own.name, state, None, "", JobSucceeded(state.job_id, own.name), told_by=event.sender)
        case _, EndJob(reason=Reason() as reason) as record:
            return obey(own.name, state, event.sender, record, reason)
        case _, LocalFault() | PeerFault() as record:
            return fail_by_record(own.name, state, record)
        case _, CancelJob() as command:
            return cancel(own.name, state, command.reason)
        case _, ProposeJob(spec=spec) if spec == state.spec:
            return Step(state)
        case _, SubmitJob() as command:
            text = f"there is already a job of this id, which {state.spec.guest.party} started: submit with a new one"
            return refuse(own.name, state, state.job_id, command, "job_id", text)
        case _, ApproveJob() | DeclineJob() as command:
            text = "this party approved the job already; cancel it to end it"
            return refuse(own.name, state, state.job_id, command, "job_id", text)
        case _:
            return violate(own.name, state, event.sender, event.record)


def tellable(mistakes: tuple[Mistake, ...], own_path: str) -> tuple[Mistake, ...]:
    """What a guest may know about mistakes in a host's data: which part of its spec, nothing of what the data is."""
    told: dict[str, Mistake] = {}
    for mistake in mistakes:
        found = _TELLABLE.match(mistake.path)
        path = found.group() if found else f"{own_path}.dataset"
        what = "column" if "features" in path else "dataset"
        told.setdefault(path, Mistake(path, f"the party cannot provide this {what} as asked for; ask its operator"))
    return tuple(told.values())


def guest_of(state: HostJob) -> str:
    """The party that started the job."""
    return state.spec.guest.party


def _decline(
    own: OwnParty,
    state: NewJob,
    sender: str,
    after: NewJob | EndedJob,
    reason: Reason,
    mistakes: tuple[Mistake, ...],
    told: tuple[Mistake, ...],
) -> Step:
    # The texts repeat names of the spec, which a stranger may have written.
    outputs = (
        ToEvents(JobRejected(state.job_id, own.name, reason, cut_mistakes(mistakes))),
        ToPeer(sender, PartyDeclined(state.job_id, reason, cut_mistakes(told))),
    )
    return Step(after, outputs)


def _approve_by_operator(own: OwnParty, state: HostJob, command: ApproveJob) -> Step:
    missing = [leak for leak in state.spec.accept_leaks if leak not in command.accept_leaks]
    if missing:
        text = f"approving this job means accepting {', '.join(missing)} as well, each by name; the job still waits"
        return refuse(own.name, state, state.job_id, command, "accept_leaks", text)
    return _approve(own, state)


def _approve(own: OwnParty, state: HostJob) -> Step:
    # The guest hears only of the leaks that it asked for, not what else this party's policy would accept.
    leaks = state.spec.accept_leaks
    outputs = (
        ToEvents(JobApproved(state.job_id, own.name, own.name, leaks)),
        ToPeer(guest_of(state), PartyApproved(state.job_id, state.profile, leaks)),
    )
    return Step(replace(state, approved=True), outputs)


def _decline_by_operator(own: OwnParty, state: HostJob, command: DeclineJob) -> Step:
    mistakes = (Mistake("", cut(command.reason)),) if command.reason else ()
    outputs = (
        ToEvents(JobRejected(state.job_id, own.name, Reason.DECLINED, mistakes)),
        ToPeer(guest_of(state), PartyDeclined(state.job_id, Reason.DECLINED, mistakes)),
        CancelTimer(DEADLINE),
    )
    return Step(EndedJob(state.job_id, Role.HOST, state.spec, Reason.DECLINED), outputs)


def _start_stage(own: OwnParty, state: HostJob, stage: Stage) -> Step:
    job_id, spec = state.job_id, state.spec
    task = StartTask(job_id, stage, Role.HOST, spec, state.profile, spec.accept_leaks)
    outputs = (ToEvents(StageStarted(job_id, own.name, stage)), ToStage(stage, task))
    return Step(replace(state, stage=stage, ready=False, suspended_by=""), outputs)


def _next_stage(state: HostJob) -> Stage | None:
    if state.stage is Stage.JOB:
        return PIPELINE[0]
    index = PIPELINE.index(state.stage) + 1
    return PIPELINE[index] if state.ready and index < len(PIPELINE) else None


def _waited_for(own: OwnParty, state: HostJob) -> str:
    if state.suspended_by:
        return state.suspended_by
    is_own_turn = not state.approved if state.stage is Stage.JOB else not state.ready
    return own.name if is_own_turn else guest_of(state)


def _own_path(own: OwnParty, proposal: ProposeJob) -> str:
    return f"hosts[{[host.party for host in proposal.spec.hosts].index(own.name)}]"
