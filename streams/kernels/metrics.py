"""Measures of a binary classifier: counts are integers, one rounding at the end, so equal inputs give equal bits.

Scores may be any numbers that order rows (logits in fixed point or probabilities); a higher score means class 1.
Ties are handled as in the literature: tied rows form one step of the curve.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import gmpy2
import numpy as np
from numpy.typing import NDArray

from streams.kernels.fixed_point import RESIDUAL_BITS
from streams.kernels.sigmoid import logistic_losses, sigmoid

Label = NDArray[np.int8]
Scores = NDArray[np.int64] | NDArray[np.float64]


class MetricError(ValueError):
    """The measure is not defined for these rows; the text says why."""


@dataclass(frozen=True, eq=False)
class Steps:
    """Cumulative counts at every distinct score, highest first: rows with score >= thresholds[k]."""

    thresholds: NDArray[np.float64]
    true_positives: NDArray[np.int64]
    false_positives: NDArray[np.int64]

    @property
    def positives(self) -> int:
        """Rows of class 1."""
        return int(self.true_positives[-1])

    @property
    def negatives(self) -> int:
        """Rows of class 0."""
        return int(self.false_positives[-1])


@dataclass(frozen=True)
class GainRow:
    """One tenth of the rows, highest scores first, and all tenths up to it. `lift` and `gain` are cumulative."""

    rows: int
    positives: int
    lift: float
    gain: float


@dataclass(frozen=True)
class CalibrationBin:
    """Rows with probability in [low, high): how many, their mean probability, their share of class 1."""

    low: float
    high: float
    rows: int
    mean_probability: float
    positive_share: float


@dataclass(frozen=True)
class Confusion:
    """Counts at a threshold: predicted class 1 means score >= threshold."""

    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int


def steps(label: Label, scores: Scores) -> Steps:
    """Sort once, count at every distinct score.

    Raises:
        MetricError: lengths differ, a score is NaN, a label is not 0 or 1, or a class has no row.
    """
    if label.shape != scores.shape or label.ndim != 1:
        raise MetricError(f"{label.shape} labels for {scores.shape} scores")
    if np.any(np.isnan(scores)) or np.any((label != 0) & (label != 1)):
        raise MetricError("scores must be numbers and labels 0 or 1")
    positives = int(np.count_nonzero(label == 1))
    if positives == 0 or positives == label.size:
        raise MetricError(f"{positives} of {label.size} rows have class 1: both classes are needed")
    order = np.argsort(scores, kind="stable")[::-1]
    ordered = scores[order]
    last = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), label.size - 1)
    true_positives = np.cumsum(label[order] == 1, dtype=np.int64)[last]
    return Steps(ordered[last].astype(np.float64), true_positives, last + 1 - true_positives)


def auc(label: Label, scores: Scores) -> float:
    """Area under the ROC curve: the share of (positive, negative) pairs in right order, ties counting half."""
    s = steps(label, scores)
    tp = np.concatenate([[0], s.true_positives])
    fp = np.concatenate([[0], s.false_positives])
    twice = sum(int(df) * (int(a) + int(b)) for df, a, b in zip(np.diff(fp), tp[:-1], tp[1:], strict=True))
    return twice / (2 * s.positives * s.negatives)


def ks(label: Label, scores: Scores) -> float:
    """Kolmogorov-Smirnov distance between the scores of both classes: max |TPR - FPR|."""
    s = steps(label, scores)
    gap = np.abs(s.true_positives * s.negatives - s.false_positives * s.positives).max()
    return int(gap) / (s.positives * s.negatives)


def roc_points(label: Label, scores: Scores) -> tuple[tuple[float, float], ...]:
    """(FPR, TPR) from (0, 0) to (1, 1), one point per distinct score."""
    s = steps(label, scores)
    points = zip(s.false_positives, s.true_positives, strict=True)
    return ((0.0, 0.0), *((int(fp) / s.negatives, int(tp) / s.positives) for fp, tp in points))


def precision_recall_points(label: Label, scores: Scores) -> tuple[tuple[float, float], ...]:
    """(recall, precision), one point per distinct score, highest score first."""
    s = steps(label, scores)
    points = zip(s.true_positives, s.false_positives, strict=True)
    return tuple((int(tp) / s.positives, int(tp) / int(tp + fp)) for tp, fp in points)


def average_precision(label: Label, scores: Scores) -> float:
    """sum_k (recall_k - recall_{k-1}) precision_k, without interpolation."""
    points = precision_recall_points(label, scores)
    before = (0.0, *(recall for recall, _ in points[:-1]))
    return math.fsum((recall - old) * precision for (recall, precision), old in zip(points, before, strict=True))


def gain_table(label: Label, scores: Scores, parts: int = 10) -> tuple[GainRow, ...]:
    """Lift and gain by decile. Tied rows keep their order of appearance, so that every part has its rows."""
    total = steps(label, scores).positives
    # Stable for descending order: negate by sorting the reversed array.
    order = label.size - 1 - np.argsort(scores[::-1], kind="stable")[::-1]
    found = np.cumsum(label[order] == 1, dtype=np.int64)
    result: list[GainRow] = []
    start = 0
    for part in range(1, parts + 1):
        end = part * label.size // parts
        if end == start:
            continue
        up_to = int(found[end - 1])
        here = up_to - (int(found[start - 1]) if start else 0)
        result.append(GainRow(end - start, here, up_to * label.size / (end * total), up_to / total))
        start = end
    return tuple(result)


def calibration_bins(label: Label, probabilities: NDArray[np.float64], bins: int = 10) -> tuple[CalibrationBin, ...]:
    """Equal-width bins of [0, 1] that have rows; the last includes 1."""
    where = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    result = []
    for index in range(bins):
        chosen = where == index
        rows = int(np.count_nonzero(chosen))
        if rows:
            mean = math.fsum(probabilities[chosen].tolist()) / rows
            share = int(np.count_nonzero(label[chosen] == 1)) / rows
            result.append(CalibrationBin(index / bins, (index + 1) / bins, rows, mean, share))
    return tuple(result)


def confusion(label: Label, scores: Scores, threshold: float) -> Confusion:
    """Counts when rows with score >= threshold are called class 1."""
    called, positive = scores >= threshold, label == 1
    tp, fp = int(np.count_nonzero(called & positive)), int(np.count_nonzero(called & ~positive))
    positives = int(np.count_nonzero(positive))
    return Confusion(tp, fp, int(label.size) - positives - fp, positives - tp)


def brier(label: Label, probabilities: NDArray[np.float64]) -> float:
    """Mean squared difference of probability and class."""
    gap = probabilities - label
    return math.fsum((gap * gap).tolist()) / label.size


def log_loss(label: Label, probabilities: NDArray[np.float64]) -> float:
    """Mean -log p(y), each logarithm correctly rounded; probabilities are kept 2^-52 away from 0 and 1."""
    edge = 2.0**-52
    p = np.clip(np.where(label == 1, probabilities, 1.0 - probabilities), edge, 1.0)
    with gmpy2.context(precision=53):
        return -math.fsum(float(gmpy2.log(gmpy2.mpfr(value))) for value in p.tolist()) / label.size


def log_loss_of_logits(label: Label, logits: NDArray[np.int64]) -> float:
    """Mean -log p(y) from fixed-point logits, by table and exact sum."""
    return math.ldexp(int(logistic_losses(logits, label).sum()), -RESIDUAL_BITS) / label.size


def probabilities(logits: NDArray[np.int64]) -> NDArray[np.float64]:
    """sigma of fixed-point logits as floats (exact multiples of 2^-28)."""
    return np.ldexp(sigmoid(logits).astype(np.float64), -RESIDUAL_BITS)
