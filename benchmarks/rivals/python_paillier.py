"""python-paillier with gmpy2, in the own environment: `python -m benchmarks.rivals.python_paillier BITS`."""

from __future__ import annotations

from phe import paillier

from benchmarks.rivals.workload import (
    BINS,
    FACTORS,
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

#: Ciphertexts that are encrypted; the others are made of them.
COUNT = 20

#: Features of the product and rows of the histogram that are measured: time is linear in both.
SOME_FEATURES, SOME_ROWS = 4, 3000


def main() -> None:
    """Measure all operations."""
    bits = key_bits()
    figures = Figures("phe")
    public, private = paillier.generate_paillier_keypair(n_length=bits)
    numbers = [number % COUNT for number in range(ROWS)]
    few = figures.measure("encrypt_public", lambda: [public.encrypt(n) for n in range(COUNT)], COUNT, tries=2)
    figures.share_encryptor()
    figures.measure("decrypt", lambda: [private.decrypt(c) for c in few], COUNT)
    many = [few[number] for number in numbers]
    total = figures.measure("add", lambda: [c + few[1] for c in many], ROWS)
    check("add", [private.decrypt(c) for c in total[:COUNT]], [number + 1 for number in range(COUNT)])
    for name, factor in FACTORS.items():
        scaled = figures.measure(name, lambda factor=factor: [c * factor for c in many[:200]], 200)  # type: ignore[misc]
        check(name, [private.decrypt(c) for c in scaled[:COUNT]], [factor * number for number in range(COUNT)])
    columns = weights().T.tolist()[:SOME_FEATURES]
    zero = public.encrypt(0)
    products = figures.measure(
        "matmul",
        lambda: [sum((c * w for c, w in zip(many, column, strict=True)), zero) for column in columns],
        tries=1,
    )
    check("matmul", [private.decrypt(c) for c in products], expected_product(numbers)[:SOME_FEATURES])
    features = weights().shape[1]
    figures.scale("matmul", features / SOME_FEATURES, f"measured on {SOME_FEATURES} of {features} features")
    places, rows = bins(SOME_ROWS), [row % COUNT for row in range(SOME_ROWS)]

    def sums() -> list[paillier.EncryptedNumber]:
        totals = [zero] * (BINS * HISTOGRAM_FEATURES)
        for row, own in zip(rows, places.tolist(), strict=True):
            for feature, place in enumerate(own):
                totals[BINS * feature + place] += few[row]
        return totals

    found = figures.measure("histogram", sums, tries=2)
    check("histogram", [private.decrypt(c) for c in found], expected_sums(rows, places))
    figures.scale("histogram", HISTOGRAM_ROWS / SOME_ROWS, f"measured on {SOME_ROWS} rows: time per addition is linear")
    figures.report()


if __name__ == "__main__":
    main()
