"""What the train stage asks the own register of cohorts before the first pass, and tells it at the end.

Each party guards its own: the guest its labels, of which the host's gradients tell; a host its rows, of which the
guest's gradients and the shared scalars tell. So each counts what its peer receives.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from schemas.cohorts import COHORT, AskCohort, CohortCharged, CohortEntry, SettleCohort
from schemas.jobs import JobSpec, Role
from schemas.record import Blob
from schemas.training_states import TrainPhase, TrainSetup
from streams.dataset import Dataset
from streams.kernels.cohorts import tag_rows
from streams.kernels.entropy import COHORT_LEDGER, COHORT_ROWS, party_key, prf
from streams.kernels.leak_budget import LeakBudget
from streams.machine import Output, ToEvents, ToStage
from streams.machines.task import stop_waiting, wait_for
from streams.machines.train import gates
from streams.machines.train.outcome import OwnParty
from streams.machines.train.tools import Training, plan_of, role_of

#: Nothing is asked before these are over.
_BEFORE = (TrainPhase.KEYS, TrainPhase.READY)
#: Asked, and nothing sent yet; `RESIDUALS` only until its first chunk.
_UNTOUCHED = (TrainPhase.COHORT, TrainPhase.FITTING)


def cohort_of(own: OwnParty, dataset: Dataset, training: NDArray[np.uint32]) -> Blob:
    """The training rows, tagged alike in all jobs of this party; with their labels where they have some."""
    labels = None if dataset.label is None else dataset.label[training]
    return Blob.of(tag_rows(party_key(own.secret, COHORT_ROWS), dataset.ids.pick(training), labels))


def ledger_of(own: OwnParty, spec: JobSpec, role: Role) -> str:
    """The ledger's key. The broker sees keys: it tells no names."""
    dataset, label = _secret_of(own, spec, role)
    return prf(party_key(own.secret, COHORT_LEDGER), "cohort ledger", str(role), dataset, label).hex()[:32]


def ask(own: OwnParty, setup: TrainSetup) -> tuple[Output, ...]:
    """Ask whether the job may reveal what it may reveal at most, and again when no answer comes."""
    spec, passes = setup.spec, setup.spec.train.max_passes
    role = role_of(setup)
    dataset, label = _secret_of(own, spec, role)
    budget = _revealed(own, setup, passes)
    entry = CohortEntry(
        job=setup.job_id,
        peer=setup.peer,
        rows=setup.cohort,
        count=setup.rows,
        id_type=spec.align.id_type,
        columns=_peer_columns(setup),
        passes=passes,
        bits=budget.bits,
    )
    accepted = tuple(leak for leak in spec.accept_leaks if leak in setup.accepted_leaks)
    question = AskCohort(setup.ledger, role, dataset, label, entry, budget.limit, accepted)
    return (ToStage(COHORT, question, setup.ledger), wait_for(own.name, spec.patience_seconds))


def settle(own: OwnParty, state: Training) -> tuple[Output, ...]:
    """The task ends in this state: what the register should count instead of the most."""
    if state.phase in _BEFORE:
        return ()
    setup, passes = state.setup, begun_passes(state)
    settled = SettleCohort(setup.ledger, setup.job_id, passes, _revealed(own, setup, passes).bits)
    outputs: tuple[Output, ...] = (*stop_waiting([own.name]), ToStage(COHORT, settled, setup.ledger))
    # Who was not granted anything has told nobody of it yet.
    is_told = state.phase is not TrainPhase.COHORT
    return (*outputs, tell(own, setup, passes, is_final=True)) if is_told else outputs


def tell(own: OwnParty, setup: TrainSetup, passes: int, *, is_final: bool) -> ToEvents:
    """For the party's operators: what so many passes reveal of these rows."""
    role = role_of(setup)
    dataset, label = _secret_of(own, setup.spec, role)
    budget = _revealed(own, setup, passes)
    return ToEvents(
        CohortCharged(
            job_id=setup.job_id,
            party=own.name,
            role=role,
            dataset=dataset,
            label=label,
            peer=setup.peer,
            cohort=setup.cohort.sha256,
            rows=setup.rows,
            columns=_peer_columns(setup),
            passes=passes,
            bits=budget.bits,
            limit=budget.limit,
            is_final=is_final,
        )
    )


def begun_passes(state: Training) -> int:
    """Passes in which something may have been revealed: what was sent was sent, whatever became of the job."""
    current = state.current
    is_first = state.phase is TrainPhase.RESIDUALS and not (current.sent or current.received)
    return 0 if is_first or state.phase in _UNTOUCHED else current.pass_index + 1


def _revealed(own: OwnParty, setup: TrainSetup, passes: int) -> LeakBudget:
    """What the peer receives in so many passes, and what it may receive in all."""
    is_host = role_of(setup) is Role.HOST
    # Of its own rows a host allows half a bit each: the guest's numbers are about one number a row, the host's logit.
    positives = None if is_host else setup.positives
    plan = plan_of(setup, own.most_chunk_rows)
    return gates.budget_of(plan, _peer_columns(setup), positives, is_guest=is_host, passes=passes)


def _peer_columns(setup: TrainSetup) -> int:
    """Numbers in a gradient of the peer; a guest's has one for the intercept."""
    return setup.peer_columns + (1 if role_of(setup) is Role.HOST else 0)


def _secret_of(own: OwnParty, spec: JobSpec, role: Role) -> tuple[str, str]:
    """(dataset, label): what this party's ledger is about."""
    if role is Role.GUEST:
        return spec.guest.dataset, spec.label
    return next(host.dataset for host in spec.hosts if host.party == own.name), ""
