"""Several jobs of one dataset, in partitions of their own, and the register at which they meet."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from schemas.codec import decode
from schemas.cohort_states import CohortLedger
from schemas.cohorts import COHORT, CohortCharged
from schemas.engine_states import EngineJob
from schemas.jobs import Leak, Reason, Stage
from schemas.record import Blob, Record
from schemas.tasks import StartTask, TaskFailed, TaskSucceeded, TaskSuspended
from streams.dataset import Dataset
from streams.engine.blobs import SealedBlobs
from streams.engine.partitioner import partition_of
from streams.engine.ports import TopicPartition
from streams.machine import Machine
from streams.machines.cohort import CohortMachine
from streams.machines.train import TrainMachine
from tests.machines.train_cases import ALL_LEAKS, GUEST, HOST, SECRETS, TRAIN, Case, make_case
from tests.simulation.harness import MemoMachine, Memory, Plan, World, crash_at, events_topic

PARTIES = (GUEST, HOST)
PARTITIONS = 4
KEY_BITS = 256
MEMORY = Memory()

#: 1200 training rows: the host allows 600 bits, a job of two passes takes 300. No leak is needed.
LARGE = make_case(rows=1600, guest_columns=4, host_columns=4, max_passes=2, rank=2, coarse_passes=1, key_bits=KEY_BITS)
#: Seconds shall not matter.
SMALL = make_case(rows=16, guest_columns=3, host_columns=3, max_passes=1, rank=2, coarse_passes=1, key_bits=KEY_BITS)
NO_OVERLAP = tuple(leak for leak in ALL_LEAKS if leak is not Leak.OVERLAPPING_COHORT)


def with_leaks(case: Case, *leaks: Leak) -> Case:
    return replace(case, spec=replace(case.spec, accept_leaks=leaks, patience_seconds=10_000))


def prepare(dataset: Dataset, record: Record) -> Dataset | None:
    return dataset if isinstance(record, StartTask) else None


def train_machine(party: str, chunk_rows: int) -> Machine:
    return MemoMachine(TrainMachine(party, SECRETS[party], KEY_BITS, chunk_rows), f"{party}/{chunk_rows}", MEMORY)


def make_world(case: Case, chunk_rows: int, seed: int | None = None) -> World:
    """The train stages and registers of both parties, with nothing to do."""
    plans = []
    for party in PARTIES:
        load = functools.partial(prepare, case.dataset(party))
        plans.append(Plan(party, TRAIN, functools.partial(train_machine, party, chunk_rows), prepare=load))
        plans.append(Plan(party, COHORT, functools.partial(CohortMachine, party)))
    return World(plans, partitions=PARTITIONS, chunk_bytes=100_000, seed=seed)


def start(world: World, case: Case, job: str, swapped: int = 0) -> None:
    """A job of the case's people; `swapped` of the training rows change places with rows that are held out."""
    n = len(case.label)
    joint = np.arange(n)
    joint[:swapped], joint[n - swapped :] = np.arange(n - swapped, n), np.arange(swapped)
    for party in PARTIES:
        places = np.argsort(case.order(party))[joint].astype("<u4")
        aligned = replace(case.alignment(party), job_id=job, rows=Blob.of(places.tobytes()))
        world.hand_over(party, Stage.ALIGN, Stage.TRAIN, job, aligned)
        world.hand_over(party, Stage.JOB, Stage.TRAIN, job, case.task(party, job_id=job))


def ends_of(world: World, job: str) -> dict[str, TaskSucceeded | TaskFailed]:
    """How the job's train task ended, by party; nothing of a party where it waits for the other."""
    found = {}
    for party in PARTIES:
        for record in world.records(events_topic(party)):
            if isinstance(record, TaskSucceeded | TaskFailed) and record.job_id == job:
                assert party not in found, "it ended twice"
                found[party] = record
    return found


def is_trained(world: World, job: str) -> bool:
    ends = ends_of(world, job)
    return len(ends) == 2 and all(isinstance(end, TaskSucceeded) for end in ends.values())


def refusal_of(world: World, job: str) -> TaskFailed:
    """The host is asked first, and its refusal is all that happens."""
    (end,) = ends_of(world, job).values()
    assert isinstance(end, TaskFailed) and (end.party, end.reason) == (HOST, Reason.LEAK_NOT_ACCEPTED)
    return end


def ledgers_of(world: World, party: str) -> list[CohortLedger]:
    """What the party's register would restore."""
    topic, found = f"vfl.{COHORT}.state.{party}.v1", {}
    keyring = world.keyrings[party]
    blobs = SealedBlobs(world.stores[party], keyring)
    for partition in range(PARTITIONS):
        for key, value in world.broker.written(TopicPartition(topic, partition)):
            assert key is not None and value is not None
            record = decode(keyring.open_state(topic, partition, key, value))
            if isinstance(record, EngineJob) and record.machine:
                ledger = decode(record.machine, blobs.load)
                assert isinstance(ledger, CohortLedger)
                found[key] = ledger
    return list(found.values())


