"""The fold of events to what people see."""

from __future__ import annotations

from dataclasses import replace

import pytest

from producers.job_view import ENDED, JobStatus, JobView, TaskStatus, describe, fold
from schemas.jobs import (
    PIPELINE,
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
    PartySpec,
    Reason,
    Role,
    Stage,
    StageStarted,
)
from schemas.record import Record
from schemas.tasks import (
    Measure,
    TaskFailed,
    TaskProgressed,
    TaskResumed,
    TaskStarted,
    TaskSucceeded,
    TaskSuspended,
)

JOB = "credit-1"
SPEC = JobSpec("credit", PartySpec("bank", "loans"), "y", (PartySpec("shop", "carts"),))
ACCEPTED = JobAccepted(JOB, "bank", Role.GUEST, SPEC, None)


def _view(*records: Record) -> JobView:
    return fold((record, 1000 * (place + 1)) for place, record in enumerate(records))[JOB]


def test_a_whole_job_is_told_by_its_events_alone() -> None:
    stages: list[Record] = []
    for stage in PIPELINE:
        stages += [
            StageStarted(JOB, "bank", stage),
            TaskStarted(JOB, stage, "bank"),
            TaskProgressed(JOB, stage, "bank", 1, 4, "chunks", ""),
            TaskSucceeded(JOB, stage, "bank", 10, 20, 3, 4, (Measure("auc", 0.9),)),
        ]
    view = _view(
        ACCEPTED,
        JobApproved(JOB, "bank", "bank", ()),
        JobApproved(JOB, "bank", "shop", ()),
        JobScheduled(JOB, "bank", PIPELINE),
        *stages,
        JobSucceeded(JOB, "bank"),
    )
    assert (view.status, view.spec, view.role, view.approvals) == (
        JobStatus.SUCCEEDED,
        SPEC,
        Role.GUEST,
        ("bank", "shop"),
    )
    assert [task.stage for task in view.tasks.values()] == list(PIPELINE)
    task = view.tasks[Stage.TRAIN, "bank"]
    assert (task.status, task.fraction, task.bytes_sent, task.records_received) == (TaskStatus.SUCCEEDED, 1.0, 10, 4)
    assert task.measures == (Measure("auc", 0.9),)
    assert task.seconds == 2.0
    assert view.seconds == (len(stages) + 4) * 1.0


def test_progress_counts_what_is_committed() -> None:
    view = _view(
        ACCEPTED, TaskStarted(JOB, Stage.ALIGN, "bank"), TaskProgressed(JOB, Stage.ALIGN, "bank", 3, 4, "chunks", "x")
    )
    assert view.tasks[Stage.ALIGN, "bank"].fraction == 0.75
    assert view.tasks[Stage.ALIGN, "bank"].detail == "x"


def test_a_silent_peer_is_named_until_it_returns() -> None:
    suspended = (
        ACCEPTED,
        StageStarted(JOB, "bank", Stage.TRAIN),
        TaskSuspended(JOB, Stage.TRAIN, "bank", Reason.PEER_SILENT, "shop"),
        JobSuspended(JOB, "bank", Stage.TRAIN, Reason.PEER_SILENT, "shop"),
    )
    view = _view(*suspended)
    assert "waits for shop" in describe(view)
    assert view.tasks[Stage.TRAIN, "bank"].status is TaskStatus.SUSPENDED
    back = _view(*suspended, TaskResumed(JOB, Stage.TRAIN, "bank"), JobResumed(JOB, "bank", Stage.TRAIN))
    assert (back.status, back.blame, back.reason) == (JobStatus.RUNNING, "", None)
    assert back.tasks[Stage.TRAIN, "bank"].status is TaskStatus.RUNNING


def test_a_pending_approval_says_what_to_type() -> None:
    view = _view(replace(ACCEPTED, party="shop"), JobAwaitingApproval(JOB, "shop", (Leak.SMALL_TABLE,)))
    assert f"isthmus party approve {JOB} --accept-leak small_table" in describe(view)


ENDS: tuple[Record, ...] = (
    JobSucceeded(JOB, "bank"),
    JobFailed(JOB, "bank", Reason.PEER_FAILED, "shop", "why"),
    JobRejected(JOB, "bank", Reason.INVALID_SPEC, (Mistake("train.rank", "too large"),)),
    JobCancelled(JOB, "bank", "no longer wanted"),
)


@pytest.mark.parametrize("end", ENDS, ids=lambda record: type(record).__name__)
def test_an_ended_job_stays_ended_whatever_arrives_late(end: Record) -> None:
    before = _view(ACCEPTED, end)
    late: tuple[Record, ...] = (
        StageStarted(JOB, "bank", Stage.TRAIN),
        JobSuspended(JOB, "bank", Stage.TRAIN, Reason.PEER_SILENT, "shop"),
        *ENDS,
        TaskFailed(JOB, Stage.TRAIN, "bank", Reason.INTERNAL_ERROR, "bank", "late"),
    )
    after = _view(ACCEPTED, end, *late)
    assert before.status in ENDED
    assert (after.status, after.reason, after.updated_ms) == (before.status, before.reason, before.updated_ms)
    assert after.tasks[Stage.TRAIN, "bank"].status is TaskStatus.FAILED


def test_nobody_is_asked_to_approve_a_job_that_is_over() -> None:
    waiting = (replace(ACCEPTED, party="shop"), JobAwaitingApproval(JOB, "shop", (Leak.SMALL_TABLE,)))
    assert _view(*waiting).leaks_to_accept == (Leak.SMALL_TABLE,)
    assert _view(*waiting, JobRejected(JOB, "shop", Reason.DECLINED, ())).leaks_to_accept == ()


@pytest.mark.parametrize("end", ENDS[1:], ids=lambda record: type(record).__name__)
def test_no_task_of_an_ended_job_is_told_to_run(end: Record) -> None:
    """A task that is told to stop says nothing itself."""
    started = (TaskStarted(JOB, Stage.TRAIN, "bank"), TaskProgressed(JOB, Stage.TRAIN, "bank", 1, 4, "chunks", ""))
    silent = (*started, TaskSuspended(JOB, Stage.TRAIN, "bank", Reason.PEER_SILENT, "shop"))
    for events in ((*started, end), (*silent, end), (end, *started)):
        view = _view(ACCEPTED, *events)
        assert view.tasks[Stage.TRAIN, "bank"].status is TaskStatus.STOPPED


def test_a_rejection_without_an_acceptance_still_makes_a_view() -> None:
    view = _view(JobRejected(JOB, "bank", Reason.INVALID_SPEC, (Mistake("train.rank", "too large"),)))
    assert (view.status, view.spec, len(view.mistakes)) == (JobStatus.REJECTED, None, 1)


def test_a_refused_command_is_remembered_and_changes_nothing() -> None:
    refused = CommandRefused(JOB, "bank", "ApproveJob", (Mistake("job_id", "no such job"),))
    assert _view(refused).status is JobStatus.UNKNOWN
    view = _view(ACCEPTED, JobSucceeded(JOB, "bank"), refused)
    assert (view.status, view.refusals) == (JobStatus.SUCCEEDED, (refused,))


def test_jobs_do_not_mix() -> None:
    other = replace(ACCEPTED, job_id="other")
    views = fold([(ACCEPTED, 1), (other, 2), (JobCancelled("other", "bank", ""), 3)])
    assert {job: view.status for job, view in views.items()} == {
        JOB: JobStatus.ACCEPTED,
        "other": JobStatus.CANCELLED,
    }
