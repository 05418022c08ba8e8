"""Cholesky factors and solves in a fixed order of IEEE operations, without LAPACK.

NumPy is used for elementwise multiplication and subtraction only; every update touches each element once, so there is
no reduction whose order a vector unit could change. d up to a few hundred: d NumPy calls of d^2 elements.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: A pivot below this share of its diagonal element means that the column is a combination of the earlier ones.
PIVOT_TOLERANCE = 1e-10


def factor(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lower-triangular L with L L^T = matrix, shape (d, d); the matrix is symmetric positive semidefinite.

    A column that depends on earlier columns (pivot at most PIVOT_TOLERANCE of the diagonal) is left out: its row and
    column of L are zero, and `solve` gives it zero, which is the right step for a constant or repeated column.

    Raises:
        ValueError: the matrix is not square or not finite.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.all(np.isfinite(matrix)):
        raise ValueError(f"need a finite square matrix, got shape {matrix.shape}")
    rest = matrix.astype(np.float64, copy=True)
    lower = np.zeros_like(rest)
    for j in range(rest.shape[0]):
        pivot = float(rest[j, j])
        if pivot <= PIVOT_TOLERANCE * float(matrix[j, j]) or pivot <= 0.0:
            continue
        column = rest[j:, j] / np.sqrt(pivot)
        lower[j:, j] = column
        rest[j:, j:] -= np.multiply.outer(column, column)
    # A dependent row must not enter the substitution of later rows, nor be entered by earlier ones.
    lower[np.diag(lower) == 0.0, :] = 0.0
    return lower


def solve(lower: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """x with L L^T x = right, by columns forward, by rows backward; zero in the dependent columns."""
    rest = right.astype(np.float64, copy=True)
    d = lower.shape[0]
    half = np.zeros(d)
    for j in range(d):
        if lower[j, j] == 0.0:
            continue
        half[j] = rest[j] / lower[j, j]
        rest[j + 1 :] -= half[j] * lower[j + 1 :, j]
    rest = half.copy()
    result = np.zeros(d)
    for j in range(d - 1, -1, -1):
        if lower[j, j] == 0.0:
            continue
        result[j] = rest[j] / lower[j, j]
        rest[:j] -= result[j] * lower[j, :j]
    return result


def exact_gram(features: NDArray[np.int32], row_weights: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
    """features^T diag(row_weights) features: exact integers, converted to float64 once at the end. Shape (d, d).

    Rows go in blocks whose int64 sums cannot overflow (|x| <= 2^16 and weights up to 2^14 leave blocks of 2^16 rows).
    """
    n, d = features.shape
    weights = np.ones(n, dtype=np.int64) if row_weights is None else row_weights
    top = int(np.abs(features.astype(np.int64)).max(initial=0))
    bound = max(1, top * top * int(np.abs(weights).max(initial=0)))
    block = max(1, min(2**14, 2**62 // bound))
    if bound >= 2**62:
        raise ValueError("features and row weights are too large for exact products")
    total = np.zeros((d, d), dtype=object)
    for start in range(0, n, block):
        part = features[start : start + block].astype(np.int64)
        scaled = part * weights[start : start + block, None]
        total = total + (scaled.T @ part).astype(object)
    return total.astype(np.float64)
