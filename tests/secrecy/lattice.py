"""Lattice reduction (Lenstra, Lenstra, Lovasz 1982) of small integer bases, as an attacker of small tables has it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def reduce_basis(basis: NDArray[np.int64], delta: float = 0.99) -> NDArray[np.int64]:
    """An LLL-reduced basis of the same lattice. Rows stay exact integers; their orthogonalisation is in floats.

    Good for some 60 dimensions and entries below 2^40: what is found is checked exactly by the caller.
    """
    rows = basis.copy()
    stars = np.zeros(rows.shape)
    norms, mu = np.zeros(len(rows)), np.zeros((len(rows), len(rows)))

    def orthogonalise(k: int) -> None:
        star = rows[k].astype(np.float64)
        mu[k, :k] = 0.0
        for _ in range(2):  # The second round takes away what rounding left.
            more = (stars[:k] @ star) / norms[:k]
            star = star - more @ stars[:k]
            mu[k, :k] += more
        stars[k], norms[k] = star, star @ star

    def shorten(k: int) -> None:
        for _ in range(50):
            orthogonalise(k)
            left = mu[k, :k].copy()
            if not k or np.abs(left).max() <= 0.51:
                return
            times = np.zeros(k, dtype=np.int64)
            for j in range(k - 1, -1, -1):
                times[j] = round(left[j])
                left[:j] -= times[j] * mu[j, :j]
            rows[k] -= times @ rows[:k]

    orthogonalise(0)
    k = 1
    while k < len(rows):
        shorten(k)
        if norms[k] >= (delta - mu[k, k - 1] ** 2) * norms[k - 1]:
            k += 1
            continue
        rows[[k - 1, k]] = rows[[k, k - 1]]
        orthogonalise(k - 1)
        k = max(k - 1, 1)
    return rows


def find_signs(columns: NDArray[np.int64], sums: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """The vector of +-1 whose products with the columns are `sums`, if a short vector of the lattice is one.

    Every +-1 vector that fits is a short vector of the lattice of (s, t, 2^8 (X^T s - t sums)), with t = 1.
    """
    n, d = columns.shape
    basis = np.zeros((n + 1, n + 1 + d), dtype=np.int64)
    basis[: n + 1, : n + 1] = np.eye(n + 1, dtype=np.int64)
    basis[:n, n + 1 :] = columns << 8
    basis[n, n + 1 :] = -(sums << 8)
    for vector in reduce_basis(basis):
        signs: NDArray[np.int64] = vector[:n] * vector[n]
        if abs(vector[n]) == 1 and (np.abs(signs) == 1).all() and not vector[n + 1 :].any():
            return signs
    return None
