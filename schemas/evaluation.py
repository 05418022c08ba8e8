"""The evaluate stage: hold-out logits to the guest, measures from there, and the guest's report."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.record import Blob, Record
from schemas.tasks import Measure

# --- exchange: guest <-> each host, sealed, topic vfl.evaluate.exchange.<party> --------------------------------------


@dataclass(frozen=True)
class EvaluateReady(Record):
    """Both ways: my half and my rows are loaded. `rows` counts the hold-out, `logit_bits` the fractional bits sent."""

    job_id: str
    rows: int
    chunk_rows: int
    chunks: int
    logit_bits: int
    spec_digest: bytes


@dataclass(frozen=True)
class HoldoutLogits(Record):
    """Host -> guest: the host's part of the logits of a chunk of hold-out rows, in joint order.

    Little-endian int32 with `EvaluateReady.logit_bits` fractional bits.
    """

    job_id: str
    chunk: int
    logits: bytes


@dataclass(frozen=True)
class LogitsReceived(Record):
    """Guest -> host: all of them are here; your task is done."""

    job_id: str
    rows: int


# --- commands to oneself: sealed, topic vfl.evaluate.commands.<party> ------------------------------------------------


@dataclass(frozen=True)
class ContinueEvaluation(Record):
    """Guest: the next part. 0 fits a model of the guest's own columns, 1 measures both."""

    job_id: str
    part: int


# --- the guest's report: a blob at the guest; it holds identifiers, labels and scores and never leaves ---------------


@dataclass(frozen=True)
class CurvePoint(Record):
    """A point of a curve."""

    x: float
    y: float


@dataclass(frozen=True)
class GainPart(Record):
    """One tenth of the hold-out, highest scores first. `lift` and `gain` count all tenths up to it."""

    rows: int
    positives: int
    lift: float
    gain: float


@dataclass(frozen=True)
class CalibrationPart(Record):
    """Rows whose probability is in [low, high)."""

    low: float
    high: float
    rows: int
    mean_probability: float
    positive_share: float


@dataclass(frozen=True)
class ConfusionCounts(Record):
    """Counts when a probability of `threshold` or more is called class 1."""

    threshold: float
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int


@dataclass(frozen=True)
class ScoredRow(Record):
    """One hold-out row of the guest: probabilities of class 1 by the joint model and by the guest alone.

    `guest_logit` (20 fractional bits) and `host_logits` (10, in the order of the hosts' names) are the parts of the
    joint logit: what serving must come to as well.
    """

    id: str
    label: int
    probability: float
    guest_probability: float
    guest_logit: int
    host_logits: tuple[int, ...]


@dataclass(frozen=True)
class EvaluationReport(Record):
    """All that is known of a model's quality. `rows` lets the owner recompute everything else."""

    job_id: str
    model: str
    rows_train: int
    rows_holdout: int
    measures: tuple[Measure, ...]
    #: (false positive rate, true positive rate), thinned to at most 512 points.
    roc: tuple[CurvePoint, ...]
    guest_roc: tuple[CurvePoint, ...]
    #: (recall, precision), thinned alike.
    precision_recall: tuple[CurvePoint, ...]
    gain: tuple[GainPart, ...]
    calibration: tuple[CalibrationPart, ...]
    #: At probability 0.5 and where KS is reached.
    confusion: tuple[ConfusionCounts, ...]
    #: The guest's own model: weights by column and intercept, 24 fractional bits.
    guest_weights: tuple[int, ...]
    guest_intercept: int
    rows: tuple[ScoredRow, ...]


# --- hand-over and events --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EvaluationReady(Record):
    """Guest's evaluate -> register: the measures, and those of them that the guest shares with the hosts."""

    job_id: str
    measures: tuple[Measure, ...]
    shared: tuple[Measure, ...]
    rows_train: int
    rows_holdout: int
    report: Blob


@dataclass(frozen=True)
class ReportStored(Record):
    """Event at the guest: the content of `report` is an `EvaluationReport` in single-object encoding."""

    job_id: str
    party: str
    report: Blob
