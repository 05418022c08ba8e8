"""Latencies as counts in log-spaced buckets: small, mergeable, and percentiles with a known relative error.

The mapping is that of DDSketch (Masson, Rim and Lee, VLDB 2019) over a fixed range: bucket i holds the values in
(g^(i-1), g^i] with g = (1 + e) / (1 - e), and stands for 2 g^i / (g + 1), which is within a share e of each of them.
Values below 10 us, negative ones of clocks that differ included, count as 10 us; values above 1,000 s count as 1,000 s.
So a sketch has at most `BUCKETS` counters, however many values it holds.
"""

from __future__ import annotations

import math
from collections import Counter

#: The relative error of a percentile.
RELATIVE_ERROR = 0.01
LEAST_US, MOST_US = 10, 1_000_000_000
_GROWTH = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_PER_LOG = 1 / math.log(_GROWTH)


def bucket_of(micros: int) -> int:
    """The bucket of a latency in microseconds."""
    return math.ceil(math.log(min(max(micros, LEAST_US), MOST_US)) * _PER_LOG)


def micros_of(bucket: int) -> float:
    """The latency that a bucket stands for, in microseconds."""
    return 2 * _GROWTH**bucket / (_GROWTH + 1)


#: Different buckets that there are.
BUCKETS = bucket_of(MOST_US) - bucket_of(LEAST_US) + 1


def quantile(buckets: Counter[int], share: float) -> float | None:
    """The smallest latency, in microseconds, that at least `share` of the values do not exceed; None for no values."""
    total = buckets.total()
    rank = max(1, math.ceil(share * total))
    below = 0
    for bucket in sorted(buckets):
        below += buckets[bucket]
        if below >= rank:
            return micros_of(bucket)
    return None
