"""Many products of powers of the same ciphertexts: X^T applied to an encrypted vector.

Pippenger's buckets with signed digits (Pippenger 1980; Bernstein, Doumen, Lange, Oosterwijk 2012): for each
digit position the ciphertexts with equal |digit| are multiplied into one bucket, then the buckets are joined by
running products. Negative digits use the inverses of the ciphertexts, which cost three multiplications each,
once for all features. Work for one feature: about rows * digits + 2^w * digits multiplications, where plain
powers need some 24 a row. The run time depends on the weights; it is visible to the party itself only as far as
the machine is its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Final

import gmpy2
import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from streams.kernels.ciphertexts import Ciphertext
from streams.kernels.fixed_base import invert_many
from streams.kernels.native_modulus import NativeModulus, native_modulus
from streams.kernels.paillier_keys import PublicKey

#: Largest |weight|: digits are computed in int64 with a carry.
MAX_WEIGHT: Final = 1 << 61

#: Bits of a digit in `combined_powers`: 16 table entries a row pay for 4 digits in each of 4 or more slots.
_STRAUS_WINDOW: Final = 4

_ONE: Final = mpz(1)


def weighted_products(
    ciphertexts: Sequence[Ciphertext], weights: NDArray[np.integer[Any]], public: PublicKey
) -> list[Ciphertext]:
    """For each column j of `weights` (rows, features) the ciphertext of sum_i weights[i, j] * plaintext_i."""
    return slotted_products(ciphertexts, weights[:, None, :], [0], public)


def slotted_products(
    ciphertexts: Sequence[Ciphertext],
    weights: NDArray[np.integer[Any]],
    shifts: Sequence[int],
    public: PublicKey,
) -> list[Ciphertext]:
    """For each feature j the product over i of c_i ^ (sum_k weights[i, k, j] * 2^shifts[k]).

    `weights` has shape (ciphertexts, slots, features). Exponents with few set slots cost their digits, not
    their length, plus max(shifts) squarings a feature.
    """
    rows, slots, features = weights.shape
    if rows != len(ciphertexts) or slots != len(shifts):
        raise ValueError(
            f"weights for {rows} ciphertexts and {slots} slots came with {len(ciphertexts)} ciphertexts "
            f"and {len(shifts)} shifts"
        )
    n2 = public.modulus_squared
    if not rows or not features:
        return [Ciphertext(_ONE)] * features
    largest = max(abs(int(weights.max())), abs(int(weights.min())))
    if largest > MAX_WEIGHT:
        raise ValueError(f"a weight of {largest.bit_length()} bits is too large; at most {MAX_WEIGHT.bit_length() - 1}")
    window = choose_window(rows, largest)
    values = [ciphertext.value for ciphertext in ciphertexts]
    is_signed = int(weights.min()) < 0 or bool(largest >> (window - 1))
    digits = signed_digits(weights, window, digit_count(largest, window))
    if (native := native_modulus(n2, rows)) is not None:
        products = _slotted_natively(native, values, digits, shifts, window, is_signed=is_signed)
        return [Ciphertext(product) for product in products]
    inverses = invert_many(values, n2) if is_signed else values
    results = []
    for feature in range(features):
        terms: list[tuple[int, mpz]] = []
        for slot, shift in enumerate(shifts):
            for position in range(digits.shape[0]):
                term = _bucket_product(digits[position, :, slot, feature].tolist(), values, inverses, window, n2)
                if term != 1:
                    terms.append((shift + window * position, term))
        results.append(Ciphertext(_join_shifted(terms, n2)))
    return results


def powers(ciphertexts: Sequence[Ciphertext], exponents: Sequence[int], public: PublicKey) -> list[Ciphertext]:
    """c_i ^ exponents[i] for each i, exponents of any sign: one inversion for all negative ones together."""
    n2 = public.modulus_squared
    if native_modulus(n2, len(exponents)) is not None and max(map(abs, exponents)) <= MAX_WEIGHT:
        return combined_powers(ciphertexts, np.array(exponents, dtype=np.int64)[:, None], [0], 1, public)
    negative = [i for i, exponent in enumerate(exponents) if exponent < 0]
    values = [ciphertext.value for ciphertext in ciphertexts]
    for i, inverse in zip(negative, invert_many([values[i] for i in negative], n2), strict=True):
        values[i] = inverse
    return [
        Ciphertext(gmpy2.powmod(value, abs(exponent), n2)) for value, exponent in zip(values, exponents, strict=True)
    ]


def combined_powers(
    ciphertexts: Sequence[Ciphertext],
    coefficients: NDArray[np.integer[Any]],
    shifts: Sequence[int],
    rows_per_product: int,
    public: PublicKey,
) -> list[Ciphertext]:
    """For each run of `rows_per_product` rows the product of c_i ^ (sum_k coefficients[i, k] * 2^shifts[k]).

    `coefficients` has shape (ciphertexts, slots). Straus's method (1964): the squarings are done once for the
    run, where `powers` does them for every row. Signed digits of 4 bits, from tables c^-8 .. c^8.
    """
    rows, slots = coefficients.shape
    if rows != len(ciphertexts) or slots != len(shifts):
        raise ValueError(
            f"coefficients for {rows} ciphertexts and {slots} slots came with {len(ciphertexts)} ciphertexts "
            f"and {len(shifts)} shifts"
        )
    n2 = public.modulus_squared
    if not rows:
        return []
    largest = max(abs(int(coefficients.max())), abs(int(coefficients.min())))
    digits = signed_digits(coefficients, _STRAUS_WINDOW, digit_count(largest, _STRAUS_WINDOW))
    places = sorted(
        (
            (shift + _STRAUS_WINDOW * position, position, slot)
            for slot, shift in enumerate(shifts)
            for position in range(len(digits))
        ),
        reverse=True,
    )
    columns = [(shift, digits[position, :, slot].tolist()) for shift, position, slot in places]
    values = [ciphertext.value for ciphertext in ciphertexts]
    if (native := native_modulus(n2, -(-rows // rows_per_product))) is not None:
        gaps = [0, *(high[0] - low[0] for high, low in itertools.pairwise(places))]
        chosen = np.stack([digits[position, :, slot] for _, position, slot in places])
        combined = native.combine(values, rows_per_product, gaps, chosen, places[-1][0])
        return [Ciphertext(product) for product in combined]
    inverses = invert_many(values, n2)
    results = []
    for first in range(0, rows, rows_per_product):
        run = range(first, min(first + rows_per_product, rows))
        tables = [_signed_powers(values[i], inverses[i], n2) for i in run]
        total = _ONE
        previous = places[0][0]
        for shift, column in columns:
            for _ in range(previous - shift):
                total = total * total % n2
            previous = shift
            for i, table in zip(run, tables, strict=True):
                if column[i]:
                    total = total * table[column[i]] % n2
        for _ in range(previous):
            total = total * total % n2
        results.append(Ciphertext(total))
    return results


def _slotted_natively(
    native: NativeModulus,
    values: Sequence[mpz],
    digits: NDArray[np.int16],
    shifts: Sequence[int],
    window: int,
    *,
    is_signed: bool,
) -> list[mpz]:
    """The same buckets, for all features, slots and digit positions side by side; `digits` as `signed_digits` gives."""
    positions, _, slots, _ = digits.shape
    places = sorted(
        ((shift + window * position, slot * positions + position) for slot, shift in enumerate(shifts)
         for position in range(positions)),
        reverse=True,
    )  # fmt: skip
    gaps = [0, *(high[0] - low[0] for high, low in itertools.pairwise(places))]
    order = [(place, gap) for (_, place), gap in zip(places, gaps, strict=True)]
    # (positions, rows, slots, features) -> (rows, features, slots and positions)
    flat = digits.transpose(1, 3, 2, 0).reshape(digits.shape[1], digits.shape[3], slots * positions)
    return native.slotted(values, flat, 1 << (window - 1), order, places[-1][0], is_signed=is_signed)


def _signed_powers(value: mpz, inverse: mpz, modulus: mpz) -> list[mpz]:
    """Powers 0 .. h, then -h .. -1, so that a negative exponent is a negative index; h = 2^(w-1)."""
    half = 1 << (_STRAUS_WINDOW - 1)
    positive, negative = [_ONE], [inverse]
    for _ in range(half):
        positive.append(positive[-1] * value % modulus)
    for _ in range(half - 1):
        negative.append(negative[-1] * inverse % modulus)
    return positive + negative[::-1]


def digit_count(largest: int, window: int) -> int:
    """Signed digits of `window` bits that a weight of absolute value `largest` can need."""
    count = 1
    # k digits in [-2^(w-1), 2^(w-1)) reach (2^(w-1) - 1) * (2^(wk) - 1) / (2^w - 1) upwards, the smaller side.
    while ((1 << (window - 1)) - 1) * ((1 << (window * count)) - 1) // ((1 << window) - 1) < largest:
        count += 1
    return count


def choose_window(rows: int, largest: int) -> int:
    """The digit size with the fewest multiplications: digits * (rows + 2^w), at least 2."""
    return min(range(2, 14), key=lambda w: digit_count(largest, w) * (rows + (1 << w)))


def signed_digits(weights: NDArray[np.integer[Any]], window: int, count: int) -> NDArray[np.int16]:
    """Digits in [-2^(w-1), 2^(w-1)) with weights = sum_i digits[i] * 2^(w i), shape (count, *weights.shape)."""
    rest = weights.astype(np.int64)
    half = 1 << (window - 1)
    digits = np.empty((count, *weights.shape), dtype=np.int16)
    for position in range(count):
        digit = ((rest + half) & ((1 << window) - 1)) - half
        digits[position] = digit
        rest = (rest - digit) >> window
    return digits


def _bucket_product(
    digits: list[int], values: Sequence[mpz], inverses: Sequence[mpz], window: int, modulus: mpz
) -> mpz:
    """The product of values[i] ^ digits[i]."""
    buckets: list[mpz | None] = [None] * ((1 << (window - 1)) + 1)
    for digit, value, inverse in zip(digits, values, inverses, strict=True):
        if digit > 0:
            bucket = buckets[digit]
            buckets[digit] = value if bucket is None else bucket * value % modulus
        elif digit:
            bucket = buckets[-digit]
            buckets[-digit] = inverse if bucket is None else bucket * inverse % modulus
    running: mpz | None = None
    total: mpz | None = None
    for bucket in reversed(buckets[1:]):
        if bucket is not None:
            running = bucket if running is None else running * bucket % modulus
        if running is not None:
            total = running if total is None else total * running % modulus
    return _ONE if total is None else total


def _join_shifted(terms: list[tuple[int, mpz]], modulus: mpz) -> mpz:
    """The product of term ^ (2^shift), by Horner's rule from the largest shift down."""
    result = _ONE
    previous = 0
    for shift, term in sorted(terms, key=lambda item: -item[0]):
        if result != 1:
            result = gmpy2.powmod(result, mpz(1) << (previous - shift), modulus)
        result = result * term % modulus
        previous = shift
    return gmpy2.powmod(result, mpz(1) << previous, modulus)
