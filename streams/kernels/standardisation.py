"""Standardisation of a party's own columns, fitted on the joint training rows only and kept by that party.

Sums are correctly rounded (`math.fsum`), everything else is one IEEE operation per element, so the means and scales do
not depend on row order, vector unit or library.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.kernels.fixed_point import FX

#: A clipped feature must fit 17 signed bits (see the slot bounds of the train stage).
MAX_FEATURE_CLIP = 8.0


@dataclass(frozen=True)
class Standardisation:
    """x -> (x - mean) / scale, column by column. `constant` lists columns without variance: their scale is 1."""

    means: tuple[float, ...]
    scales: tuple[float, ...]
    constant: tuple[int, ...] = ()


def fit_standardisation(values: NDArray[np.float64]) -> Standardisation:
    """Means and population standard deviations of the training rows, shape (n, d).

    Raises:
        ValueError: there is no row, or a column has values that are not finite or whose squares overflow.
    """
    if values.ndim != 2 or values.shape[0] == 0:
        raise ValueError(f"need at least one training row, got shape {values.shape}")
    n = values.shape[0]
    means: list[float] = []
    scales: list[float] = []
    constant: list[int] = []
    for index in range(values.shape[1]):
        column = values[:, index]
        low, high = float(column.min()), float(column.max())
        if not (math.isfinite(low) and math.isfinite(high)) or max(abs(low), abs(high)) > 1e150:
            raise ValueError(f"column {index}: values must be finite and below 1e150 in magnitude")
        mean = low if low == high else math.fsum(column.tolist()) / n
        centred = column - mean
        scale = math.sqrt(math.fsum((centred * centred).tolist()) / n)
        if low == high or scale == 0.0:
            constant.append(index)
            scale = 1.0
        means.append(mean)
        scales.append(scale)
    return Standardisation(tuple(means), tuple(scales), tuple(constant))


def standardise(
    values: NDArray[np.float64], standardisation: Standardisation, feature_clip: float = MAX_FEATURE_CLIP
) -> NDArray[np.int32]:
    """Clip((x - mean) / scale) with FX fractional bits, shape (n, d), |result| <= feature_clip * 2^FX.

    A column listed as `constant` gives zeros for every row, training or not: its weight could not be learned.

    Raises:
        ValueError: the number of columns or the clip is wrong, or a value is not finite.
    """
    if values.ndim != 2 or values.shape[1] != len(standardisation.means):
        raise ValueError(f"values of shape {values.shape} for {len(standardisation.means)} columns")
    if not 0.0 < feature_clip <= MAX_FEATURE_CLIP:
        raise ValueError(f"feature_clip must be in (0, {MAX_FEATURE_CLIP}], got {feature_clip}")
    if not np.all(np.isfinite(values)):
        raise ValueError("values must be finite")
    result = np.zeros(values.shape, dtype=np.int32)
    for index, (mean, scale) in enumerate(zip(standardisation.means, standardisation.scales, strict=True)):
        if index in standardisation.constant:
            continue
        scaled = np.clip((values[:, index] - mean) / scale, -feature_clip, feature_clip)
        result[:, index] = np.rint(np.ldexp(scaled, FX)).astype(np.int32)
    return result
