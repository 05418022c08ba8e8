"""Fixed-point numbers: every value that reaches a model is an integer with a public scale.

| quantity                | fractional bits | bound                                        |
|-------------------------|-----------------|----------------------------------------------|
| standardised feature    | `FX` = 13       | feature_clip * 2^13 (2^16 at clip 8)         |
| weight                  | `WEIGHT_BITS` 24| |w| < 2^10, so 34 bits                        |
| logit                   | `LOGIT_BITS` 20 | derived from a 62-bit exact sum              |
| phi_k, psi_k (k >= 1)   | `LINK_BITS` 14  | int16 tables                                 |
| sigma, phi_0, residual  | `RESIDUAL_BITS` 28 = 2 * LINK_BITS | sum of the table maxima   |
| gradient X^T d          | FX + 28 = 41    | n * feature bound * residual bound           |

Rounding is to nearest, ties to even, everywhere a real number becomes an integer or a scale shrinks. All sums are exact
int64 sums (NumPy multiplies integer matrices without BLAS), so the result is the same on every machine. Overflow is
checked from the true maxima before a product is formed, never discovered after it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Fractional bits of a standardised feature. 13 bits keep the AUC of default_credit to 1e-6 and a feature in 17 bits.
FX = 13
#: Fractional bits of a weight.
WEIGHT_BITS = 24
#: Fractional bits of a logit: four bits finer than the finest table step (8 / 4096 = 2^-9) needs for 2^-14 values.
LOGIT_BITS = 20
#: Fractional bits of the link's basis functions.
LINK_BITS = 14
#: Fractional bits of a residual: a product of two basis values.
RESIDUAL_BITS = 2 * LINK_BITS
#: Exact int64 sums stay below this, which leaves a bit for the sign and one for the rounding offset.
SAFE_SUM = 2**62

Integers = NDArray[np.integer]


class FixedPointError(ValueError):
    """A value does not fit its fixed-point format; the text says which and by how much."""


def to_fixed(values: ArrayLike, bits: int) -> NDArray[np.int64]:
    """Round real numbers to integers with `bits` fractional bits, ties to even.

    Raises:
        FixedPointError: a value is not finite or its integer would reach 2^62.
    """
    array = np.asarray(values, dtype=np.float64)
    scaled = np.ldexp(array, bits)  # exact: a power of two
    if not np.all(np.isfinite(scaled)) or np.any(np.abs(scaled) >= SAFE_SUM):
        raise FixedPointError(f"values must be finite and below 2^{62 - bits} in magnitude")
    return np.rint(scaled).astype(np.int64)


def to_float(integers: ArrayLike, bits: int) -> NDArray[np.float64]:
    """The real numbers that integers with `bits` fractional bits stand for (exact below 2^53)."""
    return np.ldexp(np.asarray(integers, dtype=np.float64), -bits)


def shift_right(values: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """Divide by 2^bits, rounding to nearest with ties to even."""
    if bits == 0:
        return values.copy()
    floor = values >> bits
    remainder = values - (floor << bits)
    half = np.int64(1) << (bits - 1)
    up = (remainder > half) | ((remainder == half) & ((floor & 1) == 1))
    rounded: NDArray[np.int64] = floor + up.astype(np.int64)
    return rounded


def round_ratio(numerator: int, denominator: int) -> int:
    """The integer nearest to numerator / denominator (denominator > 0), ties to even."""
    floor, remainder = divmod(numerator, denominator)
    twice = 2 * remainder
    return floor + int(twice > denominator or (twice == denominator and floor % 2 == 1))


def largest(values: Integers) -> int:
    """max |value| as a Python int (0 for an empty array); safe at the most negative integer."""
    if values.size == 0:
        return 0
    return max(int(values.max()), -int(values.min()))


def add_intercept(features: NDArray[np.int32]) -> NDArray[np.int32]:
    """The same rows with a last column of ones (2^FX), so that the intercept is a weight like any other."""
    ones = np.full((features.shape[0], 1), 1 << FX, dtype=np.int32)
    return np.hstack([features, ones])


def weighted_sums(features: NDArray[np.int32], values: NDArray[np.int64]) -> tuple[int, ...]:
    """features^T @ values, exact, as Python ints: shape (n, d), (n,) -> d.

    The scale is the sum of both scales (a gradient: FX + RESIDUAL_BITS). Rows go in blocks whose sums fit int64.
    """
    if features.shape[0] != values.shape[0]:
        raise FixedPointError(f"{features.shape[0]} rows of features for {values.shape[0]} values")
    bound = max(1, largest(features) * largest(values))
    block = SAFE_SUM // bound
    if block < 1:
        raise FixedPointError(f"a single product can reach {bound}, beyond 2^62")
    totals = [0] * features.shape[1]
    for start in range(0, features.shape[0], block):
        rows = slice(start, start + block)
        part = values[rows] @ features[rows].astype(np.int64)
        totals = [total + int(value) for total, value in zip(totals, part, strict=True)]
    return tuple(totals)


def logit_bound(features: NDArray[np.int32], weights: Sequence[int]) -> int:
    """The largest |sum_j x_ij w_j| that these weights allow, in FX + WEIGHT_BITS fractional bits, for any row."""
    if features.shape[0] == 0:
        return 0
    columns = np.maximum(features.max(axis=0).astype(np.int64), -features.min(axis=0).astype(np.int64))
    return sum(int(column) * abs(int(weight)) for column, weight in zip(columns, weights, strict=True))


def linear_predictor(features: NDArray[np.int32], weights: Sequence[int]) -> NDArray[np.int64]:
    """Logits with LOGIT_BITS fractional bits: (n, d) features in FX bits, d weights in WEIGHT_BITS bits.

    The sum is exact and rounded once, ties to even.

    Raises:
        FixedPointError: the number of weights is wrong, or the sum could reach 2^62 (a logit of 2^25).
    """
    if features.ndim != 2 or features.shape[1] != len(weights):
        raise FixedPointError(f"features of shape {features.shape} do not match {len(weights)} weights")
    bound = logit_bound(features, weights)
    if bound >= SAFE_SUM:
        raise FixedPointError(
            f"a logit could reach {bound >> (FX + WEIGHT_BITS)}; the limit is 2^{62 - FX - WEIGHT_BITS}"
        )
    exact = features.astype(np.int64) @ np.array(weights, dtype=np.int64)
    return shift_right(exact, FX + WEIGHT_BITS - LOGIT_BITS)
