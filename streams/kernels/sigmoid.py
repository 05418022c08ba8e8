"""The logistic function and its loss from integer tables: the same bits on every machine.

`np.exp` takes different code paths on different CPUs and `math.exp` differs between C libraries, so neither may reach a
model. The tables hold sigma(z) and log(1 + e^-z) at steps of 2^-9 up to z = 24, correctly rounded by MPFR when they
were made; between points they are interpolated linearly in integers. Error: h^2/8 max|sigma''| = 4.6e-8 and
h^2/8 max|softplus''| = 1.2e-7; beyond 24 the function is constant to within 2^-34.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from streams.kernels.fixed_point import LOGIT_BITS, RESIDUAL_BITS
from streams.kernels.link_tables import load_pinned

SIGMOID_STEP_BITS = 9
SIGMOID_LIMIT = 24
SIGMOID_POINTS = SIGMOID_LIMIT * 2**SIGMOID_STEP_BITS + 1
SIGMOID_SHA256 = "51ffa240ede05c6dcfbf14309243238afb5a34f4e5c04e574206f1d4c26ee5e9"
ONE = 1 << RESIDUAL_BITS


@functools.lru_cache(maxsize=1)
def _tables() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    sigma, loss = load_pinned("sigmoid.npz", "sigmoid", ("sigma", "loss"), SIGMOID_SHA256)
    return sigma.astype(np.int64), loss.astype(np.int64)


def _interpolate(table: NDArray[np.int64], magnitude: NDArray[np.int64]) -> NDArray[np.int64]:
    """Value at |z| (LOGIT_BITS fractional bits, at most SIGMOID_LIMIT), rounded half up in 2^-28."""
    step_bits = LOGIT_BITS - SIGMOID_STEP_BITS
    index = np.minimum(magnitude >> step_bits, SIGMOID_POINTS - 2)
    part = magnitude - (index << step_bits)
    low = table[index]
    result: NDArray[np.int64] = low + ((part * (table[index + 1] - low) + (1 << (step_bits - 1))) >> step_bits)
    return result


def sigmoid(logits: NDArray[np.int64]) -> NDArray[np.int64]:
    """sigma(z): logits with LOGIT_BITS fractional bits -> RESIDUAL_BITS. sigma(-z) = 1 - sigma(z) holds exactly."""
    magnitude = np.minimum(np.abs(logits), SIGMOID_LIMIT << LOGIT_BITS)
    upper = _interpolate(_tables()[0], magnitude)
    return np.where(logits >= 0, upper, ONE - upper)


def residuals(logits: NDArray[np.int64], label: NDArray[np.int8]) -> NDArray[np.int64]:
    """sigma(z) - y with RESIDUAL_BITS fractional bits; |result| <= 2^28."""
    return sigmoid(logits) - (label.astype(np.int64) << RESIDUAL_BITS)


def logistic_losses(logits: NDArray[np.int64], label: NDArray[np.int8]) -> NDArray[np.int64]:
    """-log p(y) per row with RESIDUAL_BITS fractional bits: log(1 + e^-|z|) + max(-m, 0), m = z or -z by label."""
    limit = SIGMOID_LIMIT << LOGIT_BITS
    tail = _interpolate(_tables()[1], np.minimum(np.abs(logits), limit))
    margin = np.where(label == 1, logits, -logits)
    return tail + (np.maximum(-margin, 0) << (RESIDUAL_BITS - LOGIT_BITS))
