"""Measures: scikit-learn's numbers, ties included; undefined cases say so."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import calibration as sk_calibration
from sklearn import metrics as sk

from streams.kernels import metrics
from streams.kernels.fixed_point import LOGIT_BITS, to_fixed


@st.composite
def scored(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Labels of both classes and few distinct integer scores, so that ties abound."""
    n = draw(st.integers(2, 60))
    label = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n).filter(lambda y: 0 < sum(y) < len(y)))
    scores = draw(st.lists(st.integers(-5, 5), min_size=n, max_size=n))
    return np.array(label, dtype=np.int8), np.array(scores, dtype=np.int64)


@given(scored())
def test_auc_counts_ties_half(rows: tuple[np.ndarray, np.ndarray]) -> None:
    label, scores = rows
    pairs = [(p > q) + 0.5 * (p == q) for p in scores[label == 1] for q in scores[label == 0]]
    assert metrics.auc(label, scores) == pytest.approx(sum(pairs) / len(pairs), abs=1e-15)
    assert metrics.auc(label, scores) == pytest.approx(sk.roc_auc_score(label, scores), abs=1e-12)
    assert metrics.auc(label, -scores) == pytest.approx(1 - metrics.auc(label, scores), abs=1e-15)


@given(scored())
def test_ks_is_the_largest_gap_of_the_roc_curve(rows: tuple[np.ndarray, np.ndarray]) -> None:
    label, scores = rows
    fpr, tpr, _ = sk.roc_curve(label, scores, drop_intermediate=False)
    assert metrics.ks(label, scores) == pytest.approx(np.abs(tpr - fpr).max(), abs=1e-12)
    assert np.allclose(metrics.roc_points(label, scores), np.column_stack([fpr, tpr]))


@given(scored())
def test_precision_recall_and_its_average_agree(rows: tuple[np.ndarray, np.ndarray]) -> None:
    label, scores = rows
    assert metrics.average_precision(label, scores) == pytest.approx(sk.average_precision_score(label, scores))
    precision, recall, _ = sk.precision_recall_curve(label, scores)
    assert np.allclose(metrics.precision_recall_points(label, scores), np.column_stack([recall, precision])[:-1][::-1])


@given(scored(), st.permutations(list(range(60))))
def test_row_order_changes_no_bit(rows: tuple[np.ndarray, np.ndarray], shuffled: list[int]) -> None:
    label, scores = rows
    order = [k for k in shuffled if k < label.size]
    for measure in (metrics.auc, metrics.ks, metrics.average_precision, metrics.roc_points):
        assert measure(label, scores) == measure(label[order], scores[order])


@given(scored(), st.integers(-6, 6))
def test_confusion_counts_every_row_once(rows: tuple[np.ndarray, np.ndarray], threshold: int) -> None:
    label, scores = rows
    c = metrics.confusion(label, scores, threshold)
    tn, fp, fn, tp = sk.confusion_matrix(label, scores >= threshold, labels=[0, 1]).ravel()
    assert (c.true_positives, c.false_positives, c.true_negatives, c.false_negatives) == (tp, fp, tn, fn)


@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=50))
def test_probability_scores_agree(rows: list[tuple[int, float]]) -> None:
    label = np.array([y for y, _ in rows], dtype=np.int8)
    probabilities = np.array([p for _, p in rows])
    assert metrics.brier(label, probabilities) == pytest.approx(np.mean((probabilities - label) ** 2), abs=1e-15)
    assert metrics.log_loss(label, probabilities) == pytest.approx(
        sk.log_loss(label, np.clip(probabilities, 2.0**-52, 1 - 2.0**-52), labels=[0, 1]), rel=1e-9, abs=1e-12
    )


def test_log_loss_of_logits_is_that_of_their_probabilities() -> None:
    draws = np.random.RandomState(0)
    logits = to_fixed(draws.standard_normal(500) * 4, LOGIT_BITS)
    label = draws.randint(0, 2, 500).astype(np.int8)
    direct = metrics.log_loss_of_logits(label, logits)
    assert direct == pytest.approx(metrics.log_loss(label, metrics.probabilities(logits)), abs=1e-6)


def test_gain_and_lift_by_hand() -> None:
    label = np.array([1, 1, 0, 1, 0, 0, 0, 0, 0, 1], dtype=np.int8)
    rows = metrics.gain_table(label, np.arange(10, 0, -1), parts=5)
    assert [row.positives for row in rows] == [2, 1, 0, 0, 1]
    assert [row.gain for row in rows] == [0.5, 0.75, 0.75, 0.75, 1.0]
    assert rows[0].lift == 2.5 and rows[-1].lift == 1.0


@given(scored())
def test_gain_rows_partition_the_table(rows: tuple[np.ndarray, np.ndarray]) -> None:
    label, scores = rows
    table = metrics.gain_table(label, scores)
    assert sum(row.rows for row in table) == label.size
    assert sum(row.positives for row in table) == int(label.sum())
    assert table[-1].gain == 1.0 and table[-1].lift == 1.0


def test_tied_rows_keep_their_order_in_the_gain_table() -> None:
    label = np.array([1, 0, 0, 0], dtype=np.int8)
    assert [row.positives for row in metrics.gain_table(label, np.zeros(4), parts=4)] == [1, 0, 0, 0]


def test_calibration_bins_agree_with_scikit_learn() -> None:
    draws = np.random.RandomState(1)
    probabilities = np.append(draws.uniform(size=400), [0.0, 1.0])
    label = (draws.uniform(size=402) < probabilities).astype(np.int8)
    share, mean = sk_calibration.calibration_curve(label, probabilities, n_bins=10)
    bins = metrics.calibration_bins(label, probabilities)
    assert [b.positive_share for b in bins] == pytest.approx(share)
    assert [b.mean_probability for b in bins] == pytest.approx(mean)
    assert sum(b.rows for b in bins) == 402


@pytest.mark.parametrize(
    ("label", "scores", "text"),
    [
        ([1, 1], [0.1, 0.2], "both classes are needed"),
        ([0, 0], [0.1, 0.2], "both classes are needed"),
        ([0, 1], [0.1, float("nan")], "must be numbers"),
        ([0, 2], [0.1, 0.2], "labels 0 or 1"),
        ([0, 1, 1], [0.1, 0.2], "labels for"),
    ],
)
def test_undefined_measures_say_why(label: list[int], scores: list[float], text: str) -> None:
    with pytest.raises(metrics.MetricError, match=text):
        metrics.auc(np.array(label, dtype=np.int8), np.array(scores))
