"""From logits to what people see: coarse shares of hosts, points, probabilities. Integers, so every machine agrees.

| quantity             | unit                                              |
|----------------------|---------------------------------------------------|
| logit                | 2^-20                                             |
| share                | its quantum, which is in units of 2^-30           |
| points               | 1; `points_to_double_odds` for each factor of 2   |

A host's share is derived from what it tells in an evaluation (2^-10): so the guest can recompute every online score of
the hold-out from what it knows already.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Sequence

import numpy as np

from streams.kernels.fixed_point import LOGIT_BITS, round_ratio
from streams.kernels.metrics import probabilities
from streams.kernels.scoring import SHARED_LOGIT_BITS

QUANTUM_BITS = 30
#: One point when 20 points double the odds, ln 2 / 20: costs an AUC of at most 5e-5.
POINT_QUANTUM = round(math.log(2) / 20 * (1 << QUANTUM_BITS))
#: The coarsest quantum is a logit of 1.
MOST_QUANTUM = 1 << QUANTUM_BITS
#: The finest is what evaluations tell.
LEAST_QUANTUM = 1 << (QUANTUM_BITS - SHARED_LOGIT_BITS)
_FACTOR_BITS = 32
#: A token is half a SHA-256: no two of 2^40 persons share one, but for a chance of 2^-48.
TOKEN_BYTES = 16


def bits_quantum(bits: int) -> int:
    """The quantum of so many fractional bits, 0 to 10. Raises `ValueError`."""
    if not 0 <= bits <= SHARED_LOGIT_BITS:
        raise ValueError(f"{bits} fractional bits: expected 0 to {SHARED_LOGIT_BITS}")
    return 1 << (QUANTUM_BITS - bits)


def share_logit(shared: int, quantum: int) -> int:
    """A logit with 10 fractional bits in units of the quantum, ties to even. Raises `ValueError`."""
    if not LEAST_QUANTUM <= quantum <= MOST_QUANTUM:
        raise ValueError(f"quantum {quantum} is not within {LEAST_QUANTUM} and {MOST_QUANTUM}")
    return round_ratio(shared << (QUANTUM_BITS - SHARED_LOGIT_BITS), quantum)


def restore_share(value: int, quantum: int) -> int:
    """A share as a logit with 20 fractional bits, ties to even."""
    return round_ratio(value * quantum, 1 << (QUANTUM_BITS - LOGIT_BITS))


def count_points(logit: int, base_points: int, points_to_double_odds: int) -> int:
    """base + logit * points_to_double_odds / ln 2, ties to even."""
    factor = round(points_to_double_odds / math.log(2) * (1 << _FACTOR_BITS))
    return base_points + round_ratio(logit * factor, 1 << (_FACTOR_BITS + LOGIT_BITS))


def probability_of(logit: int) -> float:
    """sigma of a logit: an exact multiple of 2^-28."""
    return float(probabilities(np.array([logit], dtype=np.int64))[0])


def name_person(key: bytes, entity_id: str) -> bytes:
    """The token (or pseudonym) of a person: HMAC-SHA-256 of the normalised id, cut to 16 bytes (NIST SP 800-107)."""
    return hmac.digest(key, entity_id.encode(), "sha256")[:TOKEN_BYTES]


def find_band(points: int, edges: Sequence[int]) -> int | None:
    """The index of the last edge that is not above the points; None below the first."""
    index = None
    for position, edge in enumerate(edges):
        if points >= edge:
            index = position
    return index
