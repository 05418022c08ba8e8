"""What every Paillier library is asked to do, with equal numbers, and how the answers are reported."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np

#: The product X^T [[d]]: rows, features, bits of |x|.
ROWS, FEATURES, WEIGHT_BITS = 1000, 20, 40

#: Sums of ciphertexts by the bins of features, as gradient boosting takes them.
HISTOGRAM_ROWS, HISTOGRAM_FEATURES, BINS = 30_000, 10, 50

#: Ciphertexts of each simple operation; slow libraries take fewer.
COUNT = 400

#: Factors of the products of one ciphertext.
FACTORS = {"multiply_24_bits": (1 << 24) - 3, "multiply_53_bits": (1 << 53) - 111}

#: What one figure stands for.
UNITS = {
    "encrypt_owner": "one ciphertext, by who has the private key",
    "encrypt_owner_djn": "the same with exponents of half the modulus' length",
    "encrypt_owner_djn448": "the same with exponents of 448 bits",
    "encrypt_public": "one ciphertext, by who has the public key only",
    "decrypt": "one ciphertext",
    "add": "one addition",
    **dict.fromkeys(FACTORS, "one product"),
    "matmul": f"X^T [[d]], {ROWS} x {FEATURES}, {WEIGHT_BITS} bits",
    "histogram": f"{HISTOGRAM_ROWS} rows x {HISTOGRAM_FEATURES} features into {BINS} bins",
}


def weights() -> Any:
    """X as float64 in (-1, 1) at 40 fractional bits: int64, (ROWS, FEATURES)."""
    table = np.random.default_rng(1).uniform(-1, 1, (ROWS, FEATURES))
    return np.rint(table * (1 << WEIGHT_BITS)).astype(np.int64)


def bins(rows: int = HISTOGRAM_ROWS) -> Any:
    """The bin of each row and feature: int8, (rows, HISTOGRAM_FEATURES)."""
    return np.random.default_rng(2).integers(0, BINS, (rows, HISTOGRAM_FEATURES)).astype(np.int8)


def expected_product(plaintexts: list[int]) -> list[int]:
    """X^T d, exactly."""
    table = weights().astype(object)
    return [int(total) for total in (table * np.array(plaintexts, dtype=object)[:, None]).sum(axis=0)]


def expected_sums(plaintexts: list[int], places: Any) -> list[int]:
    """The histogram, feature by feature."""
    totals = np.zeros((places.shape[1], BINS), dtype=np.int64)
    for feature in range(places.shape[1]):
        np.add.at(totals[feature], places[:, feature], np.array(plaintexts, dtype=np.int64))
    return [int(total) for total in totals.ravel()]


def check(what: str, found: list[int], expected: list[int]) -> None:
    """A library whose results are wrong, or which is called wrongly, has no figures."""
    if found != expected:
        raise ArithmeticError(f"{what}: the decrypted result is not what plain arithmetic gives")


class Figures:
    """Processor seconds of each operation on one core, the least of several tries."""

    def __init__(self, distribution: str, scheme: str = "Paillier") -> None:
        library = f"{distribution} {version(distribution)}, {scheme}"
        self._result: dict[str, Any] = {"library": library, "cpu_seconds": {}, "notes": {}}

    def measure(self, name: str, work: Callable[[], Any], items: int = 1, tries: int = 3) -> Any:
        """Time `work`, which does `items` of the operation; its result is returned."""
        best, result = float("inf"), None
        for _ in range(tries):
            began = time.process_time()
            result = work()
            best = min(best, time.process_time() - began)
        self._result["cpu_seconds"][name] = best / items
        return result

    def state(self, name: str, seconds: float, note: str) -> None:
        """A figure that follows from another one, and how."""
        self._result["cpu_seconds"][name] = seconds
        self._result["notes"][name] = note

    def share_encryptor(self) -> None:
        """Nothing is faster for who has the private key: the library encrypts with the public one in any case."""
        self.state("encrypt_owner", self["encrypt_public"], "the library has one encryptor, of the public key")

    def scale(self, name: str, factor: float, note: str) -> None:
        """A figure of less than the whole work, scaled to it."""
        self._result["cpu_seconds"][name] *= factor
        self._result["notes"][name] = note

    def __getitem__(self, name: str) -> float:
        seconds: float = self._result["cpu_seconds"][name]
        return seconds

    def report(self) -> None:
        """Print the figures as the last line."""
        print(json.dumps(self._result))


def stay_on_one_core() -> None:
    """Let this process, with all threads that its library starts, have one core, where the system can say so."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def key_bits() -> int:
    """The size of the modulus, from the command line; from here on the process has one core."""
    stay_on_one_core()
    return int(sys.argv[1])
