"""SecretFlow's HEU (Python 3.10 or 3.11): `python -m benchmarks.rivals.heu BITS ZPaillier|OU`.

Okamoto-Uchiyama is another cryptosystem, with plaintexts of a third of the modulus; it is here for its additions.
"""

from __future__ import annotations

import sys

import numpy as np
from heu import numpy as heu_numpy
from heu import phe

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


def main() -> None:
    """Measure one scheme."""
    bits, scheme = key_bits(), sys.argv[2]
    figures = Figures("sf-heu", scheme)
    kit = heu_numpy.setup(phe.parse_schema_type(scheme.lower()), bits)
    encoder = kit.bigint_encoder()
    encryptor, decryptor, evaluator = kit.encryptor(), kit.decryptor(), kit.evaluator()

    def decrypted(ciphertexts: object) -> list[int]:
        return [int(value) for value in np.array(decryptor.decrypt(ciphertexts).to_numpy(encoder)).ravel()]

    numbers = list(range(ROWS))
    plain = kit.array(numbers, encoder)
    many = figures.measure("encrypt_public", lambda: encryptor.encrypt(plain), ROWS)
    figures.share_encryptor()
    few = many[list(range(COUNT))]
    figures.measure("decrypt", lambda: decryptor.decrypt(few), COUNT)
    total = figures.measure("add", lambda: evaluator.add(many, many), ROWS)
    check("add", decrypted(total), [2 * number for number in numbers])
    for name, factor in FACTORS.items():
        factors = kit.array([factor] * COUNT, encoder)
        scaled = figures.measure(name, lambda factors=factors: evaluator.mul(few, factors), COUNT)  # type: ignore[misc]
        check(name, decrypted(scaled), [factor * number for number in numbers[:COUNT]])
    table = kit.array(np.ascontiguousarray(weights().T), encoder)
    product = figures.measure("matmul", lambda: evaluator.matmul(table, many), tries=1)
    check("matmul", decrypted(product), expected_product(numbers))
    rows = [row % ROWS for row in range(HISTOGRAM_ROWS)]
    column, places, everybody = many[rows], bins(), np.ones(HISTOGRAM_ROWS, np.int8)
    sums = figures.measure(
        "histogram", lambda: evaluator.feature_wise_bucket_sum(column, everybody, places, BINS, False), tries=2
    )
    check("histogram", decrypted(sums), expected_sums(rows, places))
    figures.report()


if __name__ == "__main__":
    main()
