"""What the train stage asks its own register of cohorts, how it waits, and what it tells in the end."""

from __future__ import annotations

from collections import deque

import pytest

from schemas.cohort_states import CohortLedger
from schemas.cohorts import COHORT, CohortCharged
from schemas.jobs import Reason
from schemas.tasks import LocalFault, TaskFailed, TaskResumed, TaskSuspended
from schemas.training import TrainReady
from schemas.training_states import TrainPhase
from streams.machines.train import phase_of
from tests.machines.driver import Delivery, Driver
from tests.machines.train_cases import GUEST, HOST, JOB, TRAIN, halves_of, make_case, make_driver, run_case

CASE = make_case()
PARTIES = (GUEST, HOST)


def ledger_of(driver: Driver, party: str) -> CohortLedger:
    ledger = driver.states[party, COHORT]
    assert isinstance(ledger, CohortLedger)
    return ledger


def run_until(party: str, phase: TrainPhase, pass_index: int = 0) -> Driver:
    driver = make_driver(CASE)
    while True:
        state = driver.states[party, TRAIN]
        if phase_of(state) is phase and state.current.pass_index == pass_index:  # type: ignore[attr-defined]
            return driver
        driver.deliver_next()


def run_without_register(driver: Driver, party: str) -> deque[Delivery]:
    """Everything but what the party's register would be given; that."""
    held: deque[Delivery] = deque()
    while True:
        held += driver.channels.pop((party, party, COHORT), ())
        if not driver.channels:
            return held
        driver.deliver_next()


def test_a_job_is_charged_at_most_before_its_first_pass_and_with_what_it_came_to_in_the_end() -> None:
    driver = run_case(CASE)
    for party, columns in ((GUEST, 4), (HOST, 6)):
        first, last = (each for each in driver.events[party] if isinstance(each, CohortCharged))
        assert (first.is_final, last.is_final) == (False, True)
        assert first.passes == CASE.spec.train.max_passes >= last.passes and first.bits >= last.bits > 0
        assert (last.columns, last.rows) == (columns, 72), "of the peer, with its intercept"
        (entry,) = ledger_of(driver, party).entries
        assert (entry.passes, entry.bits, entry.rows.sha256) == (last.passes, last.bits, last.cohort)


def test_what_is_charged_is_what_the_peer_receives() -> None:
    """20 bits a number: the host's gradients and coefficients; the guest's gradients, Gram rows and maxima."""
    driver = run_case(make_case(max_passes=3, tolerance=1e-9))
    bits = {party: ledger_of(driver, party).entries[0].bits for party in PARTIES}
    assert bits == {GUEST: 20 * (3 * 4 + 6), HOST: 20 * (3 * 6 + 6 + 3)}


@pytest.mark.parametrize("party", PARTIES)
def test_a_register_that_is_silent_is_asked_again_and_told_once(party: str) -> None:
    driver = run_until(party, TrainPhase.COHORT)
    held = run_without_register(driver, party)
    for _ in range(2):
        driver.fire(party, TRAIN, f"patience/{party}")
        held += run_without_register(driver, party)
        assert f"patience/{party}" in driver.timers[party, TRAIN], "no wait without an end"
    assert len(held) == 3
    (suspended,) = driver.events_of(party, TaskSuspended)
    assert isinstance(suspended, TaskSuspended) and suspended.blame == party
    driver.channels[party, party, COHORT] = held
    driver.run()
    assert len(driver.events_of(party, TaskResumed)) == 1 and not driver.timers[party, TRAIN]
    assert halves_of(driver) == halves_of(run_case(CASE))
    assert len(ledger_of(driver, party).entries) == 1


@pytest.mark.parametrize("party", PARTIES)
def test_the_peers_patience_does_not_run_out_while_the_own_register_thinks(party: str) -> None:
    peer = HOST if party == GUEST else GUEST
    driver = run_until(party, TrainPhase.COHORT)
    driver.channels.pop((party, party, COHORT))
    driver.fire(party, TRAIN, f"patience/{peer}")
    driver.run()
    assert not driver.events_of(party, TaskSuspended) and f"patience/{peer}" in driver.timers[party, TRAIN]


@pytest.mark.parametrize("party", PARTIES)
def test_a_job_that_is_stopped_while_it_asks_spends_nothing(party: str) -> None:
    """The answer, and whatever else is under way, comes when it is over."""
    driver = run_until(party, TrainPhase.COHORT)
    held = run_without_register(driver, party)
    driver.stop(party, TRAIN)
    held += run_without_register(driver, party)
    driver.channels[party, party, COHORT] = held
    driver.run()
    assert ledger_of(driver, party).entries == ()
    assert not [event for event in driver.events[party] if isinstance(event, CohortCharged | TaskFailed)]


@pytest.mark.parametrize(("phase", "pass_index", "passes"), [("fitting", 0, 0), ("products", 0, 1), ("basis", 2, 3)])
@pytest.mark.parametrize("by", ["stop", "fault"])
def test_what_was_sent_was_sent_whatever_becomes_of_the_job(phase: str, pass_index: int, passes: int, by: str) -> None:
    driver = run_until(GUEST, TrainPhase(phase), pass_index)
    if by == "stop":
        driver.stop(GUEST, TRAIN)
    else:
        driver.send(GUEST, TRAIN, LocalFault(JOB, Reason.STORAGE_FAILED, "full"))
    driver.run()
    assert [entry.passes for entry in ledger_of(driver, GUEST).entries] == ([passes] if passes else [])


def test_a_host_that_was_let_through_and_saw_nothing_has_spent_nothing() -> None:
    driver = run_until(HOST, TrainPhase.RESIDUALS)
    driver.channels.clear()
    driver.stop(HOST, TRAIN)
    driver.run()
    assert ledger_of(driver, HOST).entries == ()


@pytest.mark.parametrize("when", [TrainPhase.WAITING, TrainPhase.KEYS])
def test_a_host_that_is_ready_before_the_guest_is_refused(when: TrainPhase) -> None:
    """It cannot have asked its register: it does not know the guest's columns."""
    ready = next(e.record for e in run_case(CASE).trace if e.party == GUEST and isinstance(e.record, TrainReady))
    driver = make_driver(CASE)
    if when is TrainPhase.KEYS:
        while phase_of(driver.states[GUEST, TRAIN]) is not TrainPhase.KEYS:
            driver.deliver_next()
    waiting, driver.channels = driver.channels, {}
    driver.send_as(HOST, GUEST, TRAIN, ready)
    driver.run()
    driver.channels = waiting
    driver.run()
    (failed,) = driver.events_of(GUEST, TaskFailed)
    assert isinstance(failed, TaskFailed) and (failed.reason, failed.blame) == (Reason.PROTOCOL_VIOLATION, HOST)
