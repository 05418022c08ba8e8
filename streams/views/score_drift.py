"""How far today's scores are from those of the hold-out: the population stability index.

PSI = sum over bins of (a - e) * ln(a / e), with a the share of the bin today and e its share in training. The usual
thresholds: below 0.1 nothing to speak of, up to 0.25 look into it, above that the model sees other people than it was
made for. A bin without anybody counts as half a person, on either side. The index of n rows over b bins of the very
same people is about b / n by chance alone; below `LEAST_ROWS_A_BIN` rows a bin the standing is therefore left open.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

MODERATE, LARGE = 0.1, 0.25
LEAST_ROWS_A_BIN = 20


class Standing(StrEnum):
    """What the index means."""

    STABLE = "stable"
    MODERATE = "moderate"
    LARGE = "large"
    TOO_FEW = "too_few_rows"
    #: The hold-out's distribution is not known: the version was not checked yet.
    NO_REFERENCE = "no_reference"


@dataclass(frozen=True)
class Reference:
    """Points of the hold-out: bins with inclusive upper edges, the last one open, and their shares of `rows`."""

    edges: tuple[int, ...]
    shares: tuple[float, ...]
    rows: int

    @property
    def is_usable(self) -> bool:
        """Whether there is anything to compare with."""
        return self.rows > 0 and len(self.shares) == len(self.edges) + 1 > 1


@dataclass(frozen=True)
class Drift:
    """The index of so many rows, where it can be computed."""

    index: float | None
    standing: Standing
    rows: int


def count_bins(points: Mapping[int, int], edges: Sequence[int]) -> list[int]:
    """Counts by points -> counts by bin."""
    bins = [0] * (len(edges) + 1)
    for value, count in points.items():
        bins[bisect_left(edges, value)] += count
    return bins


def measure_drift(points: Counter[int], reference: Reference | None) -> Drift:
    """Compare points, given as counts by value, with the reference."""
    rows = points.total()
    if reference is None or not reference.is_usable:
        return Drift(None, Standing.NO_REFERENCE, rows)
    if rows == 0:
        return Drift(None, Standing.TOO_FEW, 0)
    index = 0.0
    for count, share in zip(count_bins(points, reference.edges), reference.shares, strict=True):
        now, then = max(count, 0.5) / rows, max(share, 0.5 / reference.rows)
        index += (now - then) * math.log(now / then)
    if rows < LEAST_ROWS_A_BIN * len(reference.shares):
        return Drift(index, Standing.TOO_FEW, rows)
    if index < MODERATE:
        return Drift(index, Standing.STABLE, rows)
    return Drift(index, Standing.MODERATE if index < LARGE else Standing.LARGE, rows)
