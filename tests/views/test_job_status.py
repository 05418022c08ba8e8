"""The fold behind the live view: what it says, and that events which come again change nothing."""

from __future__ import annotations

import typing
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import jobs, tasks
from schemas.codec import decode, encode
from schemas.conversion import from_plain
from schemas.derivation import schema_of
from schemas.jobs import (
    CommandRefused,
    JobApproved,
    JobAwaitingApproval,
    JobFailed,
    JobRejected,
    JobResumed,
    JobSucceeded,
    JobSuspended,
    Leak,
    Mistake,
    Reason,
    Stage,
    StageStarted,
)
from schemas.record import Record
from schemas.tasks import TaskFailed, TaskProgressed, TaskResumed, TaskStarted, TaskSucceeded, TaskSuspended
from schemas.views import JobStatus, Standing
from streams.views.job_status import ENDED, Place, apply_event, note_silence
from tests.schemas.strategies import values_of

EVENTS: tuple[type[Record], ...] = (
    jobs.JobAccepted,
    jobs.JobRejected,
    jobs.JobAwaitingApproval,
    jobs.JobApproved,
    jobs.JobScheduled,
    jobs.JobSuspended,
    jobs.JobResumed,
    jobs.JobSucceeded,
    jobs.JobFailed,
    jobs.JobCancelled,
    jobs.CommandRefused,
    jobs.StageStarted,
    tasks.TaskStarted,
    tasks.TaskProgressed,
    tasks.TaskSuspended,
    tasks.TaskResumed,
    tasks.TaskSucceeded,
    tasks.TaskFailed,
)


def _events_of(cls: type[Record]) -> st.SearchStrategy[Record]:
    return values_of(schema_of(cls)).map(lambda plain: typing.cast(Record, from_plain(cls)(plain, None)))


def _at(event: Record, offset: int, timestamp_ms: int) -> tuple[Record, Place]:
    return event, Place(0, offset, timestamp_ms)


@st.composite
def topics(draw: st.DrawFn) -> list[tuple[Record, Place]]:
    """Events of one job in the order of their offsets, with gaps as transactions leave them, and clocks that differ."""
    chosen: list[Any] = draw(st.lists(st.sampled_from(EVENTS).flatmap(_events_of), max_size=12))
    places, offset = [], -1
    for drawn in chosen:
        event = replace(drawn, job_id="j", party=draw(st.sampled_from(["guest", "host"])))
        offset += draw(st.integers(1, 3))
        places.append(_at(event, offset, draw(st.integers(0, 300_000))))
    return places


def fold(events: Iterable[tuple[Record, Place]], status: JobStatus | None = None) -> JobStatus | None:
    for event, place in events:
        status = apply_event(status, event, place, "guest")
    return status


@given(topics(), st.data())
def test_events_that_come_again_change_nothing(topic: list[tuple[Record, Place]], data: st.DataObject) -> None:
    """At-least-once: time and again the reader goes back to some earlier position and on from there."""
    status, position, again = None, 0, data.draw(st.integers(0, 4))
    while position < len(topic):
        status = apply_event(status, *topic[position], "guest")
        position += 1
        if again and data.draw(st.booleans()):
            again -= 1
            position = data.draw(st.integers(0, position))
    assert status == fold(topic)


@given(topics())
def test_a_contained_event_gives_the_same_object(topic: list[tuple[Record, Place]]) -> None:
    """So that the view writes nothing for it."""
    status = fold(topic)
    for event, place in topic:
        assert apply_event(status, event, place, "guest") is status


# The first example loads every published schema.
@settings(deadline=None)
@given(topics(), st.data())
def test_a_status_restored_from_its_bytes_goes_on_as_before(
    topic: list[tuple[Record, Place]], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(topic)))
    status = fold(topic[:cut])
    restored = None if status is None else decode(encode(status))
    assert restored is None or isinstance(restored, JobStatus)
    # A restarted view restores the newest record of its topic, which may be one that told of silence.
    silent = None if restored is None else note_silence(restored, data.draw(st.integers(0, 10**9)))
    whole = fold(topic)
    assert fold(topic[cut:], restored) == whole
    told = fold(topic[cut:], silent)
    assert (whole is None and told is None) or (
        whole is not None and told is not None and note_silence(told, 0) == note_silence(whole, 0)
    )


@given(topics())
def test_the_end_of_a_job_stands(topic: list[tuple[Record, Place]]) -> None:
    ended: JobStatus | None = None
    status: JobStatus | None = None
    for event, place in topic:
        status = apply_event(status, event, place, "guest")
        if ended is not None:
            assert status is not None
            assert (status.standing, status.reason, status.blame) == (ended.standing, ended.reason, ended.blame)
        elif status is not None and status.standing in ENDED:
            ended = status


