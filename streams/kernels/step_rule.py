"""The step rule of the joint training: block-preconditioned L-BFGS of which only scalars cross between parties.

Every party p keeps its own gradients g_0..g_t (penalty included) and M_p = (X_p^T X_p / 4 + diag(penalty))^-1. All
directions lie in the span of M g_0..M g_t, so steps are coefficient vectors c_t (length t + 1) and
w_p <- w_p - sum_j c_tj M_p g_pj at every party. What the guest needs for c_t are the Gram scalars
G_ij = sum_p g_pi^T M_p g_pj, to which each party adds t + 1 numbers of 20 significant bits a pass.

The recursion is that of vector-free L-BFGS (Chen, Wang, Zhou, "Large-scale L-BFGS using MapReduce", NIPS 2014)
written on coefficients. Unit step without line search: gamma_0 = 1 / #parties is safe because
X^T X <= P blockdiag(X_p^T X_p) and sigma' <= 1/4.

A party with at most three columns would give its step away by these scalars; then every party uses `next_momentum`
(Nesterov's step, restarted inside its own block; O'Donoghue and Candes 2015), which shares no scalar at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.kernels.cholesky import exact_gram, factor, solve
from streams.kernels.fixed_point import FX, WEIGHT_BITS

#: Pairs (s, y) that the recursion uses.
MEMORY = 8
#: No combination of gradients comes near: a gradient's entry is at most 8 times the number of rows.
MOST_COMBINED = 2.0**100
#: Significant bits of every scalar and gradient that leaves a party: what the leak budget counts.
SCALAR_BITS = 20
#: A party with at most this many columns (intercept not counted) shares no Gram scalars.
FEW_COLUMNS = 3


@dataclass(frozen=True, eq=False)
class Preconditioner:
    """M_p as the Cholesky factor of its inverse, shape (d, d)."""

    lower: NDArray[np.float64]

    def apply(self, gradient: Sequence[float]) -> tuple[float, ...]:
        """M g."""
        return tuple(float(value) for value in solve(self.lower, np.array(gradient, dtype=np.float64)))


def fit_preconditioner(features: NDArray[np.int32], penalty: Sequence[float]) -> Preconditioner:
    """From exact integer products of one party's own columns (FX bits), the intercept's column included."""
    if features.shape[1] != len(penalty):
        raise ValueError(f"{features.shape[1]} columns, {len(penalty)} penalties")
    matrix = np.ldexp(exact_gram(features), -(2 * FX + 2)) + np.diag(np.array(penalty, dtype=np.float64))
    return Preconditioner(factor(matrix))


def round_scalar(value: float, bits: int = SCALAR_BITS) -> float:
    """The nearest number with `bits` significant bits, ties to even."""
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(math.ldexp(mantissa, bits)), exponent - bits)


def new_scalars(gradients: Sequence[Sequence[float]], preconditioner: Preconditioner) -> tuple[float, ...]:
    """A party's share of row t of the Gram matrix: g_t^T M g_j for j = 0..t, rounded to 20 significant bits.

    `gradients` are all its gradients so far, oldest first; the last one is g_t.
    """
    latest = preconditioner.apply(gradients[-1])
    return tuple(round_scalar(math.fsum(a * b for a, b in zip(latest, g, strict=True))) for g in gradients)


def add_scalars(shares: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Row t of the Gram matrix: the sum of every party's share, in the order given (sorted by party name)."""
    return tuple(math.fsum(column) for column in zip(*shares, strict=True))


def _inner(rows: Sequence[Sequence[float]], left: Sequence[float], right: Sequence[float]) -> float:
    """left^T G right for the symmetric G whose lower triangle is `rows`; coefficient vectors may be shorter than G."""
    return math.fsum(
        a * b * (rows[i][j] if j <= i else rows[j][i])
        for i, a in enumerate(left)
        for j, b in enumerate(right)
        if a != 0.0 and b != 0.0
    )


