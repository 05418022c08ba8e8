"""Points a second of the alignment's group, on one core, beside the wrapper functions of the library underneath."""

from __future__ import annotations

from typing import Any

import rbcl

from benchmarks._timing import seconds_per_item
from streams.kernels import ristretto

POINTS = 2000


def run() -> dict[str, Any]:
    """Microseconds a point."""
    ids = [f"customer-{i}" for i in range(POINTS)]
    points = ristretto.hash_ids(ids, b"benchmark")
    factor = ristretto.scalar(bytes(32))
    split = [points[i : i + 32] for i in range(0, len(points), 32)]
    if b"".join(rbcl.crypto_scalarmult_ristretto255(factor, p) for p in split) != ristretto.multiply(points, factor):
        raise ArithmeticError("rbcl and this library disagree: the figures would be worthless")
    work = {
        "hash an id to a point": lambda: ristretto.hash_ids(ids, b"benchmark"),
        "multiply": lambda: ristretto.multiply(points, factor),
        "multiply, rbcl's function": lambda: [rbcl.crypto_scalarmult_ristretto255(factor, p) for p in split],
        "tag": lambda: ristretto.tag_points(points, b"benchmark"),
    }
    return {
        "unit": "microseconds a point on one core",
        **{name: 1e6 * seconds_per_item(function, POINTS) for name, function in work.items()},
    }
