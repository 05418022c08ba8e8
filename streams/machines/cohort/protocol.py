"""The register of cohorts: one ledger for each secret of the party, kept over all of its jobs.

    train stage of a job                          register, ledger of the job's dataset
      the peer's Ready is known
      AskCohort  ------------------------------>  compares the rows with those of all earlier jobs, writes the job down
                  <-----------------------------  CohortGranted | CohortRefused
      first pass ... end, good or bad
      SettleCohort  --------------------------->  puts down what was revealed instead of what might have been

| role  | a ledger is about                         | counts what the peer receives         | may be revealed in all   |
|-------|-------------------------------------------|---------------------------------------|--------------------------|
| guest | the labels of a dataset's label column    | the host's gradients and coefficients | half the labels' entropy |
| host  | its rows of a dataset, as gradients show  | the guest's gradients, Gram rows and  | half a bit a row         |
|       | them to guests                            | maxima                                |                          |

Nothing of it crosses the door: records are sealed, and travel between two processes of one party. The ledger is the
key of its records, so that jobs that ask at the same time are answered one after the other.

A job is in the ledger, with all that it may reveal at most, before anything is sent; what a job sent before it ended
stays there. A job that is asked about again (after the asker's patience) is answered again.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from schemas.cohorts import AskCohort, CohortGranted, CohortRefused, SettleCohort
from schemas.jobs import Role
from streams.machines.transition import Transition


class LedgerPhase(StrEnum):
    """A ledger is never closed."""

    OPEN = "open"


TRANSITIONS: Final[tuple[Transition, ...]] = tuple(
    transition
    for role in (Role.GUEST.value, Role.HOST.value)
    for transition in (
        Transition(role, LedgerPhase.OPEN, AskCohort, (LedgerPhase.OPEN,), (CohortGranted, CohortRefused)),
        Transition(role, LedgerPhase.OPEN, SettleCohort, (LedgerPhase.OPEN,)),
    )
)
