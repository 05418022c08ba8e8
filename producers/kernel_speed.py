"""How fast this machine's arithmetic is on the path that ISTHMUS_KERNEL names, as JSON on standard output.

Each path is measured in a process of its own, as tables are kept for the path that they were made on.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable

import gmpy2
import numpy as np
from gmpy2 import mpz

from streams.kernels.ciphertexts import Ciphertext
from streams.kernels.entropy import prf
from streams.kernels.multiexp import weighted_products
from streams.kernels.owner import decrypt_many
from streams.kernels.paillier_keys import PrivateKey
from streams.kernels.ristretto import hash_ids, multiply, scalar

#: Bits of a factor of the modulus, ciphertexts, columns, bits of a weight, points.
FACTOR_BITS, CIPHERTEXTS, COLUMNS, WEIGHT_BITS, POINTS = 1024, 64, 8, 16, 512


def measure() -> dict[str, float]:
    """Operations a second on one core, at 2048 bits."""
    draw = random.Random(1)
    p, q = (gmpy2.next_prime(draw.getrandbits(FACTOR_BITS) | 3 << (FACTOR_BITS - 2)) for _ in range(2))
    private = PrivateKey(int(p), int(q))
    n2 = private.public.modulus_squared
    given = [Ciphertext(mpz(draw.randrange(int(n2)))) for _ in range(CIPHERTEXTS)]
    weights = np.random.default_rng(1).integers(-(1 << WEIGHT_BITS), 1 << WEIGHT_BITS, (CIPHERTEXTS, COLUMNS))
    points = hash_ids((str(number) for number in range(POINTS)), b"speed")
    factor = scalar(prf(bytes(32), "speed"))
    return {
        "decryptions": CIPHERTEXTS / _seconds(lambda: decrypt_many(private, given)),
        "products with a weight": CIPHERTEXTS
        * COLUMNS
        / _seconds(lambda: weighted_products(given, weights, private.public)),
        "points of an alignment": POINTS / _seconds(lambda: multiply(points, factor)),
    }


def _seconds(work: Callable[[], object]) -> float:
    """The least of three."""
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure()))
