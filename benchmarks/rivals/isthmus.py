"""The project's own kernels, as one of the measured programs.

    ISTHMUS_KERNEL=gmpy2|native python -m benchmarks.rivals.isthmus BITS            figures, as of the rivals
    ISTHMUS_KERNEL=gmpy2|native python -m benchmarks.rivals.isthmus BITS worker     ciphertexts a second, on a signal

A worker says `ready`, waits for a line, encrypts, and prints how many it made in how many seconds of the clock.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from gmpy2 import mpz

from benchmarks.rivals.workload import (
    BINS,
    COUNT,
    FACTORS,
    HISTOGRAM_ROWS,
    ROWS,
    Figures,
    bins,
    check,
    expected_product,
    expected_sums,
    key_bits,
    weights,
)
from schemas.profiles import KeyProfile
from streams.kernels.ciphertexts import Ciphertext, FreshCiphertext, add, add_plain, scale
from streams.kernels.entropy import Draws, prf
from streams.kernels.histogram import sum_bins
from streams.kernels.multiexp import weighted_products
from streams.kernels.owner import OwnerEncryptor, decrypt_many
from streams.kernels.paillier_keys import PublicKey, generate_keys
from streams.kernels.refresh import Refresher

SEED = bytes(range(32))

#: How the owner's encryption is called in the figures, by how it draws randomisers.
PROFILES = {
    "encrypt_owner_djn448": KeyProfile.DJN448,
    "encrypt_owner_djn": KeyProfile.DJN,
    "encrypt_owner": KeyProfile.EXACT,
}

#: Ciphertexts of one worker: a second or two of work.
WORKER_COUNT = 2000


def histogram_sums(public: PublicKey, ciphertexts: Sequence[Ciphertext], places: Any) -> list[Ciphertext]:
    """The sums of each feature's bins: `places` (rows, features); one multiplication for each row and feature."""
    return [each for column in sum_bins(ciphertexts, places, BINS, public) for each in column]


def main() -> None:
    """Measure all operations."""
    bits = key_bits()
    figures = Figures("isthmus")
    private = generate_keys(prf(SEED, "benchmark key"), bits)
    public = private.public
    draws = Draws(prf(SEED, "benchmark draws"))
    numbers = list(range(ROWS))

    many: list[FreshCiphertext] = []
    for name, profile in PROFILES.items():
        encryptor = OwnerEncryptor(private, profile)
        many = figures.measure(name, lambda own=encryptor: own.encrypt_many(numbers, draws), ROWS)  # type: ignore[misc]
        check(name, decrypt_many(private, many[:COUNT]), numbers[:COUNT])
    refresher = Refresher(public, SEED)
    trivial = [add_plain(public, Ciphertext(mpz(1)), number) for number in numbers[:COUNT]]
    few = figures.measure("encrypt_public", lambda: refresher.refresh_many(trivial, draws), COUNT)
    check("encrypt_public", decrypt_many(private, few), numbers[:COUNT])
    figures.measure("decrypt", lambda: decrypt_many(private, few[:100]), 100)
    total = figures.measure("add", lambda: [add(public, c, many[1]) for c in many], ROWS)
    check("add", decrypt_many(private, total), [number + 1 for number in numbers])
    for name, factor in FACTORS.items():
        scaled = figures.measure(name, lambda factor=factor: [scale(public, c, factor) for c in few], COUNT)  # type: ignore[misc]
        check(name, decrypt_many(private, scaled), [factor * number for number in numbers[:COUNT]])
    table = weights()
    product = figures.measure("matmul", lambda: weighted_products(many, table, public))
    check("matmul", decrypt_many(private, product), expected_product(numbers))
    rows = [row % ROWS for row in range(HISTOGRAM_ROWS)]
    places = bins()
    column = [many[row] for row in rows]
    sums = figures.measure("histogram", lambda: histogram_sums(public, column, places))
    check("histogram", decrypt_many(private, sums), expected_sums(rows, places))
    figures.report()


def work() -> None:
    """Be one of several workers, on any core."""
    encryptor = OwnerEncryptor(generate_keys(prf(SEED, "benchmark key"), int(sys.argv[1])))
    draws = Draws(prf(SEED, "benchmark draws"))
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    encryptor.encrypt_many(range(WORKER_COUNT), draws)
    print(json.dumps({"ciphertexts": WORKER_COUNT, "seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    work() if sys.argv[2:] == ["worker"] else main()
