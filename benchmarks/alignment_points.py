"""Points a second of the alignment's group, on one core: as the party takes it, and each way beside it.

The ways are the wrapper functions of libsodium, and each back-end of the native kernel that the processor has.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from collections.abc import Callable
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
    work: dict[str, Callable[[], object]] = {
        "hash an id to a point": lambda: ristretto.hash_ids(ids, b"benchmark"),
        "hash an id to a point and multiply": lambda: ristretto.blind_ids(ids, b"benchmark", factor),
        "multiply": lambda: ristretto.multiply(points, factor),
        "multiply, rbcl's function": lambda: [rbcl.crypto_scalarmult_ristretto255(factor, p) for p in split],
        "tag": lambda: ristretto.tag_points(points, b"benchmark"),
    }
    if importlib.util.find_spec("isthmus_native"):
        work |= native_work(points, factor)
    return {
        "unit": "microseconds a point on one core",
        **{name: 1e6 * seconds_per_item(function, POINTS) for name, function in work.items()},
    }


def native_work(points: bytes, factor: bytes) -> dict[str, Callable[[], object]]:
    """The native kernel's two functions on each back-end."""
    native = importlib.import_module("isthmus_native")
    digests = b"".join(hashlib.sha512(bytes([n % 256, n // 256])).digest() for n in range(POINTS))

    def multiply(backend: str) -> Callable[[], object]:
        return lambda: native.multiply_points(points, factor, backend=backend)

    def map_digests(backend: str) -> Callable[[], object]:
        return lambda: native.hash_to_points(digests, backend=backend)

    return {f"multiply, {name}": multiply(name) for name in native.point_backends()} | {
        f"map a digest to a point, {name}": map_digests(name) for name in native.point_backends()
    }
