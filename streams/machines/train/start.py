"""From StartTask to the moment when both parties are ready and their registers of cohorts let the job go on.

The host says that it is ready only when its register has said yes, and the guest sends nothing before it has heard
that and asked its own: so nobody has to take anything before it may.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from schemas.digests import digest_of
from schemas.jobs import JobSpec, Reason, Role, Stage
from schemas.record import Blob
from schemas.tasks import StartTask
from schemas.training import ContinueTraining, TrainReady
from schemas.training_states import (
    GuestTraining,
    HostTraining,
    PassState,
    TrainingMemory,
    TrainPhase,
    TrainSetup,
    TrainWaiting,
)
from streams.dataset import Dataset
from streams.kernels.entropy import job_seed, prf
from streams.kernels.fixed_point import add_intercept
from streams.kernels.holdout import split_rows
from streams.kernels.paillier import PublicKey, generate_keys
from streams.kernels.split_link import column_bound
from streams.kernels.standardisation import fit_standardisation, standardise
from streams.machine import Output, Step, ToPeer, ToStage
from streams.machines.task import RefusalError, check_dataset, check_faults, stop_waiting, violation, wait_for
from streams.machines.train import cohort, gates
from streams.machines.train.masks import extend_digest, private_digest
from streams.machines.train.outcome import OwnParty
from streams.machines.train.plan import check_plan
from streams.machines.train.tools import Training, key_digest, own_width, plan_of, private_key, refresher_of, role_of

#: The most columns that a peer may claim.
MOST_COLUMNS = 100_000


def start(own: OwnParty, state: TrainWaiting, task: StartTask, resource: object) -> Step:
    """Prepare the own rows, check what the job may reveal, and go on to make the key. Raises RefusalError."""
    peer = _peer_of(own, task)
    check_faults(state.faults, [peer], own.name)
    # Whoever else said that it is ready is not part of this job.
    ready = next((early.ready for early in state.early if early.party == peer), None)
    if ready is not None and task.role is Role.GUEST:
        raise violation(peer, "TrainReady: a host is ready after the guest only")
    setup = _prepare(own, state, task, resource, peer)
    memory = TrainingMemory(weights=(0,) * own_width(setup), iterate=(0,) * own_width(setup))
    current = PassState(0, 0)
    new: Training
    if task.role is Role.GUEST:
        new = GuestTraining(TrainPhase.KEYS, setup, memory, current)
    else:
        new = HostTraining(TrainPhase.KEYS, setup, memory, current, ready=ready)
    outputs: tuple[Output, ...] = (
        own.task(task.job_id).started(),
        wait_for(peer, task.spec.patience_seconds),
        ToStage(Stage.TRAIN, ContinueTraining(task.job_id, -1, 0)),
    )
    return Step(new, outputs)


def make_keys(own: OwnParty, state: Training) -> Step:
    """Make the job's Paillier key; a guest tells it, a host goes on if the guest is ready. Raises RefusalError."""
    setup = state.setup
    key = prf(job_seed(own.secret, setup.job_id), "train paillier", setup.job_id, setup.peer)
    private = generate_keys(key, setup.spec.train.key_bits)
    width = (setup.spec.train.key_bits // 2 + 7) // 8
    prime_p, prime_q = private.p.to_bytes(width, "big"), private.q.to_bytes(width, "big")
    label = b"" if setup.label is None else setup.label.sha256
    setup = replace(
        setup,
        prime_p=prime_p,
        prime_q=prime_q,
        private_digest=private_digest(setup.features.sha256, label, key_digest(prime_p, prime_q)),
    )
    state = replace(state, setup=setup, phase=TrainPhase.READY)
    if isinstance(state, GuestTraining):
        return Step(state, (ToPeer(setup.peer, _ready_of(setup)),))
    return Step(state) if state.ready is None else hear_ready(own, state, state.ready)


def hear_ready(own: OwnParty, state: Training, ready: TrainReady) -> Step:
    """The peer is ready: check its key and figures and the budgets of both, and ask the own register of cohorts.

    Raises RefusalError.
    """
    if state.phase is TrainPhase.KEYS:
        return Step(replace(state, ready=ready))
    setup = state.setup
    _check_ready(setup, ready)
    setup = replace(setup, peer_modulus=ready.modulus, peer_columns=ready.columns)
    _check_budgets(own, setup)
    transcript = extend_digest(b"", "ready", ready.modulus, ready.columns, ready.rows, ready.spec_digest)
    memory = replace(state.memory, transcript=transcript)
    state = replace(state, setup=setup, memory=memory, ready=ready, phase=TrainPhase.COHORT)
    return Step(state, cohort.ask(own, setup))


def go_on(own: OwnParty, state: Training) -> Step:
    """The own register of cohorts has the job in its ledger: begin."""
    setup = state.setup
    silent, resumed = own.task(setup.job_id).voice(state.memory.silent, own.name)
    state = replace(state, memory=replace(state.memory, silent=silent))
    charged = cohort.tell(own, setup, setup.spec.train.max_passes, is_final=False)
    outputs = (*resumed, charged, *stop_waiting([own.name]), wait_for(setup.peer, setup.spec.patience_seconds))
    if isinstance(state, GuestTraining):
        onward = ToStage(Stage.TRAIN, ContinueTraining(setup.job_id, -1, 1))
        return Step(replace(state, phase=TrainPhase.FITTING), (*outputs, onward))
    # The tables take two seconds: now, while the guest fits alone, and not when its first chunk is here.
    refresher_of(job_seed(own.secret, setup.job_id), setup)
    return Step(replace(state, phase=TrainPhase.RESIDUALS), (*outputs, ToPeer(setup.peer, _ready_of(setup))))


def _ready_of(setup: TrainSetup) -> TrainReady:
    modulus = private_key(setup).public.encode()
    return TrainReady(setup.job_id, modulus, len(setup.columns), setup.rows, setup.spec_digest)


def _peer_of(own: OwnParty, task: StartTask) -> str:
    spec = task.spec
    if len(spec.hosts) != 1:
        detail = f"hosts: names {len(spec.hosts)} hosts; logistic_regression trains with one for now"
        raise RefusalError(Reason.INVALID_SPEC, own.name, detail)
    guest, host = spec.guest.party, spec.hosts[0].party
    if own.name != (guest if task.role is Role.GUEST else host) or guest == host:
        raise RefusalError(Reason.INVALID_SPEC, own.name, f"{own.name} is not the {task.role} of this job")
    return host if task.role is Role.GUEST else guest


def _prepare(own: OwnParty, state: TrainWaiting, task: StartTask, resource: object, peer: str) -> TrainSetup:
    spec, train = task.spec, task.spec.train
    dataset = _checked_dataset(own, state, task, resource)
    assert state.alignment is not None
    training = split_rows(state.alignment.rows.content, spec.evaluate.holdout_fraction)[0]
    if len(training) < 2:
        raise RefusalError(Reason.TOO_FEW_ROWS, own.name, f"{len(training)} training rows after alignment; 2 needed")
    _check_spec(own, spec, len(training))
    try:
        values = dataset.values[training]
        scaling = fit_standardisation(values)
        features = standardise(values, scaling, train.feature_clip)
    except (ValueError, IndexError) as error:
        raise RefusalError(Reason.INVALID_DATA, own.name, f"the training rows cannot be used: {error}") from error
    gates.check_privacy(spec, task.accepted_leaks, own.name)
    gates.check_support(spec, task.accepted_leaks, own.name, features, dataset.columns)
    label = _label_blob(own, dataset, training) if task.role is Role.GUEST else None
    if label is not None:
        features = add_intercept(features)
    _check_bound(own, features)
    return TrainSetup(
        job_id=task.job_id,
        peer=peer,
        spec=spec,
        spec_digest=digest_of(spec),
        accepted_leaks=task.accepted_leaks,
        fingerprint=dataset.profile.fingerprint,
        columns=dataset.columns,
        means=scaling.means,
        scales=scaling.scales,
        constant=scaling.constant,
        rows=len(training),
        positives=-1 if label is None else sum(label.content),
        features=Blob.of(np.ascontiguousarray(features, dtype="<i4").tobytes()),
        label=label,
        cohort=cohort.cohort_of(own, dataset, training),
        ledger=cohort.ledger_of(own, spec, task.role),
    )


def _check_bound(own: OwnParty, features: NDArray[np.int32]) -> None:
    """What the slots were chosen for; standardisation guarantees it, and an overflow would spoil a model silently."""
    rows = features.shape[0]
    largest = int(np.abs(features.astype(np.int64)).sum(axis=0).max())
    if largest > column_bound(rows):
        detail = f"a standardised column sums to {largest} in {rows} rows, beyond {column_bound(rows)}"
        raise RefusalError(Reason.INTERNAL_ERROR, own.name, detail)


def _checked_dataset(own: OwnParty, state: TrainWaiting, task: StartTask, resource: object) -> Dataset:
    dataset = check_dataset(resource, task.profile, own.name)
    if state.alignment is None:
        raise RefusalError(Reason.INTERNAL_ERROR, own.name, "the task was started before alignment handed its rows on")
    if dataset.profile.fingerprint != state.alignment.data_fingerprint:
        detail = "the dataset is not the one that was aligned: restore it, or submit a new job"
        raise RefusalError(Reason.DATA_CHANGED, own.name, detail)
    if not dataset.columns:
        raise RefusalError(Reason.INVALID_DATA, own.name, "the dataset has no feature columns")
    return dataset


def _check_spec(own: OwnParty, spec: JobSpec, rows: int) -> None:
    train = spec.train
    if train.key_bits < own.least_key_bits:
        detail = f"train.key_bits: {train.key_bits} is below {own.least_key_bits}, the least that {own.name} accepts"
        raise RefusalError(Reason.INVALID_SPEC, own.name, detail)
    try:
        check_plan(train, rows)
    except ValueError as error:
        raise RefusalError(Reason.INVALID_SPEC, own.name, f"train: {error}") from error


def _label_blob(own: OwnParty, dataset: Dataset, training: NDArray[np.uint32]) -> Blob:
    if dataset.label is None:
        raise RefusalError(Reason.INVALID_DATA, own.name, "the guest's dataset has no label column")
    label = dataset.label[training].astype(np.int8)
    if label.min() == label.max():
        detail = f"label: all {len(label)} training rows have the value {int(label[0])}; there is nothing to learn"
        raise RefusalError(Reason.INVALID_DATA, own.name, detail)
    return Blob.of(label.tobytes())


def _check_ready(setup: TrainSetup, ready: TrainReady) -> None:
    def refuse(detail: str) -> RefusalError:
        return violation(setup.peer, f"TrainReady: {detail}")

    if ready.spec_digest != setup.spec_digest:
        raise refuse("the peer runs another spec")
    if ready.rows != setup.rows:
        raise refuse(f"the peer has {ready.rows} training rows, this party {setup.rows}")
    if not 1 <= ready.columns <= MOST_COLUMNS:
        raise refuse(f"{ready.columns} columns; 1 to {MOST_COLUMNS} are possible")
    try:
        PublicKey.decode(ready.modulus, setup.spec.train.key_bits)
    except ValueError as error:
        raise refuse(str(error)) from error
    if ready.modulus == private_key(setup).public.encode():
        raise refuse("the peer sent this party's own modulus")


def _check_budgets(own: OwnParty, setup: TrainSetup) -> None:
    plan = plan_of(setup, own.most_chunk_rows)
    if role_of(setup) is Role.HOST:
        # A host does not know the labels' entropy: one bit a row is its upper bound.
        budgets = [(own.name, gates.budget_of(plan, len(setup.columns), None, is_guest=False))]
    else:
        budgets = [
            (own.name, gates.budget_of(plan, own_width(setup), setup.positives, is_guest=True)),
            (setup.peer, gates.budget_of(plan, setup.peer_columns, setup.positives, is_guest=False)),
        ]
    gates.check_budgets(setup.spec, setup.accepted_leaks, own.name, budgets)
