"""The guest's own fit: scikit-learn's optimum, the same integers whatever the row order."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from streams.kernels.fixed_point import FX, WEIGHT_BITS, add_intercept, linear_predictor
from streams.kernels.guest_fit import GRADIENT_TOLERANCE, fit_guest, penalised_gradient, penalised_loss, penalties
from streams.kernels.sigmoid import residuals
from streams.kernels.standardisation import fit_standardisation, standardise


def make_table(seed: int, n: int = 500, d: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Correlated columns with an intercept column, labels from a logistic model."""
    draws = np.random.RandomState(seed)
    values = draws.standard_normal((n, d)) @ draws.standard_normal((d, d))
    label = (draws.uniform(size=n) < 1 / (1 + np.exp(-(values @ draws.standard_normal(d)) - 0.7))).astype(np.int8)
    return add_intercept(standardise(values, fit_standardisation(values))), label


@pytest.mark.parametrize("l2", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("seed", range(3))
def test_finds_scikit_learns_optimum(seed: int, l2: float) -> None:
    features, label = make_table(seed)
    fit = fit_guest(features, label, penalties(6, l2, intercept=True))
    model = LogisticRegression(C=1 / l2, tol=1e-12, max_iter=1000).fit(features[:, :-1] / 2.0**FX, label)
    assert fit.converged and fit.steps <= 12
    expected = np.append(model.coef_[0], model.intercept_[0])
    assert np.allclose(np.array(fit.weights) / 2.0**WEIGHT_BITS, expected, atol=2e-5)


def test_row_order_changes_no_bit() -> None:
    features, label = make_table(7)
    order = np.random.RandomState(1).permutation(label.size)
    penalty = penalties(6, 1.0, intercept=True)
    assert fit_guest(features, label, penalty) == fit_guest(features[order], label[order], penalty)


def test_the_gradient_at_the_fit_is_zero_within_the_tolerance() -> None:
    features, label = make_table(2)
    penalty = penalties(6, 1.0, intercept=True)
    weights = fit_guest(features, label, penalty).weights
    d = residuals(linear_predictor(features, weights), label)
    assert max(abs(g) for g in penalised_gradient(features, d, weights, penalty)) <= GRADIENT_TOLERANCE * label.size


def test_the_gradient_is_the_slope_of_the_loss() -> None:
    features, label = make_table(4)
    penalty = penalties(6, 2.0, intercept=True)
    weights = tuple(int(w) for w in np.random.RandomState(0).randint(-(2**23), 2**23, 6))
    gradient = penalised_gradient(features, residuals(linear_predictor(features, weights), label), weights, penalty)
    step = 2**14
    for j in range(6):
        up, down = (
            penalised_loss(features, label, tuple(w + sign * step * (k == j) for k, w in enumerate(weights)), penalty)
            for sign in (1, -1)
        )
        assert (up - down) / (2 * step / 2**WEIGHT_BITS) == pytest.approx(gradient[j], abs=0.05)


def test_separable_labels_with_a_penalty_converge() -> None:
    features, _ = make_table(0)
    label = (features[:, 0] > 0).astype(np.int8)
    assert fit_guest(features, label, penalties(6, 1.0, intercept=True)).converged


def test_separable_labels_without_a_penalty_end_without_an_error() -> None:
    features = add_intercept(np.array([[-8192], [-8192], [8192], [8192]], dtype=np.int32))
    fit = fit_guest(features, np.array([0, 0, 1, 1], dtype=np.int8), (0.0, 0.0))
    assert fit.loss < 1e-3
    assert all(abs(w) < 2 ** (WEIGHT_BITS + 10) for w in fit.weights)


def test_a_constant_column_gets_no_weight() -> None:
    features, label = make_table(1)
    features[:, 2] = 0
    assert fit_guest(features, label, penalties(6, 0.0, intercept=True)).weights[2] == 0


def test_shapes_that_do_not_fit_are_refused() -> None:
    features, label = make_table(1)
    with pytest.raises(ValueError, match="do not fit"):
        fit_guest(features, label[:-1], penalties(6, 1.0, intercept=True))
    with pytest.raises(ValueError, match="do not fit"):
        fit_guest(features, label, (-1.0,) * 6)
