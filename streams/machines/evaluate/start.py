"""The beginning of an evaluation: the own half on the own hold-out rows."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from schemas.alignment import AlignmentReady
from schemas.digests import digest_of
from schemas.evaluation import EvaluateReady
from schemas.evaluation_states import (
    EvaluateLink,
    EvaluatePhase,
    EvaluateSetup,
    EvaluateWaiting,
    GuestEvaluation,
    HostEvaluation,
)
from schemas.jobs import Reason
from schemas.models import ModelHalf
from schemas.record import Blob
from schemas.tasks import StartTask
from streams.dataset import Dataset
from streams.kernels.holdout import split_rows
from streams.kernels.scoring import SHARED_LOGIT_BITS, Half, quantise_logits, score_features, score_half
from streams.kernels.standardisation import Standardisation, standardise
from streams.machines.evaluate.protocol import MAX_CHUNK_ROWS, MAX_CHUNKS
from streams.machines.task import RefusalError, violation


def prepare_host(waiting: EvaluateWaiting, start: StartTask, dataset: Dataset, party: str) -> HostEvaluation:
    """The host's state with its logits computed. Raises `RefusalError`."""
    alignment, half = check_inputs(waiting, start, dataset, party)
    _, holdout = split_rows(alignment.rows.content, start.spec.evaluate.holdout_fraction)
    logits = quantise_logits(score_half(dataset.values[holdout], arrays_of(half)))
    setup = _setup(start, alignment, len(holdout), party)
    blob = Blob.of(logits.astype("<i4").tobytes())
    return HostEvaluation(EvaluatePhase.READY, setup, start.spec.guest.party, blob)


def prepare_guest(waiting: EvaluateWaiting, start: StartTask, dataset: Dataset, party: str) -> GuestEvaluation:
    """The guest's state with its own part computed. Raises `RefusalError`."""
    alignment, half = check_inputs(waiting, start, dataset, party)
    train, holdout = split_rows(alignment.rows.content, start.spec.evaluate.holdout_fraction)
    setup = _setup(start, alignment, len(holdout), party)
    label = dataset.label
    if label is None:
        raise RefusalError(Reason.INTERNAL_ERROR, party, "the guest's dataset came without its label")
    _check_classes(label[holdout], party)
    arrays = arrays_of(half)
    train_features = standardise(dataset.values[train], arrays.standardisation, half.feature_clip)
    holdout_features = standardise(dataset.values[holdout], arrays.standardisation, half.feature_clip)
    logits = score_features(holdout_features, half.weights, half.intercept, half.logit_clip)
    return GuestEvaluation(
        phase=EvaluatePhase.COLLECTING,
        setup=setup,
        links=tuple(EvaluateLink(host) for host in sorted(h.party for h in start.spec.hosts)),
        train=Blob.of(train_features.astype("<i4").tobytes()),
        holdout=Blob.of(holdout_features.astype("<i4").tobytes()),
        columns=len(half.columns),
        train_label=Blob.of(label[train].tobytes()),
        holdout_label=Blob.of(label[holdout].tobytes()),
        ids=Blob.of(json.dumps(dataset.ids.pick(holdout)).encode()),
        logits=Blob.of(logits.astype("<i8").tobytes()),
        l2=start.spec.train.l2,
    )


def check_inputs(
    waiting: EvaluateWaiting, start: StartTask, dataset: Dataset, party: str
) -> tuple[AlignmentReady, ModelHalf]:
    """What align and train handed over, if it belongs to this job and this table. Raises `RefusalError`."""
    alignment, half = waiting.alignment, waiting.half
    if alignment is None or half is None:
        missing = "joint rows" if alignment is None else "the model's half"
        raise RefusalError(Reason.INTERNAL_ERROR, party, f"{missing} did not reach the evaluate stage of {party}")
    fingerprint = dataset.profile.fingerprint
    if alignment.data_fingerprint != fingerprint or half.data_fingerprint != fingerprint:
        raise RefusalError(Reason.DATA_CHANGED, party, f"the dataset of {party} changed since rows were aligned")
    if half.spec_digest != digest_of(start.spec) or half.columns != dataset.columns:
        raise RefusalError(Reason.INTERNAL_ERROR, party, "the model's half is of another job or of other columns")
    return alignment, half


def arrays_of(half: ModelHalf) -> Half:
    """A half as the scoring kernel takes it."""
    standardisation = Standardisation(half.means, half.scales, half.constant)
    return Half(standardisation, half.feature_clip, half.weights, half.intercept, half.logit_clip)


def announce(setup: EvaluateSetup, chunk_rows: int) -> EvaluateReady:
    """How this party would send the hold-out."""
    chunks = -(-setup.rows_holdout // chunk_rows)
    return EvaluateReady(setup.job_id, setup.rows_holdout, chunk_rows, chunks, SHARED_LOGIT_BITS, setup.spec_digest)


def check_ready(setup: EvaluateSetup, sender: str, ready: EvaluateReady) -> None:
    """Refuse an announcement that does not fit the own rows, the limits or the job. Raises `RefusalError`."""
    if ready.spec_digest != setup.spec_digest:
        raise violation(sender, f"{sender} evaluates another spec than the one that was approved")
    if ready.rows != setup.rows_holdout:
        raise violation(sender, f"{sender} holds out {ready.rows} rows, we hold out {setup.rows_holdout}")
    if ready.logit_bits != SHARED_LOGIT_BITS:
        raise violation(
            sender, f"{sender} rounds logits to {ready.logit_bits} fractional bits, not {SHARED_LOGIT_BITS}"
        )
    if not 1 <= ready.chunk_rows <= MAX_CHUNK_ROWS:
        raise violation(sender, f"{sender} announces {ready.chunk_rows} rows a chunk; at most {MAX_CHUNK_ROWS}")
    if ready.chunks != -(-ready.rows // ready.chunk_rows) or ready.chunks > MAX_CHUNKS:
        raise violation(sender, f"{sender} announces {ready.chunks} chunks, which do not fit or exceed {MAX_CHUNKS}")


def _setup(start: StartTask, alignment: AlignmentReady, holdout: int, party: str) -> EvaluateSetup:
    if holdout < 1:
        raise RefusalError(
            Reason.TOO_FEW_ROWS,
            party,
            f"{alignment.n_joint} joint rows leave none to hold out at"
            f" evaluate.holdout_fraction {start.spec.evaluate.holdout_fraction}",
        )
    return EvaluateSetup(
        job_id=start.job_id,
        model=start.spec.name,
        rows_train=alignment.n_joint - holdout,
        rows_holdout=holdout,
        spec_digest=digest_of(start.spec),
        patience_seconds=start.spec.patience_seconds,
    )


def _check_classes(label: NDArray[np.int8], party: str) -> None:
    """Measures need a row of each class. Asked before hosts send anything."""
    positives = int(np.count_nonzero(label == 1))
    if positives in (0, label.size):
        raise RefusalError(
            Reason.TOO_FEW_ROWS,
            party,
            f"{positives} of {label.size} hold-out rows have label 1: no measure is defined without both classes;"
            " hold out more rows",
        )