def next_coefficients(
    rows: Sequence[Sequence[float]],
    steps: Sequence[Sequence[float]],
    parties: int,
) -> tuple[float, ...]:
    """c_t from the Gram rows 0..t and the earlier steps c_0..c_{t-1}: every party subtracts sum_j c_tj M g_j.

    Pair i is s_i = -sum_j c_ij M g_j, y_i = g_{i+1} - g_i. Pairs without positive curvature are left out. If the
    result is not a descent direction the plain preconditioned step g_t / parties is taken. The pair across a change of
    rank stays in: leaving it out cost one to two passes in benchmarks/glm_simulation.py.
    """
    t = len(rows) - 1
    if len(steps) != t or any(len(row) != i + 1 for i, row in enumerate(rows)):
        raise ValueError(f"{len(rows)} Gram rows need {len(rows) - 1} earlier steps, got {len(steps)}")
    plain = (*[0.0] * t, 1.0 / parties)
    pairs: list[tuple[list[float], list[float], float]] = []
    for i in range(max(0, t - MEMORY), t):
        s = [-c for c in steps[i]]
        y = [0.0] * i + [-1.0, 1.0]
        curvature = _inner(rows, s, y)
        if curvature > 0.0 and _inner(rows, y, y) > 0.0:
            pairs.append((s, y, curvature))
    if not pairs:
        return plain
    q = [0.0] * t + [1.0]
    alphas: list[float] = []
    for s, y, curvature in reversed(pairs):
        alpha = _inner(rows, s, q) / curvature
        alphas.append(alpha)
        for k, value in enumerate(y):
            q[k] -= alpha * value
    _, y, curvature = pairs[-1]
    gamma = curvature / _inner(rows, y, y)
    r = [gamma * value for value in q]
    for (s, y, curvature), alpha in zip(pairs, reversed(alphas), strict=True):
        beta = _inner(rows, y, r) / curvature
        for k, value in enumerate(s):
            r[k] += (alpha - beta) * value
    descent = _inner(rows, r, [0.0] * t + [1.0])
    if not (descent > 0.0 and all(math.isfinite(value) for value in r)):
        return plain
    return tuple(r)


def apply_step(
    weights: Sequence[int],
    gradients: Sequence[Sequence[float]],
    coefficients: Sequence[float],
    preconditioner: Preconditioner,
) -> tuple[int, ...]:
    """w - sum_j c_j M g_j, rounded to the weights' fixed point, ties to even.

    Raises OverflowError, or ValueError, when the sum is far from any that gradients of a table have.
    """
    combined = tuple(
        math.fsum(c * value for c, value in zip(coefficients, column, strict=True))
        for column in zip(*gradients, strict=True)
    )
    if not all(abs(value) < MOST_COMBINED for value in combined):
        raise OverflowError("a combination of gradients is out of range")
    return _subtract(weights, preconditioner.apply(combined))


def _subtract(weights: Sequence[int], change: Sequence[float]) -> tuple[int, ...]:
    return tuple(w - round(math.ldexp(value, WEIGHT_BITS)) for w, value in zip(weights, change, strict=True))


def integrate_loss(loss: float, rows: Sequence[Sequence[float]], coefficients: Sequence[float]) -> float:
    """L_{t+1} = L_t + (g_t + g_{t+1})^T (w_{t+1} - w_t) / 2 (trapezoid), once Gram row t + 1 is known.

    `rows` are the Gram rows 0..t+1, `coefficients` is c_t.
    """
    t = len(coefficients) - 1
    ends = [0.0] * t + [1.0, 1.0]
    return loss - 0.5 * _inner(rows, coefficients, ends)


def largest_mean_gradient(gradient: Sequence[float], n: int) -> float:
    """max_j |g_j| / n, rounded to 20 significant bits: the one number a party tells for the stop rule."""
    return round_scalar(max((abs(value) for value in gradient), default=0.0) / n)


def rank_of_pass(number: int, coarse_passes: int, rank: int) -> int:
    """Rank of split-link pass `number` (1, 2, ...): `coarse_passes` at rank - 2 (at least 2), then `rank`."""
    return max(2, min(rank, rank - 2)) if number <= coarse_passes and rank > 2 else rank


def should_stop(
    largest_means: Sequence[float], tolerance: float, *, passes: int, max_passes: int, full_rank: bool
) -> bool:
    """After `passes` passes: every party's max |g|/n is within the tolerance at full rank, or the passes are used up.

    The step of the last pass is still taken: its gradient is paid for.
    """
    return passes >= max_passes or (full_rank and max(largest_means) <= tolerance)


@dataclass(frozen=True)
class Momentum:
    """A block's state of Nesterov's method. `point` is where the next gradient is taken, `weights` the iterate."""

    point: tuple[int, ...]
    weights: tuple[int, ...]
    age: int = 0


def next_momentum(
    momentum: Momentum, gradient: Sequence[float], preconditioner: Preconditioner, parties: int
) -> Momentum:
    """One Nesterov step of one block: step M g / parties from `point`, extrapolation age/(age+3).

    The age restarts at zero when the gradient points along the last move (the momentum carries uphill).
    """
    change = preconditioner.apply(gradient)
    weights = _subtract(momentum.point, tuple(value / parties for value in change))
    move = tuple(new - old for new, old in zip(weights, momentum.weights, strict=True))
    uphill = math.fsum(g * m for g, m in zip(gradient, move, strict=True)) > 0.0
    age = 0 if uphill else momentum.age + 1
    factor_ = age / (age + 3)
    point = tuple(w + round(factor_ * m) for w, m in zip(weights, move, strict=True))
    return Momentum(point, weights, age)
