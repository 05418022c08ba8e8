"""Intel's ipcl_python with AVX-512 IFMA (Python 3.8): `python -m benchmarks.rivals.ipcl BITS`.

Its randomisers are powers of one base with half-length exponents (Damgard, Jurik, Nielsen), as its makers recommend.
"""

from __future__ import annotations

from ipcl_python import PaillierKeypair

from benchmarks.rivals.workload import (
    BINS,
    COUNT,
    FACTORS,
    HISTOGRAM_FEATURES,
    HISTOGRAM_ROWS,
    ROWS,
    Figures,
    check,
    expected_product,
    key_bits,
    weights,
)


def main() -> None:
    """Measure all operations."""
    bits = key_bits()
    figures = Figures("ipcl-python")
    public, private = PaillierKeypair.generate_keypair(bits, True)
    numbers = list(range(ROWS))
    few = figures.measure("encrypt_public", lambda: public.encrypt(numbers[:COUNT]), COUNT)
    figures.share_encryptor()
    figures.measure("decrypt", lambda: private.decrypt(few), COUNT)
    many = public.encrypt(numbers)
    total = figures.measure("add", lambda: many + many, ROWS)
    check("add", private.decrypt(total), [2 * number for number in numbers])
    for name, factor in FACTORS.items():
        scaled = figures.measure(name, lambda factor=factor: few * ([factor] * COUNT), COUNT)  # type: ignore[misc]
        check(name, private.decrypt(scaled), [factor * number for number in numbers[:COUNT]])
    columns = weights().T.tolist()
    products = figures.measure("matmul", lambda: [many.dot(column) for column in columns], tries=1)
    check("matmul", [private.decrypt(product) for product in products], expected_product(numbers))
    figures.state(
        "histogram",
        (HISTOGRAM_ROWS - BINS) * HISTOGRAM_FEATURES * figures["add"],
        "no such function: that many additions of whole vectors, which is the best that it could take",
    )
    figures.report()


if __name__ == "__main__":
    main()
