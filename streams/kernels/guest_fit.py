"""Logistic regression of the guest alone: where the joint training starts, at no cost in messages.

Newton's method; logits, residuals and gradient are exact integers, the loss is an exact integer sum, the Hessian is an
exact integer Gram matrix with sigma(1 - sigma) rounded to 14 bits, solved by Cholesky in fixed order. So the fit is
the same on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.kernels.cholesky import exact_gram, factor, solve
from streams.kernels.fixed_point import FX, RESIDUAL_BITS, WEIGHT_BITS, linear_predictor, weighted_sums
from streams.kernels.sigmoid import ONE, logistic_losses, residuals, sigmoid

#: Fractional bits of sigma(1 - sigma) in the Hessian; the Hessian sets only the speed, not where Newton ends.
CURVATURE_BITS = 14
#: Converged when no mean gradient component exceeds this: two orders below the tolerance of the joint training.
GRADIENT_TOLERANCE = 1e-7
#: |w| < 2^10: a standardised column with a larger weight means separable data without penalty.
WEIGHT_LIMIT = 1 << (WEIGHT_BITS + 10)


@dataclass(frozen=True)
class GuestFit:
    """Weights in WEIGHT_BITS fixed point, one per column; `loss` is the penalised sum of losses at these weights."""

    weights: tuple[int, ...]
    loss: float
    steps: int
    converged: bool


def penalties(columns: int, l2: float, *, intercept: bool) -> tuple[float, ...]:
    """l2 for every column, 0 for the last one if it is the intercept. `columns` counts the intercept."""
    return (l2,) * (columns - 1) + (0.0,) if intercept else (l2,) * columns


def penalty_term(weights: Sequence[int], penalty: Sequence[float]) -> float:
    """sum_j penalty_j / 2 w_j^2 for weights in fixed point."""
    real = [math.ldexp(w, -WEIGHT_BITS) for w in weights]
    # w * w, not w ** 2: the latter is the C library's pow, which need not be rounded correctly.
    return 0.5 * math.fsum(p * (w * w) for w, p in zip(real, penalty, strict=True))


def penalised_loss(
    features: NDArray[np.int32], label: NDArray[np.int8], weights: Sequence[int], penalty: Sequence[float]
) -> float:
    """Sum of logistic losses plus the penalty, from exact integer sums."""
    losses = logistic_losses(linear_predictor(features, weights), label)
    return math.ldexp(int(losses.sum()), -RESIDUAL_BITS) + penalty_term(weights, penalty)


def penalised_gradient(
    features: NDArray[np.int32], d: NDArray[np.int64], weights: Sequence[int], penalty: Sequence[float]
) -> tuple[float, ...]:
    """features^T d + penalty * w from residuals d with RESIDUAL_BITS fractional bits: one float per column."""
    sums = weighted_sums(features, d)
    return add_penalty(sums, FX + RESIDUAL_BITS, weights, penalty)


def add_penalty(sums: Sequence[int], bits: int, weights: Sequence[int], penalty: Sequence[float]) -> tuple[float, ...]:
    """Gradient sums with `bits` fractional bits -> floats including the penalty's part."""
    return tuple(
        math.ldexp(s, -bits) + p * math.ldexp(w, -WEIGHT_BITS) for s, w, p in zip(sums, weights, penalty, strict=True)
    )


def fit_guest(
    features: NDArray[np.int32], label: NDArray[np.int8], penalty: Sequence[float], max_steps: int = 40
) -> GuestFit:
    """Minimise sum_i loss_i + sum_j penalty_j/2 w_j^2 over the guest's columns, the intercept's included.

    Steps that do not lower the loss are halved, up to 20 times. Stops without `converged` when weights reach 2^10,
    which happens only for separable labels without penalty.

    Raises:
        ValueError: the shapes do not fit or a penalty is negative.
    """
    n, d = features.shape
    if label.shape != (n,) or len(penalty) != d or n == 0 or min(penalty, default=0.0) < 0.0:
        raise ValueError(f"features {features.shape}, label {label.shape}, {len(penalty)} penalties do not fit")
    weights: tuple[int, ...] = (0,) * d
    loss = penalised_loss(features, label, weights, penalty)
    for step in range(max_steps):
        logits = linear_predictor(features, weights)
        gradient = penalised_gradient(features, residuals(logits, label), weights, penalty)
        if max(abs(value) for value in gradient) <= GRADIENT_TOLERANCE * n:
            return GuestFit(weights, loss, step, True)
        probability = sigmoid(logits)
        # sigma(1 - sigma): 28 + 28 bits down to 14; each factor loses 14 bits first so that the product stays exact.
        curvature = ((probability >> 14) * ((ONE - probability) >> 14)) >> (RESIDUAL_BITS - CURVATURE_BITS)
        hessian = np.ldexp(exact_gram(features, curvature), -(2 * FX + CURVATURE_BITS)) + np.diag(penalty)
        change = solve(factor(hessian), np.array(gradient))
        for halving in range(20):
            shift = np.rint(np.ldexp(change, WEIGHT_BITS - halving))
            if not np.all(np.abs(shift) < WEIGHT_LIMIT):
                continue
            trial = tuple(w - int(s) for w, s in zip(weights, shift, strict=True))
            if trial == weights or max(abs(w) for w in trial) >= WEIGHT_LIMIT:
                continue
            trial_loss = penalised_loss(features, label, trial, penalty)
            if trial_loss <= loss:
                break
        else:
            return GuestFit(weights, loss, step, False)
        weights, loss = trial, trial_loss
    return GuestFit(weights, loss, max_steps, False)
