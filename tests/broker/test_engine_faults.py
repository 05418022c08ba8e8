"""The engine on a real broker, killed, paused, crowded out and cut off. Each test proves that its fault happened."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.broker import EmbeddedBroker
from infra.topics import events_topic, exchange_topic
from streams.engine import failpoints
from tests.broker.toy_houses import Houses
from tests.broker.toy_process import ENGINE_ENDED, SLOT_TAKEN
from tests.simulation.toy import STAGE

_jobs = (f"job-{number}" for number in itertools.count(1))

#: A later time than the first, where there is one, so that there is a state to lose.
TIMES = {failpoints.AFTER_INIT: 1, failpoints.DURING_RESTORE: 2, failpoints.BEFORE_TIMERS: 1}


@pytest.fixture
def houses(broker: EmbeddedBroker, tmp_path: Path, new_party: Callable[[str], str]) -> Iterator[Houses]:
    made = Houses(broker, tmp_path, new_party("guest"), new_party("host"))
    yield made
    made.stop_all()


@pytest.fixture(scope="module")
def standing(broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Houses]:
    """Houses for all failpoints: the guest stays, hosts come and go."""
    made = Houses(broker, tmp_path_factory.mktemp("standing"), "standing-guest", "standing-host")
    made.start(made.guest)
    yield made
    made.stop_all()
    made.check_rest()


@pytest.mark.parametrize("point", [point for point in failpoints.ALL if point != failpoints.BEFORE_TIMERS])
def test_a_process_killed_at_a_failpoint_comes_back_and_nothing_is_lost_or_doubled(
    standing: Houses, point: str
) -> None:
    job_id = next(_jobs)
    standing.submit(job_id)
    killed = standing.start(standing.host, failpoint=f"{point}:{TIMES.get(point, 3)}")
    assert killed.wait() == -signal.SIGKILL, killed.tail()
    assert not standing.marker.exists()
    if point == failpoints.AFTER_OFFSETS:
        assert standing.transactions()[killed.transactional_id] == "Ongoing"
    successor = standing.start(standing.host)
    standing.await_done(job_id)
    successor.send(signal.SIGTERM)
    assert successor.wait() == 0, successor.tail()
    standing.check_jobs()


def test_a_process_killed_before_its_timers_comes_back_and_they_fire_once(houses: Houses) -> None:
    job_id = next(_jobs)
    houses.submit(job_id)
    houses.start(houses.host)
    killed = houses.start(houses.guest, failpoint=failpoints.BEFORE_TIMERS)
    assert killed.wait() == -signal.SIGKILL, killed.tail()
    assert houses.records(events_topic(houses.guest)) == []
    houses.start(houses.guest)
    houses.await_done(job_id)
    houses.check_done()


def test_a_paused_process_with_an_open_transaction_is_fenced_when_another_took_its_slot(houses: Houses) -> None:
    job_id = next(_jobs)
    houses.submit(job_id)
    houses.start(houses.guest)
    zombie = houses.start(houses.host, failpoint=f"{failpoints.AFTER_OFFSETS}:2", signal_name="SIGSTOP")
    zombie.await_stopped()
    assert houses.transactions()[zombie.transactional_id] == "Ongoing"
    houses.start(houses.host)
    houses.await_done(job_id)
    zombie.send(signal.SIGCONT)
    assert zombie.wait() == SLOT_TAKEN, zombie.tail()
    houses.check_done()


def test_a_paused_process_whose_partitions_went_to_another_slot_is_refused_and_goes_on(houses: Houses) -> None:
    """Its transactional id is still its own: it is the group's generation that keeps its transaction out (KIP-447)."""
    job_id = next(_jobs)
    houses.submit(job_id)
    houses.start(houses.guest)
    paused = houses.start(
        houses.host, failpoint=f"{failpoints.AFTER_PRODUCE}:2", signal_name="SIGSTOP", transaction_ms=120_000
    )
    paused.await_stopped()
    second = houses.start(houses.host, slot=1)
    # It has the partitions; whether it must wait for the other's records depends on whether they had left already.
    second.await_log("waits: a transaction", "given partition")
    paused.send(signal.SIGCONT)
    paused.await_log("transaction refused: ")
    houses.await_done(job_id)
    assert paused.child.poll() is None, paused.tail()
    houses.check_done()


def test_a_transaction_that_is_too_old_is_aborted_and_done_again(houses: Houses) -> None:
    job_id = next(_jobs)
    houses.submit(job_id)
    houses.start(houses.guest)
    paused = houses.start(
        houses.host, failpoint=f"{failpoints.AFTER_OFFSETS}:2", signal_name="SIGSTOP", transaction_ms=1_500
    )
    paused.await_stopped()
    houses.await_transaction(paused.transactional_id, "CompleteAbort")
    paused.send(signal.SIGCONT)
    # If its records had left, it is a stranger to the broker now; for all it knows it was replaced, and its supervisor
    # starts it again. If not, the client library gives them up, and it goes on with a new epoch.
    houses.await_done(job_id, restart_codes=(SLOT_TAKEN,))
    assert paused.child.poll() == SLOT_TAKEN or "transaction refused: " in paused.log.read_text(), paused.tail()
    houses.check_done()


def test_a_second_process_joins_and_the_first_dies_for_good_while_jobs_run(houses: Houses) -> None:
    jobs = [next(_jobs) for _ in range(18)]
    houses.start(houses.guest)
    first = houses.start(houses.host, transaction_ms=4_000)
    houses.submit(*jobs[:6])
    houses.await_record(exchange_topic(STAGE, houses.guest))
    second = houses.start(houses.host, slot=1, transaction_ms=4_000)
    second.await_log("given partition")
    first.await_log("is not ours any more")
    houses.submit(*jobs[6:12])
    houses.await_done(*jobs[:12])
    first.child.kill()
    assert first.wait() == -signal.SIGKILL
    houses.submit(*jobs[12:])
    houses.await_done(*jobs[12:])
    second.await_log("given partition 0")
    houses.check_done()


def test_a_broker_that_is_killed_and_started_again_loses_nothing(
    tmp_path: Path, new_party: Callable[[str], str]
) -> None:
    with EmbeddedBroker(tmp_path / "broker", is_open=True) as broker:
        houses = Houses(broker, tmp_path, new_party("guest"), new_party("host"))
        try:
            jobs = [next(_jobs) for _ in range(4)]
            houses.start(houses.guest)
            houses.start(houses.host)
            houses.submit(*jobs, rounds=12)
            houses.await_record(exchange_topic(STAGE, houses.guest))
            first_pid = broker.pid
            broker.kill()
            broker.start()
            assert broker.pid != first_pid
            # Processes may live through it; who gives up is started again, as its supervisor would.
            houses.await_done(*jobs, restart_codes=(ENGINE_ENDED, SLOT_TAKEN))
            houses.check_done()
        finally:
            houses.stop_all()


def test_the_checks_look_where_the_records_are(houses: Houses) -> None:
    """They would pass on nothing at all, if they looked in the wrong place."""
    job_id = next(_jobs)
    houses.submit(job_id)
    houses.start(houses.guest)
    houses.start(houses.host)
    houses.await_done(job_id)
    assert len(houses.records(events_topic(houses.host))) == 1
    houses.check_done()
    houses.jobs["job-that-never-was"] = 4
    with pytest.raises(AssertionError):
        houses.check_done()
    del houses.jobs["job-that-never-was"]
    houses.jobs[job_id] = 3
    with pytest.raises(AssertionError):
        houses.check_done()
