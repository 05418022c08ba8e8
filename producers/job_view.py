"""What the event topic says about a job: a fold over events, without I/O. `isthmus job list|show|watch` print it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from schemas.evaluation import ReportStored
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
    JobSpec,
    JobSucceeded,
    JobSuspended,
    Leak,
    Mistake,
    Reason,
    Role,
    Stage,
    StageStarted,
)
from schemas.record import Blob, Record
from schemas.tasks import Measure, TaskFailed, TaskProgressed, TaskResumed, TaskStarted, TaskSucceeded, TaskSuspended


class JobStatus(StrEnum):
    """Where a job stands, as seen by one party."""

    #: Only refused commands were heard: there is no such job.
    UNKNOWN = "unknown"
    ACCEPTED = "accepted"
    AWAITING_APPROVAL = "awaiting approval"
    APPROVED = "approved"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    SUSPENDED = "suspended"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REJECTED = "rejected"
    CANCELLED = "cancelled"


#: A job with one of these stays so.
ENDED = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.REJECTED, JobStatus.CANCELLED})


class TaskStatus(StrEnum):
    """Where one stage at one party stands."""

    RUNNING = "running"
    SUSPENDED = "suspended"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    #: The job ended while the task ran.
    STOPPED = "stopped"


#: What a task that has not ended by itself can be told to be.
OPEN_TASKS = frozenset({TaskStatus.RUNNING, TaskStatus.SUSPENDED})


@dataclass(frozen=True)
class TaskView:
    """One stage at one party. Times are Kafka's record timestamps, in milliseconds since 1970."""

    stage: Stage
    party: str
    status: TaskStatus
    started_ms: int
    updated_ms: int
    done: int = 0
    total: int = 0
    unit: str = ""
    detail: str = ""
    bytes_sent: int = 0
    bytes_received: int = 0
    records_sent: int = 0
    records_received: int = 0
    measures: tuple[Measure, ...] = ()

    @property
    def seconds(self) -> float:
        """From the start to the last thing heard."""
        return (self.updated_ms - self.started_ms) / 1000

    @property
    def fraction(self) -> float:
        """How much is done, from 0 to 1."""
        if self.status is TaskStatus.SUCCEEDED:
            return 1.0
        return min(1.0, self.done / self.total) if self.total else 0.0


@dataclass(frozen=True)
class JobView:
    """One job, as seen by one party."""

    job_id: str
    party: str
    status: JobStatus
    first_ms: int
    updated_ms: int
    role: Role | None = None
    spec: JobSpec | None = None
    retry_of: str | None = None
    stage: Stage | None = None
    stages: tuple[Stage, ...] = ()
    tasks: Mapping[tuple[Stage, str], TaskView] = field(default_factory=dict)
    approvals: tuple[str, ...] = ()
    leaks_to_accept: tuple[Leak, ...] = ()
    reason: Reason | None = None
    blame: str = ""
    detail: str = ""
    mistakes: tuple[Mistake, ...] = ()
    #: Commands that changed nothing, oldest first.
    refusals: tuple[CommandRefused, ...] = ()
    #: At the guest: the evaluation report in its blob store.
    report: Blob | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in ENDED

    @property
    def seconds(self) -> float:
        """From the first event to the last one."""
        return (self.updated_ms - self.first_ms) / 1000


def fold(events: Iterable[tuple[Record, int]]) -> dict[str, JobView]:
    """All jobs that (event, timestamp in ms) pairs tell of, by id, in the order of their first event."""
    views: dict[str, JobView] = {}
    for record, timestamp_ms in events:
        job_id = getattr(record, "job_id", None)
        if isinstance(job_id, str):
            views[job_id] = apply(views.get(job_id), record, timestamp_ms)
    return views


def apply(view: JobView | None, record: Record, timestamp_ms: int) -> JobView:
    """The view after one more event. Unknown types change nothing but the time: newer releases may add some."""
    job_id, party = str(getattr(record, "job_id", "")), str(getattr(record, "party", ""))
    if view is None:
        view = JobView(job_id, party, JobStatus.UNKNOWN, timestamp_ms, timestamp_ms)
    if isinstance(record, CommandRefused):
        return replace(view, refusals=(*view.refusals, record))
    if isinstance(record, ReportStored):
        return replace(view, report=record.report)
    if view.ended:
        # A task may report after its job has ended; the end stands.
        return replace(view, tasks=_stopped(_tasks_after(view, record, timestamp_ms)))
    view = replace(view, updated_ms=max(view.updated_ms, timestamp_ms), tasks=_tasks_after(view, record, timestamp_ms))
    view = _after(view, record, party)
    return replace(view, tasks=_stopped(view.tasks), leaks_to_accept=()) if view.ended else view


