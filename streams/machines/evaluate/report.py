"""The guest's report: every measure and curve of the hold-out, and the rows from which they can be computed again."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.evaluation import (
    CalibrationPart,
    ConfusionCounts,
    CurvePoint,
    EvaluationReport,
    GainPart,
    ScoredRow,
)
from schemas.evaluation_states import EvaluateLink, GuestEvaluation
from schemas.tasks import Measure
from streams.kernels import metrics
from streams.kernels.scoring import restore_logits, score_features
from streams.kernels.sigmoid import SIGMOID_LIMIT

#: What the guest tells hosts of a model's quality: without it they could not tell whether their part is worth anything.
SHARED_MEASURES = ("auc", "ks")
#: Points of a curve in the report; the rows are there for whoever wants all.
CURVE_POINTS = 512


def write_report(state: GuestEvaluation) -> EvaluationReport:
    """Measure the joint model and the guest's own on the hold-out. The classes were checked at the start."""
    label = np.frombuffer(state.holdout_label.content, np.int8)
    logits = add_parts(state)
    features = np.frombuffer(state.holdout.content, "<i4").astype(np.int32).reshape(-1, state.columns)
    *weights, intercept = state.guest_weights
    alone = score_features(features, weights, intercept, SIGMOID_LIMIT)
    probabilities, guest_probabilities = metrics.probabilities(logits), metrics.probabilities(alone)
    measures = {
        "auc": metrics.auc(label, logits),
        "ks": metrics.ks(label, logits),
        "log_loss": metrics.log_loss_of_logits(label, logits),
        "brier": metrics.brier(label, probabilities),
        "average_precision": metrics.average_precision(label, logits),
        "guest_auc": metrics.auc(label, alone),
        "guest_ks": metrics.ks(label, alone),
        "n_train": float(state.setup.rows_train),
        "n_holdout": float(state.setup.rows_holdout),
        "positive_share": int(np.count_nonzero(label == 1)) / label.size,
    }
    ids: list[str] = json.loads(state.ids.content)
    return EvaluationReport(
        job_id=state.setup.job_id,
        model=state.setup.model,
        rows_train=state.setup.rows_train,
        rows_holdout=state.setup.rows_holdout,
        measures=tuple(Measure(name, value) for name, value in measures.items()),
        roc=thin_curve(metrics.roc_points(label, logits)),
        guest_roc=thin_curve(metrics.roc_points(label, alone)),
        precision_recall=thin_curve(metrics.precision_recall_points(label, logits)),
        gain=tuple(GainPart(g.rows, g.positives, g.lift, g.gain) for g in metrics.gain_table(label, logits)),
        calibration=tuple(
            CalibrationPart(c.low, c.high, c.rows, c.mean_probability, c.positive_share)
            for c in metrics.calibration_bins(label, probabilities)
        ),
        confusion=(
            _confusion(label, probabilities, 0.5),
            _confusion(label, probabilities, _ks_threshold(label, logits)),
        ),
        guest_weights=tuple(weights),
        guest_intercept=intercept,
        rows=tuple(
            ScoredRow(*row)
            for row in zip(
                ids,
                label.tolist(),
                probabilities.tolist(),
                guest_probabilities.tolist(),
                np.frombuffer(state.logits.content, "<i8").tolist(),
                zip(*(_host_logits(link).tolist() for link in state.links), strict=True),
                strict=True,
            )
        ),
    )


def add_parts(state: GuestEvaluation) -> NDArray[np.int64]:
    """The joint logits: the own part exactly, the hosts' as they sent them."""
    logits = np.frombuffer(state.logits.content, "<i8").astype(np.int64)
    for link in state.links:
        logits = logits + restore_logits(_host_logits(link))
    return logits


def _host_logits(link: EvaluateLink) -> NDArray[np.int32]:
    return np.frombuffer(b"".join(blob.content for blob in link.logits), "<i4").astype(np.int32)


def thin_curve(points: Sequence[tuple[float, float]], limit: int = CURVE_POINTS) -> tuple[CurvePoint, ...]:
    """At most `limit` of the points, evenly chosen, the first and the last among them."""
    if len(points) <= limit:
        chosen: Sequence[tuple[float, float]] = points
    else:
        last = len(points) - 1
        chosen = [points[index * last // (limit - 1)] for index in range(limit)]
    return tuple(CurvePoint(x, y) for x, y in chosen)


def _confusion(label: NDArray[np.int8], probabilities: NDArray[np.float64], threshold: float) -> ConfusionCounts:
    counts = metrics.confusion(label, probabilities, threshold)
    return ConfusionCounts(
        threshold, counts.true_positives, counts.false_positives, counts.true_negatives, counts.false_negatives
    )


def _ks_threshold(label: NDArray[np.int8], logits: NDArray[np.int64]) -> float:
    """The probability from which on rows must be called class 1 for TPR - FPR to be largest in magnitude."""
    s = metrics.steps(label, logits)
    best = int(np.argmax(np.abs(s.true_positives * s.negatives - s.false_positives * s.positives)))
    return float(metrics.probabilities(s.thresholds[best : best + 1].astype(np.int64))[0])