@given(topics())
def test_marks_stay_few_and_rates_are_not_negative(topic: list[tuple[Record, Place]]) -> None:
    status = fold(topic)
    for task in status.tasks if status else ():
        assert len(task.marks) <= 8
        assert task.rate >= 0


def test_an_unknown_job_has_no_status() -> None:
    assert fold([_at(CommandRefused("j", "guest", "CancelJob", ()), 0, 1)]) is None


STORY: tuple[Record, ...] = (
    JobAwaitingApproval("j", "guest", (Leak.SMALL_TABLE,)),
    JobApproved("j", "guest", "guest", (Leak.SMALL_TABLE,)),
    StageStarted("j", "guest", Stage.TRAIN),
    TaskStarted("j", Stage.TRAIN, "guest"),
    TaskProgressed("j", Stage.TRAIN, "guest", 20, 100, "rows", "pass 1"),
    TaskSuspended("j", Stage.TRAIN, "guest", Reason.PEER_SILENT, "host"),
    JobSuspended("j", "guest", Stage.TRAIN, Reason.PEER_SILENT, "host"),
    TaskResumed("j", Stage.TRAIN, "guest"),
    JobResumed("j", "guest", Stage.TRAIN),
    TaskProgressed("j", Stage.TRAIN, "guest", 30, 100, "rows", "pass 1"),
    TaskSucceeded("j", Stage.TRAIN, "guest", 0, 0, 0, 0, ()),
    JobSucceeded("j", "guest"),
)


def test_a_job_tells_its_story() -> None:
    """One event a second; time spent waiting for the host is no part of the rate."""
    status: JobStatus | None = None
    told = []
    for second, event in enumerate(STORY):
        status = apply_event(status, *_at(event, second, second * 1000), "guest")
        assert status is not None
        told.append((str(status.standing), status.blame, *(task.rate for task in status.tasks)))
    assert told == [
        ("awaiting_approval", ""),
        ("approved", ""),
        ("running", ""),
        ("running", "", 0.0),
        ("running", "", 20.0),
        ("running", "", 0.0),
        ("suspended", "host", 0.0),
        ("suspended", "host", 0.0),
        ("running", "", 0.0),
        ("running", "", 5.0),
        ("running", "", 0.0),
        ("succeeded", "", 0.0),
    ]
    assert status is not None
    assert (status.started_ms, status.news_ms, status.event_offset) == (0, 11_000, 11)
    assert (status.tasks[0].done, status.tasks[0].total, status.tasks[0].standing) == (30, 100, Standing.SUCCEEDED)


def test_blame_and_mistakes_are_shown() -> None:
    failed = fold([_at(TaskFailed("j", Stage.ALIGN, "guest", Reason.TOO_FEW_ROWS, "host", "3 rows"), 0, 0)])
    assert failed is not None
    assert (failed.tasks[0].blame, failed.tasks[0].detail) == ("host", "too_few_rows: 3 rows")
    over = fold([_at(JobFailed("j", "guest", Reason.TOO_FEW_ROWS, "host", "3 rows"), 1, 0)], failed)
    assert over is not None
    assert (over.standing, over.reason, over.blame, over.detail) == (
        Standing.FAILED,
        Reason.TOO_FEW_ROWS,
        "host",
        "3 rows",
    )
    mistakes = (Mistake("train.rank", "is 0"), Mistake("label", "is missing"))
    rejected = fold([_at(JobRejected("j", "guest", Reason.INVALID_SPEC, mistakes), 0, 0)])
    assert rejected is not None
    assert (rejected.blame, rejected.detail) == ("guest", "train.rank: is 0; label: is missing")


@pytest.mark.parametrize(("now_ms", "seconds"), [(4_500, 3.5), (1_000, 0.0), (0, 0.0)])
def test_silence_counts_from_the_latest_event(now_ms: int, seconds: float) -> None:
    """A clock behind the broker's gives no negative silence."""
    status = fold([_at(StageStarted("j", "guest", Stage.ALIGN), 0, 1_000)])
    assert status is not None
    assert note_silence(status, now_ms).silent_seconds == seconds


def test_a_job_that_is_over_is_not_silent() -> None:
    status = fold([_at(JobSucceeded("j", "guest"), 0, 1_000)])
    assert status is not None
    assert note_silence(status, 10**9) == status
