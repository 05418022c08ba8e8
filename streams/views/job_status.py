"""A job's live status: a fold over its party's events, without I/O and without a clock.

Events come at least once: after a crash some come again. Each event has a place on its topic, the status remembers the
latest place that it contains, and what lies at or before it changes nothing; so the fold is idempotent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from schemas.jobs import (
    CommandRefused,
    JobAccepted,
    JobApproved,
    JobAwaitingApproval,
    JobCancelled,
    JobFailed,
    JobRejected,
    JobResumed,
    JobScheduled,
    JobSucceeded,
    JobSuspended,
    Reason,
    StageStarted,
)
from schemas.record import Record
from schemas.tasks import TaskFailed, TaskProgressed, TaskResumed, TaskStarted, TaskSucceeded, TaskSuspended
from schemas.views import JobStatus, Standing, TaskStatus
from streams.views.rate import first_mark, measure_rate, slide

#: A job with one of these stays so.
ENDED = frozenset({Standing.SUCCEEDED, Standing.FAILED, Standing.REJECTED, Standing.CANCELLED})

TaskEvent = TaskStarted | TaskProgressed | TaskSuspended | TaskResumed | TaskSucceeded | TaskFailed


@dataclass(frozen=True)
class Place:
    """Where an event lies on its topic, and its timestamp in milliseconds since 1970."""

    partition: int
    offset: int
    timestamp_ms: int


def apply_event(status: JobStatus | None, event: Record, place: Place, party: str) -> JobStatus | None:
    """The status of the event's job after it, as `party` sees it.

    The same object when the event is contained already or says nothing about the job; `None` while no job is known.
    """
    job_id = getattr(event, "job_id", None)
    if not isinstance(job_id, str) or isinstance(event, CommandRefused):
        # A refused command left the job as it was; perhaps there is no such job.
        return status
    if status is None:
        now = place.timestamp_ms
        status = JobStatus(
            job_id=job_id,
            party=party,
            standing=Standing.ACCEPTED,
            stage=None,
            tasks=(),
            reason=None,
            blame="",
            detail="",
            started_ms=now,
            news_ms=now,
            silent_seconds=0.0,
            event_partition=place.partition,
            event_offset=-1,
        )
    if place.offset <= status.event_offset:
        return status
    news_ms = max(status.news_ms, place.timestamp_ms)
    status = replace(
        status, news_ms=news_ms, silent_seconds=0.0, event_partition=place.partition, event_offset=place.offset
    )
    if isinstance(event, TaskEvent):
        return replace(status, tasks=_tasks_after(status.tasks, event, news_ms))
    # A coordinator may still say something about a job that is over; the end stands.
    return status if status.standing in ENDED else _job_after(status, event)


def _job_after(status: JobStatus, event: Record) -> JobStatus:
    match event:
        case JobAccepted():
            return replace(status, standing=Standing.ACCEPTED)
        case JobRejected(reason=reason, mistakes=mistakes):
            detail = "; ".join(f"{mistake.path}: {mistake.message}" for mistake in mistakes)
            return replace(status, standing=Standing.REJECTED, reason=reason, blame=status.party, detail=detail)
        case JobAwaitingApproval(leaks=leaks):
            detail = f"leaks to accept: {', '.join(leaks)}" if leaks else ""
            return replace(status, standing=Standing.AWAITING_APPROVAL, detail=detail)
        case JobApproved(approved_by=approved_by):
            return replace(status, standing=Standing.APPROVED, detail=f"approved by {approved_by}")
        case JobScheduled():
            return replace(status, standing=Standing.SCHEDULED, detail="")
        case StageStarted(stage=stage) | JobResumed(stage=stage):
            return replace(status, standing=Standing.RUNNING, stage=stage, reason=None, blame="", detail="")
        case JobSuspended(stage=stage, reason=reason, blame=blame):
            return replace(
                status,
                standing=Standing.SUSPENDED,
                stage=stage,
                reason=reason,
                blame=blame,
                detail=f"waits for {blame}",
            )
        case JobSucceeded():
            return replace(status, standing=Standing.SUCCEEDED, reason=None, blame="", detail="")
        case JobFailed(reason=reason, blame=blame, detail=detail):
            return replace(status, standing=Standing.FAILED, reason=reason, blame=blame, detail=detail)
        case JobCancelled(detail=detail):
            return replace(
                status, standing=Standing.CANCELLED, reason=Reason.CANCELLED, blame=status.party, detail=detail
            )
    # What a newer release tells is news, though this one cannot say of what.
    return status


def _tasks_after(tasks: tuple[TaskStatus, ...], event: TaskEvent, now_ms: int) -> tuple[TaskStatus, ...]:
    """The tasks in the order in which they were first heard of."""
    for index, task in enumerate(tasks):
        if (task.stage, task.party) == (event.stage, event.party):
            return (*tasks[:index], _task_after(task, event, now_ms), *tasks[index + 1 :])
    new = TaskStatus(event.stage, event.party, Standing.RUNNING, now_ms, now_ms, marks=first_mark(now_ms, 0))
    return (*tasks, _task_after(new, event, now_ms))


def _task_after(task: TaskStatus, event: TaskEvent, now_ms: int) -> TaskStatus:
    task = replace(task, news_ms=now_ms)
    match event:
        case TaskProgressed(done=done, total=total, unit=unit, detail=detail):
            # Units of another kind are counted anew.
            marks = slide(task.marks if unit == task.unit or not task.unit else (), now_ms, done)
            return replace(
                task,
                standing=Standing.RUNNING,
                done=done,
                total=total,
                unit=unit,
                detail=detail,
                blame="",
                marks=marks,
                rate=measure_rate(marks, now_ms, done),
            )
        case TaskStarted() | TaskResumed():
            # Time in which nothing could be done is no part of a rate.
            marks = first_mark(now_ms, task.done)
            return replace(task, standing=Standing.RUNNING, blame="", detail="", rate=0.0, marks=marks)
        case TaskSuspended(blame=blame):
            return _at_rest(task, Standing.SUSPENDED, blame, f"waits for {blame}")
        case TaskSucceeded():
            return _at_rest(task, Standing.SUCCEEDED, "", task.detail)
        case TaskFailed(reason=reason, blame=blame, detail=detail):
            return _at_rest(task, Standing.FAILED, blame, f"{reason}: {detail}")


def _at_rest(task: TaskStatus, standing: Standing, blame: str, detail: str) -> TaskStatus:
    return replace(task, standing=standing, blame=blame, detail=detail, rate=0.0, marks=())


def note_silence(status: JobStatus, now_ms: int) -> JobStatus:
    """The status as a clock sees it that says `now_ms`: nothing but `silent_seconds` differs."""
    silent_ms = 0 if status.standing in ENDED else max(0, now_ms - status.news_ms)
    return replace(status, silent_seconds=silent_ms / 1000)
