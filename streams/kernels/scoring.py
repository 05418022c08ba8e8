"""A model's half on rows: the same integers in training, evaluation and serving.

Values are standardised and rounded by the same kernel as in training, multiplied by the integer weights exactly, and
clipped to the box for which the link's table was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.kernels.fixed_point import FX, LOGIT_BITS, WEIGHT_BITS, linear_predictor, shift_right
from streams.kernels.standardisation import Standardisation, standardise

#: Fractional bits of what a host tells of a row's logit. Each row costs it log2(2 * clip) + 10 bits (13 at clip 4). A
#: quantum of 2^-10 moves a probability by at most 2^-13, and the AUC by less than 1e-4 (0.125 moves it by 8e-5).
SHARED_LOGIT_BITS = 10


@dataclass(frozen=True)
class Half:
    """The arrays of one party's half. `weights` and `intercept` have 24 fractional bits."""

    standardisation: Standardisation
    feature_clip: float
    weights: tuple[int, ...]
    intercept: int | None
    logit_clip: float


def score_half(values: NDArray[np.float64], half: Half) -> NDArray[np.int64]:
    """This party's part of the logits, (n, d) raw values -> (n,) with 20 fractional bits.

    Raises:
        ValueError: the columns do not fit the half, or a value is not finite.
    """
    features = standardise(values, half.standardisation, half.feature_clip)
    return score_features(features, half.weights, half.intercept, half.logit_clip)


def score_features(
    features: NDArray[np.int32], weights: Sequence[int], intercept: int | None, logit_clip: float
) -> NDArray[np.int64]:
    """As `score_half`, from features that are standardised already."""
    if intercept is not None:
        ones = np.full((features.shape[0], 1), 1 << FX, dtype=np.int32)
        features, weights = np.hstack([features, ones]), (*weights, intercept)
    limit = round(logit_clip * (1 << LOGIT_BITS))
    return np.clip(linear_predictor(features, weights), -limit, limit)


def quantise_logits(logits: NDArray[np.int64], bits: int = SHARED_LOGIT_BITS) -> NDArray[np.int32]:
    """Logits with 20 fractional bits -> `bits` fractional bits, ties to even.

    Raises:
        ValueError: a logit does not fit 32 bits.
    """
    shared = shift_right(logits, LOGIT_BITS - bits)
    if shared.size and int(np.abs(shared).max()) >= 2**31:
        raise ValueError(f"a logit beyond 2^{31 - bits} does not fit 32 bits")
    return shared.astype(np.int32)


def restore_logits(shared: NDArray[np.int32], bits: int = SHARED_LOGIT_BITS) -> NDArray[np.int64]:
    """Quantised logits as logits with 20 fractional bits."""
    return shared.astype(np.int64) << (LOGIT_BITS - bits)


__all__ = [
    "SHARED_LOGIT_BITS",
    "WEIGHT_BITS",
    "Half",
    "quantise_logits",
    "restore_logits",
    "score_features",
    "score_half",
]
