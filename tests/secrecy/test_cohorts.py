"""Two jobs whose rows differ in ten people: what the host reads from the difference of two first gradients.

The attack must work where the check is off, or it would show nothing that the check refuses exactly this pair.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.cohort_states import CohortLedger
from schemas.jobs import Leak, Reason
from schemas.record import Blob
from schemas.tasks import TaskFailed
from schemas.training_states import HostTraining
from tests.machines.driver import Driver
from tests.machines.train_cases import (
    ALL_LEAKS,
    GUEST,
    HOST,
    TRAIN,
    Case,
    ledgers_after,
    make_case,
    make_driver,
)

ROWS, COLUMNS, FEWER = 1000, 22, 10
#: A quarter of the joint rows is held out: (joint rows, training rows).
WHOLE, LESS = (1000, 750), (986, 740)
SEEDS = range(1, 6)


def make_tables(seed: int) -> Case:
    """Two tables with a weak signal: most residuals are far from zero."""
    return make_case(ROWS, 4, COLUMNS, seed, strength=0.15, max_passes=2, rank=2, key_bits=256)


CASE = make_tables(1)
NO_OVERLAP = tuple(leak for leak in ALL_LEAKS if leak is not Leak.OVERLAPPING_COHORT)


@dataclass(frozen=True)
class FirstPass:
    """What the host has after the first pass of a job: its rows, its gradient, and how it standardised."""

    rows: NDArray[np.int64]
    gradient: NDArray[np.float64]
    scales: NDArray[np.float64]


def cohort_of(joint: int, training: int) -> NDArray[np.int64]:
    """Joint rows in the order that both parties are told: training rows first, all of the smaller job in the larger."""
    rows = np.arange(ROWS)
    return np.concatenate([rows[:training], rows[WHOLE[1] : WHOLE[1] + joint - training]])


def make_job(case: Case, rows: NDArray[np.int64], ledgers: dict[str, CohortLedger] | None = None) -> Driver:
    """A job of the same two tables on these rows of them."""
    driver = make_driver(case, chunk_rows=200, ledgers=ledgers)
    driver.channels.clear()
    for party in (GUEST, HOST):
        places = np.argsort(case.order(party))[rows].astype("<u4")
        aligned = replace(case.alignment(party), rows=Blob.of(places.tobytes()), n_joint=len(rows))
        driver.send(party, TRAIN, aligned)
        driver.send(party, TRAIN, case.task(party), case.dataset(party))
    return driver


def run_first_pass(driver: Driver, rows: NDArray[np.int64], training: int) -> FirstPass:
    while True:
        driver.deliver_next()
        state = driver.states[HOST, TRAIN]
        if isinstance(state, HostTraining) and state.memory.gradients:
            gradient = np.array(state.memory.gradients[0].values)
            return FirstPass(rows[:training], gradient, np.array(state.setup.scales))


def guess_labels(case: Case, first: FirstPass, second: FirstPass) -> dict[int, int]:
    """The host's attack: the rows that only one gradient is about explain what the two differ in.

    The guest's intercept makes residuals sum to zero, so means drop out; what the guest's own columns change elsewhere
    is noise. A residual p - y is negative exactly where the label is 1.
    """
    only = np.setdiff1d(first.rows, second.rows)
    difference = first.gradient * first.scales - second.gradient * second.scales
    residuals = np.linalg.lstsq(case.host[only].T, difference, rcond=None)[0]
    return {int(row): int(residual < 0) for row, residual in zip(only, residuals, strict=True)}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_difference_of_two_first_gradients_gives_the_labels_of_ten_people(seed: int) -> None:
    """Where nobody minds: the leak is accepted by name."""
    case, passes = make_tables(seed), []
    for joint, training in (WHOLE, LESS):
        rows = cohort_of(joint, training)
        passes.append(run_first_pass(make_job(case, rows), rows, training))
    guessed = guess_labels(case, *passes)
    assert len(guessed) == FEWER and 2 <= sum(guessed.values()) <= FEWER - 2
    assert guessed == {row: int(case.label[row]) for row in guessed}


@pytest.mark.parametrize("party", [HOST, GUEST])
def test_the_register_of_either_party_refuses_exactly_this_pair(party: str) -> None:
    """Each alone, should the other's have been forgotten; and before anything of a pass crosses the door."""
    case = replace(CASE, spec=replace(CASE.spec, accept_leaks=NO_OVERLAP))
    rows = cohort_of(*WHOLE)
    earlier = ledgers_after(make_job(case, rows).run(), "job-of-may")
    driver = make_job(case, cohort_of(*LESS), {party: earlier[party]}).run()
    (failed,) = driver.events_of(party, TaskFailed)
    assert isinstance(failed, TaskFailed) and failed.reason is Reason.LEAK_NOT_ACCEPTED
    assert "job-of-may" in failed.detail and f"in {FEWER} rows" in failed.detail
    assert "accept overlapping_cohort by name" in failed.detail
    assert len(driver.wire) == (1 if party == HOST else 2), "TrainReady and nothing else"
    assert driver.states[party, "cohort"] == earlier[party], "nothing was spent"


def test_the_same_rows_again_are_let_through() -> None:
    case = replace(CASE, spec=replace(CASE.spec, accept_leaks=NO_OVERLAP))
    rows = cohort_of(*WHOLE)
    earlier = ledgers_after(make_job(case, rows).run())
    again = make_job(case, rows, earlier).run()
    assert not again.events_of(HOST, TaskFailed) and not again.events_of(GUEST, TaskFailed)
