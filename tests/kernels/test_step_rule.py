"""The step rule: textbook L-BFGS from Gram scalars alone, safe when curvature is missing, the same bits everywhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.kernels.fixed_point import WEIGHT_BITS
from streams.kernels.step_rule import (
    MEMORY,
    Momentum,
    Preconditioner,
    add_scalars,
    apply_step,
    fit_preconditioner,
    integrate_loss,
    largest_mean_gradient,
    new_scalars,
    next_coefficients,
    next_momentum,
    rank_of_pass,
    round_scalar,
    should_stop,
)


class Quadratic:
    """1/2 w^T H w - b^T w, seen by two parties with blocks of columns; H is within reach of both preconditioners."""

    def __init__(self, seed: int, split: int = 4, d: int = 9) -> None:
        draws = np.random.RandomState(seed)
        features = draws.standard_normal((60, d)) @ (np.eye(d) + 0.5 * draws.standard_normal((d, d)))
        self.integers = np.rint(features * 2**13 / np.abs(features).max() * 8).astype(np.int32)
        real = self.integers / 2.0**13
        self.hessian = 0.15 * real.T @ real + np.eye(d)
        self.right = draws.standard_normal(d) * 30
        self.blocks = (slice(0, split), slice(split, d))
        self.preconditioners = tuple(
            fit_preconditioner(self.integers[:, block], (1.0,) * (block.stop - block.start)) for block in self.blocks
        )

    def gradient(self, w: np.ndarray) -> np.ndarray:
        result: np.ndarray = self.hessian @ w - self.right
        return result

    def loss(self, w: np.ndarray) -> float:
        return float(0.5 * w @ self.hessian @ w - self.right @ w)


def textbook_direction(
    gradients: list[np.ndarray], points: list[np.ndarray], m: np.ndarray, gamma_0: float
) -> np.ndarray:
    """Two-loop recursion on whole vectors (Nocedal and Wright, algorithm 7.4), H_0 = gamma M."""
    t = len(gradients) - 1
    pairs = [(points[i + 1] - points[i], gradients[i + 1] - gradients[i]) for i in range(max(0, t - MEMORY), t)]
    q: np.ndarray = gradients[-1].copy()
    alphas = []
    for s, y in reversed(pairs):
        alpha = (s @ q) / (s @ y)
        alphas.append(alpha)
        q = q - alpha * y
    gamma = gamma_0 if not pairs else (pairs[-1][0] @ pairs[-1][1]) / (pairs[-1][1] @ m @ pairs[-1][1])
    r: np.ndarray = gamma * m @ q
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        r = r + s * (alpha - (y @ r) / (s @ y))
    return r


def descend(
    problem: Quadratic, passes: int
) -> tuple[list[np.ndarray], list[tuple[float, ...]], list[tuple[float, ...]]]:
    """Weights after every pass, Gram rows, coefficients."""
    weights = [(0,) * (block.stop - block.start) for block in problem.blocks]
    history: list[list[tuple[float, ...]]] = [[], []]
    rows: list[tuple[float, ...]] = []
    steps: list[tuple[float, ...]] = []
    points = [np.zeros(len(problem.right))]
    for _ in range(passes):
        gradient = problem.gradient(points[-1])
        for p, block in enumerate(problem.blocks):
            history[p].append(tuple(float(g) for g in gradient[block]))
        rows.append(add_scalars([new_scalars(history[p], problem.preconditioners[p]) for p in range(2)]))
        steps.append(next_coefficients(rows, steps, parties=2))
        weights = [apply_step(weights[p], history[p], steps[-1], problem.preconditioners[p]) for p in range(2)]
        points.append(np.concatenate([np.array(w) / 2.0**WEIGHT_BITS for w in weights]))
    return points, rows, steps


@pytest.mark.parametrize("seed", range(4))
def test_every_step_is_the_textbook_step(seed: int) -> None:
    """Only scalars were shared, yet the parties move as one optimiser that sees all vectors."""
    problem = Quadratic(seed)
    points, _, _ = descend(problem, 6)
    m = np.zeros_like(problem.hessian)
    for block, preconditioner in zip(problem.blocks, problem.preconditioners, strict=True):
        for j in range(block.stop - block.start):
            unit = [0.0] * (block.stop - block.start)
            unit[j] = 1.0
            m[block, block.start + j] = preconditioner.apply(unit)
    for t in range(6):
        gradients = [problem.gradient(w) for w in points[: t + 1]]
        expected = textbook_direction(gradients, points[: t + 1], m, 0.5)
        taken = points[t] - points[t + 1]
        # Scalars carry 20 bits, so later steps agree relative to what cancels in them.
        assert np.abs(taken - expected).max() <= 2e-3 * np.abs(expected).max() + 1e-6


@pytest.mark.parametrize("seed", range(4))
def test_reaches_the_minimum_with_twenty_bit_scalars(seed: int) -> None:
    problem = Quadratic(seed)
    points, _, _ = descend(problem, 20)
    assert np.allclose(points[-1], np.linalg.solve(problem.hessian, problem.right), atol=5e-3)


def test_the_integrated_loss_is_exact_for_a_quadratic() -> None:
    """The trapezoid rule on a linear gradient has no error but the rounding of the scalars."""
    problem = Quadratic(1)
    points, rows, steps = descend(problem, 8)
    loss = problem.loss(points[0])
    for t in range(7):
        loss = integrate_loss(loss, rows[: t + 2], steps[t])
        assert loss == pytest.approx(problem.loss(points[t + 1]), rel=1e-4)


def test_the_first_step_is_the_safe_one() -> None:
    assert next_coefficients([(4.0,)], [], parties=2) == (0.5,)
    assert next_coefficients([(4.0,)], [], parties=3) == (1 / 3,)


def test_a_pair_without_positive_curvature_is_left_out() -> None:
    """g_1 = 2 g_0: the gradient grew along the step, s^T y < 0; the plain step follows instead of an ascent."""
    assert next_coefficients([(1.0,), (2.0, 4.0)], [(0.5,)], parties=2) == (0.0, 0.5)


def test_a_repeated_gradient_does_not_divide_by_zero() -> None:
    assert next_coefficients([(1.0,), (1.0, 1.0)], [(0.5,)], parties=2) == (0.0, 0.5)


def test_a_zero_gradient_stays_where_it_is() -> None:
    rows, preconditioner = [(0.0,)], Preconditioner(np.eye(2))
    assert new_scalars([(0.0, 0.0)], preconditioner) == (0.0,)
    assert apply_step((5, -7), [(0.0, 0.0)], next_coefficients(rows, [], 2), preconditioner) == (5, -7)


def test_rows_and_steps_must_fit() -> None:
    with pytest.raises(ValueError, match="need 1 earlier steps, got 0"):
        next_coefficients([(1.0,), (0.5, 1.0)], [], parties=2)


@given(st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False, min_value=-1e300, max_value=1e300))
def test_a_scalar_keeps_twenty_significant_bits(value: float) -> None:
    rounded = round_scalar(value)
    mantissa, _ = math.frexp(rounded)
    assert math.ldexp(mantissa, 20) == int(math.ldexp(mantissa, 20))
    assert abs(rounded - value) <= abs(value) * 2.0**-20
    assert round_scalar(rounded) == rounded


def test_the_preconditioner_is_the_inverse_of_its_block() -> None:
    features = np.random.RandomState(5).randint(-(2**15), 2**15, (50, 4)).astype(np.int32)
    real = features / 2.0**13
    expected = np.linalg.solve(real.T @ real / 4 + np.diag([2.0, 2.0, 2.0, 0.0]), np.arange(4.0))
    assert np.allclose(fit_preconditioner(features, (2.0, 2.0, 2.0, 0.0)).apply((0.0, 1.0, 2.0, 3.0)), expected)


def test_row_order_changes_no_bit_of_the_preconditioner() -> None:
    features = np.random.RandomState(5).randint(-(2**15), 2**15, (50, 4)).astype(np.int32)
    there, back = (fit_preconditioner(x, (1.0,) * 4) for x in (features, features[::-1]))
    assert np.array_equal(there.lower, back.lower)


def test_a_constant_column_moves_nowhere_without_penalty() -> None:
    features = np.random.RandomState(5).randint(-(2**15), 2**15, (50, 3)).astype(np.int32)
    features[:, 1] = 0
    assert fit_preconditioner(features, (0.0, 0.0, 0.0)).apply((1.0, 1.0, 1.0))[1] == 0.0


def test_coarse_passes_come_first_two_ranks_lower() -> None:
    assert [rank_of_pass(number, 3, 6) for number in range(1, 7)] == [4, 4, 4, 6, 6, 6]
    assert [rank_of_pass(number, 3, 3) for number in range(1, 5)] == [2, 2, 2, 3]
    assert [rank_of_pass(number, 3, rank) for number in (1, 9) for rank in (1, 2)] == [1, 2, 1, 2]


def test_it_stops_at_full_rank_within_tolerance_or_when_the_passes_are_used_up() -> None:
    assert should_stop([1e-5, 9e-5], 1e-4, passes=5, max_passes=12, full_rank=True)
    assert not should_stop([1e-5, 2e-4], 1e-4, passes=5, max_passes=12, full_rank=True)
    assert not should_stop([0.0, 0.0], 1e-4, passes=5, max_passes=12, full_rank=False)
    assert should_stop([1.0, 1.0], 1e-4, passes=12, max_passes=12, full_rank=False)


def test_the_largest_mean_gradient_is_one_rounded_scalar() -> None:
    assert largest_mean_gradient((3.0, -8.0, 1.0), 4) == 2.0
    assert largest_mean_gradient((), 4) == 0.0


@pytest.mark.parametrize("seed", range(3))
def test_momentum_reaches_the_minimum_with_nothing_shared(seed: int) -> None:
    problem = Quadratic(seed, split=2, d=5)
    blocks = [Momentum((0,) * (b.stop - b.start), (0,) * (b.stop - b.start)) for b in problem.blocks]
    for _ in range(120):
        point = np.concatenate([np.array(m.point) / 2.0**WEIGHT_BITS for m in blocks])
        gradient = problem.gradient(point)
        blocks = [
            next_momentum(m, tuple(float(g) for g in gradient[b]), preconditioner, 2)
            for m, b, preconditioner in zip(blocks, problem.blocks, problem.preconditioners, strict=True)
        ]
    found = np.concatenate([np.array(m.weights) / 2.0**WEIGHT_BITS for m in blocks])
    assert np.allclose(found, np.linalg.solve(problem.hessian, problem.right), atol=1e-3)


def test_momentum_restarts_when_it_carries_uphill() -> None:
    preconditioner = Preconditioner(np.eye(1))
    moving = Momentum(point=(0,), weights=(10 << WEIGHT_BITS,), age=5)
    # The move is from 10 down to about 0 while the gradient says that smaller is worse: -1 * -10 > 0.
    assert next_momentum(moving, (-1.0,), preconditioner, 2).age == 0
    assert next_momentum(moving, (1.0,), preconditioner, 2).age == 6
