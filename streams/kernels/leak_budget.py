"""What the numbers that a job reveals could tell about labels, counted in bits, and columns that tell too much.

A gradient is X^T (p - y): d numbers of 20 bits a pass. When a job gives away about as many bits as the labels hold,
lattice reduction solves for the labels (it does at 70 rows and 10 columns); the gate refuses at half of that.
"""

from __future__ import annotations

from dataclasses import dataclass

import gmpy2
import numpy as np
from numpy.typing import NDArray

from streams.kernels.step_rule import SCALAR_BITS

#: Rows in which a column must differ from its most frequent value: the gradient gives the label sum over these rows.
MINIMUM_SUPPORT = 50


@dataclass(frozen=True)
class LeakBudget:
    """Bits that one party receives about the labels, against the limit of half their entropy."""

    bits: int
    limit: float

    @property
    def exceeded(self) -> bool:
        """Whether `Leak.SMALL_TABLE` must have been accepted."""
        return self.bits > self.limit

    def describe(self) -> str:
        """The figures, for an error text."""
        relation = "more than" if self.exceeded else "within"
        return (
            f"gradients and scalars carry {self.bits} bits, {relation} the limit of {self.limit:.0f} bits "
            "(half the labels' entropy)"
        )


@dataclass(frozen=True)
class RareColumn:
    """A column that differs from its most frequent value in only `support` training rows."""

    index: int
    support: int


def bits(passes: int, features: int, scalars: int) -> int:
    """Bits in `passes` gradients of `features` numbers and in `scalars` other numbers, 20 each."""
    return SCALAR_BITS * (passes * features + scalars)


def shared_scalars(passes: int) -> int:
    """Numbers besides gradients that a host gives in `passes` passes: Gram rows of 1..passes, one maximum each."""
    return passes * (passes + 1) // 2 + passes


def label_entropy(n: int, positives: int) -> float:
    """n H(y) in bits, correctly rounded; 0 when all labels are equal."""
    if not 0 <= positives <= n:
        raise ValueError(f"{positives} positive labels in {n} rows")
    with gmpy2.context(precision=128):
        total = gmpy2.mpfr(0)
        for count in (positives, n - positives):
            if count:
                total += count * gmpy2.log2(gmpy2.mpfr(n) / count)
        return float(total)


def check_budget(passes: int, features: int, scalars: int, n: int, positives: int | None) -> LeakBudget:
    """The budget of one party with `features` columns. `positives` None (at a host): one bit a row is assumed."""
    entropy = float(n) if positives is None else label_entropy(n, positives)
    return LeakBudget(bits(passes, features, scalars), 0.5 * entropy)


def rare_columns(features: NDArray[np.int32], minimum: int = MINIMUM_SUPPORT) -> tuple[RareColumn, ...]:
    """Columns whose training rows differ from the modal value in 1..minimum-1 rows; constant columns reveal nothing."""
    found = []
    for index in range(features.shape[1]):
        counts = np.unique(features[:, index], return_counts=True)[1]
        support = int(features.shape[0] - counts.max()) if counts.size else 0
        if 0 < support < minimum:
            found.append(RareColumn(index, support))
    return tuple(found)
