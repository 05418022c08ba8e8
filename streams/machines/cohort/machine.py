"""The register's machine: one state a ledger, one answer an ask."""

from __future__ import annotations

from dataclasses import replace

from schemas.cohort_states import CohortLedger
from schemas.cohorts import COHORT, AskCohort, CohortGranted, CohortRefused, SettleCohort
from schemas.jobs import Stage
from schemas.record import Record
from streams.machine import Event, Step, ToStage
from streams.machines.cohort.rules import find_objection


class CohortMachine:
    """A party's register of cohorts. Only the party's own train stage speaks to it."""

    stage: str = COHORT

    def __init__(self, party: str) -> None:
        self._party = party

    def initial(self, key: str) -> Record:
        """A ledger without a job."""
        return CohortLedger(key)

    def step(self, state: Record, event: Event) -> Step:
        """Decide one input. What is neither asked nor settled changes nothing: the asker asks again."""
        if not isinstance(state, CohortLedger) or event.sender != self._party:
            return Step(state)
        match event.record:
            case AskCohort() as ask:
                return _answer(state, ask)
            case SettleCohort() as settled:
                return _settle(state, settled)
        return Step(state)


def _answer(state: CohortLedger, ask: AskCohort) -> Step:
    job = ask.entry.job
    granted = ToStage(Stage.TRAIN, CohortGranted(job), job)
    if ask.entry in state.entries:
        return Step(state, (granted,))
    objection = find_objection(state.entries, ask)
    if objection is not None:
        return Step(state, (ToStage(Stage.TRAIN, CohortRefused(job, objection.leak, objection.detail), job),))
    entries = (*state.entries, ask.entry)
    named = replace(state, role=ask.role, dataset=ask.dataset, label=ask.label, entries=entries)
    return Step(named, (granted,))


def _settle(state: CohortLedger, settled: SettleCohort) -> Step:
    """What a job might have revealed becomes what it revealed; a job that revealed nothing is no concern of others."""
    entries = []
    for entry in state.entries:
        if entry.job != settled.job:
            entries.append(entry)
        elif settled.passes > 0:
            passes, bits = min(entry.passes, settled.passes), min(entry.bits, settled.bits)
            entries.append(replace(entry, passes=passes, bits=bits))
    return Step(replace(state, entries=tuple(entries)))