def _after(view: JobView, record: Record, party: str) -> JobView:
    match record:
        case JobAccepted(role=role, spec=spec, retry_of=retry_of):
            return replace(view, party=party, status=JobStatus.ACCEPTED, role=role, spec=spec, retry_of=retry_of)
        case JobRejected(reason=reason, mistakes=mistakes):
            return replace(view, party=party, status=JobStatus.REJECTED, reason=reason, blame=party, mistakes=mistakes)
        case JobAwaitingApproval(leaks=leaks):
            return replace(view, status=JobStatus.AWAITING_APPROVAL, leaks_to_accept=leaks)
        case JobApproved(approved_by=approved_by):
            approvals = view.approvals if approved_by in view.approvals else (*view.approvals, approved_by)
            return replace(view, status=JobStatus.APPROVED, approvals=approvals, leaks_to_accept=())
        case JobScheduled(stages=stages):
            return replace(view, status=JobStatus.SCHEDULED, stages=stages)
        case StageStarted(stage=stage):
            return replace(view, status=JobStatus.RUNNING, stage=stage)
        case JobSuspended(stage=stage, reason=reason, blame=blame):
            return replace(view, status=JobStatus.SUSPENDED, stage=stage, reason=reason, blame=blame)
        case JobResumed(stage=stage):
            return replace(view, status=JobStatus.RUNNING, stage=stage, reason=None, blame="")
        case JobSucceeded():
            return replace(view, status=JobStatus.SUCCEEDED, reason=None, blame="")
        case JobFailed(reason=reason, blame=blame, detail=detail, mistakes=mistakes):
            return replace(
                view,
                status=JobStatus.FAILED,
                reason=reason,
                blame=blame,
                detail=detail,
                mistakes=mistakes or view.mistakes,
            )
        case JobCancelled(detail=detail):
            return replace(view, status=JobStatus.CANCELLED, reason=Reason.CANCELLED, blame=party, detail=detail)
    return view


def _stopped(tasks: Mapping[tuple[Stage, str], TaskView]) -> Mapping[tuple[Stage, str], TaskView]:
    """The tasks of a job that is over: a task that is told to stop has nothing to report."""
    return {
        key: replace(task, status=TaskStatus.STOPPED) if task.status in OPEN_TASKS else task
        for key, task in tasks.items()
    }


def _tasks_after(view: JobView, record: Record, timestamp_ms: int) -> Mapping[tuple[Stage, str], TaskView]:
    if not isinstance(record, TaskStarted | TaskProgressed | TaskSuspended | TaskResumed | TaskSucceeded | TaskFailed):
        return view.tasks
    key = (record.stage, record.party)
    before = view.tasks.get(key) or TaskView(record.stage, record.party, TaskStatus.RUNNING, timestamp_ms, timestamp_ms)
    task = replace(before, updated_ms=max(before.updated_ms, timestamp_ms))
    match record:
        case TaskStarted() | TaskResumed():
            task = replace(task, status=TaskStatus.RUNNING)
        case TaskProgressed(done=done, total=total, unit=unit, detail=detail):
            task = replace(task, status=TaskStatus.RUNNING, done=done, total=total, unit=unit, detail=detail)
        case TaskSuspended(blame=blame):
            task = replace(task, status=TaskStatus.SUSPENDED, detail=f"waits for {blame}")
        case TaskSucceeded():
            task = replace(
                task,
                status=TaskStatus.SUCCEEDED,
                bytes_sent=record.bytes_sent,
                bytes_received=record.bytes_received,
                records_sent=record.records_sent,
                records_received=record.records_received,
                measures=record.measures,
            )
        case TaskFailed(reason=reason, blame=blame, detail=detail):
            task = replace(task, status=TaskStatus.FAILED, detail=f"{reason} at {blame}: {detail}")
    return {**view.tasks, key: task}


def describe(view: JobView) -> str:
    """One sentence about where the job stands, and what to do when somebody has to act."""
    match view.status:
        case JobStatus.AWAITING_APPROVAL:
            options = "".join(f" --accept-leak {leak}" for leak in view.leaks_to_accept)
            return f"waits for this party's approval: isthmus party approve {view.job_id}{options}"
        case JobStatus.RUNNING:
            return f"runs stage {view.stage}"
        case JobStatus.SUSPENDED:
            # What a peer set aside because its manifest was another one does not come again.
            hint = "; submit it again if that party knows no such job" if view.stage == Stage.JOB else ""
            return (
                f"suspended in stage {view.stage}: {view.reason}, waits for {view.blame}; "
                f"goes on by itself when that party returns{hint}"
            )
        case JobStatus.FAILED:
            return f"failed: {view.reason} at {view.blame}" + (f": {view.detail}" if view.detail else "")
        case JobStatus.REJECTED:
            return f"rejected: {view.reason}, {len(view.mistakes)} mistake(s)"
        case JobStatus.CANCELLED:
            return "cancelled" + (f": {view.detail}" if view.detail else "")
    return str(view.status)


def human_bytes(count: int) -> str:
    """`1234567` is `1.2 MB`; powers of ten, as network people count."""
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
