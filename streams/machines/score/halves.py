"""A party's half, ready for many small groups of rows, and the rows as arrays, with what is wrong in them.

The integers are those of `streams/kernels/scoring.py`, which computes whole tables. Here a group may be one row, and
most of the time would go into preparing the same arrays again for each; so they are prepared once a version.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.models import ModelHalf
from schemas.scoring import ScoreReason
from streams.kernels.fixed_point import FX, LOGIT_BITS, SAFE_SUM, WEIGHT_BITS, shift_right
from streams.kernels.scoring import Half
from streams.kernels.sigmoid import SIGMOID_LIMIT
from streams.kernels.standardisation import MAX_FEATURE_CLIP, Standardisation

_ONE = 1 << FX


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights and intercept with 24 fractional bits, and the box of their logits."""

    weights: tuple[int, ...]
    intercept: int | None
    logit_clip: float


class PreparedHalf:
    """Scores rows by several sets of weights over the same standardised columns, such as the joint and the own one.

    >>> PreparedHalf(standardisation, 8.0, [Weights(weights, intercept, 8.0)]).score(values)[:, 0]
    """

    def __init__(self, standardisation: Standardisation, feature_clip: float, heads: Sequence[Weights]) -> None:
        """Raises `ValueError` for weights that do not fit the columns, or that some row could overflow."""
        columns = len(standardisation.means)
        if not 0.0 < feature_clip <= MAX_FEATURE_CLIP:
            raise ValueError(f"feature_clip must be in (0, {MAX_FEATURE_CLIP}], got {feature_clip}")
        for head in heads:
            if len(head.weights) != columns:
                raise ValueError(f"{len(head.weights)} weights for {columns} columns")
            reach = sum(map(abs, head.weights)) * round(feature_clip * _ONE) + abs(head.intercept or 0) * _ONE
            if reach >= SAFE_SUM:
                raise ValueError("the weights are so large that a logit could overflow")
        constant = list(standardisation.constant)
        self._means = np.array(standardisation.means, dtype=np.float64)
        self._scales = np.array(standardisation.scales, dtype=np.float64)
        # Whatever a column without variance says, it says nothing: its weight could not be learned.
        self._means[constant], self._scales[constant] = 0.0, 1.0
        weights = np.array([head.weights for head in heads], dtype=np.int64).reshape(len(heads), columns)
        weights[:, constant] = 0
        self._weights = np.ascontiguousarray(weights.T)
        self._offsets = np.array([(head.intercept or 0) * _ONE for head in heads], dtype=np.int64)
        self._limits = np.array([round(head.logit_clip * (1 << LOGIT_BITS)) for head in heads], dtype=np.int64)
        self._feature_clip = feature_clip

    def score(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Logits with 20 fractional bits, one column for each set of weights: (n, d) finite values -> (n, heads)."""
        # A value far outside overflows to infinity, and is clipped as it would be.
        with np.errstate(over="ignore"):
            scaled = (values - self._means) / self._scales
        np.minimum(scaled, self._feature_clip, out=scaled)
        np.maximum(scaled, -self._feature_clip, out=scaled)
        scaled *= _ONE
        features = np.rint(scaled, out=scaled).astype(np.int64)
        logits = shift_right(features @ self._weights + self._offsets, FX + WEIGHT_BITS - LOGIT_BITS)
        return np.maximum(np.minimum(logits, self._limits), -self._limits)


def to_kernel(half: ModelHalf) -> Half:
    """The stored half as the kernel's."""
    standardisation = Standardisation(half.means, half.scales, half.constant)
    return Half(standardisation, half.feature_clip, half.weights, half.intercept, half.logit_clip)


def prepare_half(half: ModelHalf, alone: tuple[tuple[int, ...], int] | None = None) -> PreparedHalf:
    """The half alone, or with the weights and the intercept of the guest's own model. Raises `ValueError`."""
    kernel = to_kernel(half)
    heads = [Weights(kernel.weights, kernel.intercept, kernel.logit_clip)]
    if alone is not None:
        # The box in which an evaluation scores it.
        heads.append(Weights(*alone, SIGMOID_LIMIT))
    return PreparedHalf(kernel.standardisation, kernel.feature_clip, heads)


@dataclass(frozen=True, slots=True)
class Problem:
    """What keeps a row from being scored. `detail` names the column, if it is about one."""

    reason: ScoreReason
    detail: str = ""


NO_SUCH_PERSON = Problem(ScoreReason.NO_SUCH_PERSON)


class RowReader:
    """Turns what is known of persons into arrays of a model's columns."""

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)
        self._pick: Callable[[Mapping[str, object]], tuple[Any, ...]]
        if len(self.columns) > 1:
            self._pick = operator.itemgetter(*self.columns)
        else:
            self._pick = lambda row: tuple(row[column] for column in self.columns)

    def read(
        self, rows: Iterable[Mapping[str, object] | None]
    ) -> tuple[NDArray[np.float64], list[int], dict[int, Problem]]:
        """Values of the complete rows, shape (n, d), their places among `rows`, and what is wrong with the others.

        Numbers are int, float and Decimal; not bool, text, NaN and infinity. Nothing is ever taken for zero.
        """
        kept: list[tuple[float, ...]] = []
        places: list[int] = []
        problems: dict[int, Problem] = {}
        for place, row in enumerate(rows):
            values = NO_SUCH_PERSON if row is None else self._values(row)
            if isinstance(values, Problem):
                problems[place] = values
            else:
                kept.append(values)
                places.append(place)
        array = np.array(kept, dtype=np.float64).reshape(len(kept), len(self.columns))
        finite = np.isfinite(array)
        if finite.all():
            return array, places, problems
        good: NDArray[np.bool] = np.asarray(finite.all(axis=1))
        for index in np.flatnonzero(~good).tolist():
            column = self.columns[int(np.argmin(finite[index]))]
            problems[places[index]] = Problem(ScoreReason.MISTYPED_FEATURE, column)
        return array[good], [place for place, is_good in zip(places, good.tolist(), strict=True) if is_good], problems

    def _values(self, row: Mapping[str, object]) -> tuple[float, ...] | Problem:
        try:
            values = self._pick(row)
        except KeyError:
            return self._convert(row)
        # Nearly always: all are floats already.
        return values if set(map(type, values)) == {float} else self._convert(row)

    def _convert(self, row: Mapping[str, object]) -> tuple[float, ...] | Problem:
        values = []
        for column in self.columns:
            value = row.get(column)
            if value is None:
                return Problem(ScoreReason.MISSING_FEATURE, column)
            if isinstance(value, bool | np.bool) or not isinstance(value, Real | Decimal):
                return Problem(ScoreReason.MISTYPED_FEATURE, column)
            try:
                values.append(float(value))
            except (OverflowError, ValueError):
                return Problem(ScoreReason.MISTYPED_FEATURE, column)
        return tuple(values)
