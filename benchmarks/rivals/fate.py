"""FATE's fate_utils, a library in Rust (Python 3.8): `python -m benchmarks.rivals.fate BITS`."""

from __future__ import annotations

import numpy as np
from fate_utils import paillier

from benchmarks.rivals.workload import (
    BINS,
    FACTORS,
    FEATURES,
    HISTOGRAM_FEATURES,
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

#: Ciphertexts that are encrypted; ten times as many are made of them.
COUNT = 100


def main() -> None:
    """Measure all operations."""
    bits = key_bits()
    figures = Figures("fate-utils")
    private, public, coder = paillier.keygen(bits)

    def decrypted(ciphertexts: object) -> list[int]:
        return [int(value) for value in coder.decode_i64_vec(private.decrypt_to_encoded(ciphertexts))]

    plain = coder.encode_i64_vec(np.arange(COUNT))
    few = figures.measure("encrypt_public", lambda: public.encrypt_encoded(plain, True), COUNT, tries=2)
    figures.share_encryptor()
    figures.measure("decrypt", lambda: private.decrypt_to_encoded(few), COUNT)
    numbers = [number % COUNT for number in range(ROWS)]
    many = few.slice_indexes(numbers)
    total = figures.measure("add", lambda: many.add(public, many), ROWS)
    check("add", decrypted(total), [2 * number for number in numbers])
    for name, factor in FACTORS.items():
        factors = coder.encode_i64_vec(np.full(COUNT, factor))
        scaled = figures.measure(name, lambda factors=factors: few.mul(public, factors), COUNT)  # type: ignore[misc]
        check(name, decrypted(scaled), [factor * number for number in range(COUNT)])
    table = coder.encode_i64_vec(weights().ravel())
    product = figures.measure("matmul", lambda: many.matmul(public, table, [1, ROWS], [ROWS, FEATURES]), tries=1)
    check("matmul", decrypted(product), expected_product(numbers))
    rows = [row % COUNT for row in range(HISTOGRAM_ROWS)]
    column, places = few.slice_indexes(rows), bins()
    positions = (places.astype(np.int64) + BINS * np.arange(HISTOGRAM_FEATURES)).tolist()

    def sums() -> object:
        empty = paillier.CiphertextVector.zeros(BINS * HISTOGRAM_FEATURES)
        empty.iupdate(column, positions, 1, public)
        return empty

    histogram = figures.measure("histogram", sums, tries=2)
    check("histogram", decrypted(histogram), expected_sums(rows, places))
    figures.report()


if __name__ == "__main__":
    main()