def test_jobs_of_one_dataset_share_what_they_may_reveal() -> None:
    """A, then nearly A: refused. A again: let through until the budget is spent. By name: whatever is accepted."""
    strict = with_leaks(LARGE)
    world = make_world(strict, 1024)
    start(world, strict, "first")
    assert is_trained(world.run(), "first")

    start(world, strict, "nearly", swapped=5)
    world.run()
    text = refusal_of(world, "nearly").detail
    assert "job first in 10 rows" in text and "accept overlapping_cohort by name" in text

    start(world, strict, "again")
    assert is_trained(world.run(), "again")
    start(world, strict, "too-often")
    world.run()
    text = refusal_of(world, "too-often").detail
    assert "2 earlier jobs of the same rows (first, again)" in text and "accept small_table by name" in text
    assert "limit of 600 bits" in text

    small = with_leaks(LARGE, Leak.SMALL_TABLE)
    start(world, small, "by-name")
    assert is_trained(world.run(), "by-name")
    overlapping = with_leaks(LARGE, Leak.OVERLAPPING_COHORT)
    start(world, overlapping, "nearly-by-name", swapped=5)
    assert is_trained(world.run(), "nearly-by-name")

    for party in PARTIES:
        (ledger,) = ledgers_of(world, party)
        assert [entry.job for entry in ledger.entries] == ["first", "again", "by-name", "nearly-by-name"]
        assert world.records(f"vfl.deadletter.{party}.v1") == []
        charged = [each for each in world.records(events_topic(party)) if isinstance(each, CohortCharged)]
        final = {each.job_id: each.bits for each in charged if each.is_final}
        assert final == {entry.job: entry.bits for entry in ledger.entries}
    keys = {partition_of(job.encode(), PARTITIONS) for job in ("first", "nearly", "again", "too-often")}
    assert len(keys) > 1, "the jobs are in different partitions"


@pytest.mark.parametrize("seed", range(8))
def test_of_two_nearly_equal_jobs_at_the_same_time_one_is_trained(seed: int) -> None:
    case = with_leaks(SMALL, *NO_OVERLAP)
    world = make_world(case, 8, seed=seed)
    for job, swapped in (("one", 0), ("two", 1)):
        start(world, case, job, swapped)
    world.run()
    assert sorted(is_trained(world, job) for job in ("one", "two")) == [False, True]


def test_a_store_that_is_away_while_rows_are_compared_suspends_the_job_until_it_is_back() -> None:
    case = with_leaks(SMALL, *NO_OVERLAP)
    world = make_world(case, 8)
    start(world, case, "first")
    assert is_trained(world.run(), "first")
    start(world, case, "nearly", swapped=1)
    asked = len(asks_of(world, HOST))
    while len(asks_of(world, HOST)) == asked:
        assert world.advance()
    world.stores[HOST].is_broken = True
    (register,) = [each for each in world.running if (each.plan.party, each.plan.stage) == (HOST, COHORT)]
    register.process = None
    while len(asks_of(world, HOST)) < asked + 3:
        assert world.advance(), "it asks again"
    (suspended,) = [each for each in world.records(events_topic(HOST)) if isinstance(each, TaskSuspended)]
    assert (suspended.job_id, suspended.blame) == ("nearly", HOST)
    assert ends_of(world, "nearly") == {}
    world.stores[HOST].is_broken = False
    world.run()
    assert "job first in 2 rows" in refusal_of(world, "nearly").detail


def asks_of(world: World, party: str) -> list[bytes]:
    """What was ever put on the register's command topic."""
    places = [TopicPartition(f"vfl.{COHORT}.commands.{party}.v1", number) for number in range(PARTITIONS)]
    return [value or b"" for place in places for _, value in world.broker.written(place)]


def check_crashes(make: Callable[[], World], jobs: Sequence[str]) -> int:
    """After a crash at any call one of the jobs is trained, and the ledgers hold what it came to and nothing else."""
    count = make().run().broker.calls
    for number in range(count):
        world = make()
        world.broker.fate_of = crash_at(number)
        world.run()
        assert world.crashes == 1
        (trained,) = [job for job in jobs if is_trained(world, job)]
        for party in PARTIES:
            (ledger,) = ledgers_of(world, party)
            assert [(entry.job, entry.passes) for entry in ledger.entries] == [(trained, 1)], number
    return count


def test_a_crash_at_any_call_lets_one_of_two_nearly_equal_jobs_through_and_counts_it_once() -> None:
    case = with_leaks(SMALL, *NO_OVERLAP)

    def make() -> World:
        world = make_world(case, 8)
        for job, swapped in (("one", 0), ("two", 1)):
            start(world, case, job, swapped)
        return world

    assert check_crashes(make, ("one", "two")) > 100
