"""How a job ends at one coordinator: tell the house, tell the peers, stop the stage processes, forget the timers."""

from __future__ import annotations

from dataclasses import replace

from schemas.job_states import EndedJob, GuestJob, HostJob
from schemas.jobs import (
    PIPELINE,
    CommandRefused,
    EndJob,
    JobCancelled,
    JobFailed,
    JobResumed,
    JobSuspended,
    Mistake,
    Reason,
    Role,
    Stage,
)
from schemas.record import Record
from schemas.tasks import LocalFault, PeerFault, StopTask, TaskFailed, TaskSuspended
from streams.machine import CancelTimer, Output, Step, ToEvents, ToPeer, ToStage

DEADLINE = "deadline"
PATIENCE = "patience"

#: What a peer writes into our events is cut to this.
MOST_TEXT = 500
MOST_MISTAKES = 50

Job = GuestJob | HostJob


def role_of(state: Job) -> Role:
    """The own role in the job."""
    return Role.GUEST if isinstance(state, GuestJob) else Role.HOST


def peers_of(state: Job) -> tuple[str, ...]:
    """The parties that the coordinator talks to: all hosts, or the guest."""
    if isinstance(state, GuestJob):
        return tuple(sorted(host.party for host in state.spec.hosts))
    return (state.spec.guest.party,)


def participants_of(state: Job) -> tuple[str, ...]:
    """Everybody who takes part in the job."""
    return (state.spec.guest.party, *(host.party for host in state.spec.hosts))


def is_current(state: Job, stage: Stage) -> bool:
    """Whether this stage of the pipeline is the one that runs."""
    return stage in PIPELINE and stage is state.stage


def cut(text: str) -> str:
    """A peer's text, as long as we let it be."""
    return text if len(text) <= MOST_TEXT else text[:MOST_TEXT] + "..."


def cut_mistakes(mistakes: tuple[Mistake, ...]) -> tuple[Mistake, ...]:
    """A peer's mistakes, as many and as long as we let them be."""
    return tuple(Mistake(cut(mistake.path), cut(mistake.message)) for mistake in mistakes[:MOST_MISTAKES])


def end(own: str, state: Job, reason: Reason | None, blame: str, event: Record, told_by: str | None = None) -> Step:
    """End the job with `event` for the house; every peer but `told_by`, who knows, hears the class of the reason.

    Why something failed may name rows, columns or paths of this party: such a text stays in the house.
    """
    text = "" if reason is None else f"ended at {own} in stage {state.stage}; its events have the details"
    message = EndJob(state.job_id, reason, blame, text)
    outputs: list[Output] = [ToEvents(event)]
    outputs += [ToPeer(peer, message) for peer in peers_of(state) if peer != told_by]
    if reason is not None and state.stage in PIPELINE:
        # Later stages may hold what this one handed over to them: they must forget it too.
        stages = PIPELINE[PIPELINE.index(state.stage) :]
        outputs += [ToStage(stage, StopTask(state.job_id, reason)) for stage in stages]
    outputs += [CancelTimer(DEADLINE), CancelTimer(PATIENCE)]
    return Step(EndedJob(state.job_id, role_of(state), state.spec, reason), tuple(outputs))


def fail(
    own: str,
    state: Job,
    reason: Reason,
    blame: str,
    detail: str,
    *,
    mistakes: tuple[Mistake, ...] = (),
    told_by: str | None = None,
) -> Step:
    """End the job without a model."""
    event = JobFailed(state.job_id, own, reason, blame, detail, mistakes)
    return end(own, state, reason, blame, event, told_by)


def fail_by_record(own: str, state: Job, record: TaskFailed | LocalFault | PeerFault) -> Step:
    """End the job because of what a stage process or the engine reported."""
    match record:
        case TaskFailed():
            detail = f"{record.stage}: {record.detail}"
            return fail(own, state, record.reason, record.blame, detail)
        case LocalFault():
            return fail(own, state, record.reason, own, record.detail)
        case PeerFault():
            return fail(own, state, record.reason, record.party, record.detail)


def violate(own: str, state: Job, sender: str, record: Record) -> Step:
    """End the job because a participant sent what does not belong here."""
    stage = "before the first stage" if state.stage is Stage.JOB else f"in stage {state.stage}"
    detail = f"{sender} sent {type(record).__name__} {stage}, where it does not belong"
    return fail(own, state, Reason.PROTOCOL_VIOLATION, sender, detail)


def cancel(own: str, state: Job, detail: str) -> Step:
    """End the job because a client of this party said so."""
    event = JobCancelled(state.job_id, own, detail)
    return end(own, state, Reason.CANCELLED, own, event)


def obey(own: str, state: Job, sender: str, record: EndJob, reason: Reason) -> Step:
    """End the job because a peer ended it without success."""
    detail = f"{sender} says: {cut(record.detail)}" if record.detail else f"{sender} ended the job"
    if reason is Reason.CANCELLED:
        event: Record = JobCancelled(state.job_id, own, detail)
        return end(own, state, reason, sender, event, told_by=sender)
    blame = record.blame if record.blame in participants_of(state) else sender
    return fail(own, state, reason, blame, detail, told_by=sender)


def suspend(own: str, state: Job, reason: Reason, blame: str) -> Step:
    """Say once that the job waits for `blame`."""
    if state.suspended_by == blame:
        return Step(state)
    event = JobSuspended(state.job_id, own, state.stage, reason, blame)
    return Step(replace(state, suspended_by=blame), (ToEvents(event),))


def suspend_by_task(own: str, state: Job, record: TaskSuspended) -> Step:
    """A stage process of this party waits for a peer."""
    return suspend(own, state, record.reason, record.blame)


def resumed(own: str, state: Job) -> tuple[Output, ...]:
    """What to tell the house when a job goes on, if it was suspended. The caller clears `suspended_by`."""
    return (ToEvents(JobResumed(state.job_id, own, state.stage)),) if state.suspended_by else ()


def refuse(own: str, state: Record, job_id: str, command: Record, path: str, message: str) -> Step:
    """A client's command changes nothing; say why."""
    refused = CommandRefused(job_id, own, type(command).__name__, (Mistake(path, message),))
    return Step(state, (ToEvents(refused),))
