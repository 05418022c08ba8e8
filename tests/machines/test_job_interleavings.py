"""Two coordinators under random interleavings of clients, timers and faults: every job ends, once, everywhere."""

from __future__ import annotations

import random

import pytest

from schemas.job_states import EndedJob, NewJob
from schemas.jobs import (
    PIPELINE,
    ApproveJob,
    CancelJob,
    DeclineJob,
    EndJob,
    JobCancelled,
    JobFailed,
    JobRejected,
    JobSucceeded,
    Reason,
    SubmitJob,
)
from schemas.record import Record
from schemas.tasks import LocalFault, StartTask, StopTask, TaskFailed, TaskResumed, TaskSuspended, TimerFired
from streams.machines.job import Policy
from tests.machines.job_world import GUEST, HOST, JOB, SPEC, World, succeeded, world

TERMINAL = (JobSucceeded, JobFailed, JobCancelled, JobRejected)


def _incidents(draw: random.Random) -> list[tuple[str, Record]]:
    """What may happen at any time, each rarely."""
    party, peer = draw.choice([(GUEST, HOST), (HOST, GUEST)])
    stage = draw.choice(PIPELINE)
    rare: list[tuple[str, Record]] = [
        (party, CancelJob(JOB, "x")),
        (party, TimerFired(JOB, "deadline", 1)),
        (party, TaskFailed(JOB, stage, party, Reason.INTERNAL_ERROR, party, "x")),
        (party, LocalFault(JOB, Reason.STORAGE_FAILED, "x")),
        (HOST, DeclineJob(JOB, "x")),
    ]
    harmless: list[tuple[str, Record]] = [
        (GUEST, SubmitJob(JOB, SPEC)),
        (HOST, ApproveJob(JOB)),
        (party, TimerFired(JOB, "patience", 1)),
        (party, TaskSuspended(JOB, stage, party, Reason.PEER_SILENT, peer)),
        (party, TaskResumed(JOB, stage, party)),
    ]
    return [draw.choice(rare)] if draw.random() < 0.05 else [draw.choice(harmless)]


def _deliver_one(there: World, draw: random.Random) -> None:
    """The next record of a random channel; order is kept within a channel."""
    channels = sorted({(sender, receiver) for sender, receiver, _ in there.waiting})
    channel = draw.choice(channels)
    found = next(item for item in there.waiting if item[:2] == channel)
    there.waiting.remove(found)
    sender, receiver, record = found
    there.give(receiver, record, sender)


def _work(there: World, draw: random.Random) -> None:
    """Stage processes finish what they were told to start, at a random moment."""
    party = draw.choice([GUEST, HOST])
    started = [record for _, record in there.commands.get(party, []) if isinstance(record, StartTask)]
    if started:
        there.give(party, succeeded(party, started[-1].stage))


def _history(seed: int) -> World:
    draw = random.Random(seed)
    there = world(Policy(auto_approve=draw.random() < 0.5))
    there.give(GUEST, SubmitJob(JOB, SPEC))
    for _ in range(draw.randrange(150)):
        if there.waiting and draw.random() < 0.6:
            _deliver_one(there, draw)
        elif draw.random() < 0.5:
            _work(there, draw)
        else:
            for party, record in _incidents(draw):
                there.give(party, record)
    while there.waiting:
        _deliver_one(there, draw)
    return there


@pytest.mark.parametrize("seed", range(150))
def test_every_history_ends_at_the_latest_with_the_deadline_once_and_everywhere(seed: int) -> None:
    there = _history(seed)
    there.tell(GUEST, TimerFired(JOB, "deadline", 1))
    ended = {party: isinstance(state, EndedJob) for party, state in there.states.items()}
    never_asked = isinstance(there.states.get(HOST, NewJob(JOB)), NewJob)
    assert ended[GUEST]
    assert ended.get(HOST) or never_asked
    for party in there.machines:
        endings = [record for record in there.events.get(party, []) if isinstance(record, TERMINAL)]
        assert len(endings) == (0 if party == HOST and never_asked else 1), endings
        names = there.types(party)
        after = names[names.index(type(endings[0]).__name__) + 1 :] if endings else []
        assert set(after) <= {"CommandRefused"}, "nothing happens after the end"


@pytest.mark.parametrize("seed", range(150))
def test_in_every_history_stages_run_in_order_and_what_was_started_is_finished_or_stopped(seed: int) -> None:
    there = _history(seed)
    there.tell(GUEST, TimerFired(JOB, "deadline", 1))
    for party, commands in there.commands.items():
        started = [record.stage for _, record in commands if isinstance(record, StartTask)]
        assert started == list(PIPELINE[: len(started)])
        is_success = any(isinstance(record, JobSucceeded) for record in there.events[party])
        stopped = [stage for stage, record in commands if isinstance(record, StopTask)]
        assert stopped == ([] if is_success or not started else list(PIPELINE[len(started) - 1 :]))
        if is_success:
            assert len(started) == len(PIPELINE)


def test_the_histories_reach_every_kind_of_ending() -> None:
    """Otherwise the two tests above would prove little."""
    reached = {
        type(record).__name__
        for seed in range(300)
        for records in _history(seed).events.values()
        for record in records
        if isinstance(record, TERMINAL)
    }
    assert reached == {"JobSucceeded", "JobFailed", "JobCancelled", "JobRejected"}


def test_no_history_lets_a_detail_cross() -> None:
    for seed in range(100):
        for _, _, record in _history(seed).crossed:
            if isinstance(record, EndJob) and record.reason is not None:
                assert "events have the details" in record.detail
