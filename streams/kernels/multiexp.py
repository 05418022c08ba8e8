"""Many products of powers of the same ciphertexts: X^T applied to an encrypted vector.

Two ways. Where every ciphertext meets many columns, slots and digits, it gets a table of its powers, and one walk from
the highest digit to the lowest multiplies what the digits choose (Straus 1964). Where it meets few, the ciphertexts of
a digit position are multiplied into one bucket for each |digit|, and the buckets are joined by running products
(Pippenger 1980; Bernstein, Doumen, Lange, Oosterwijk 2012). Digits are signed. With gmpy2 the factors are half as long
as a ciphertext (`streams.kernels.short_units`); what is squared, and what joins buckets, is not. The native kernel has
buckets for columns and tables for runs of rows.

The run time depends on the weights; it is visible to the party itself only as far as the machine is its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

import gmpy2
import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from streams.kernels.ciphertexts import Ciphertext
from streams.kernels.inverses import invert_many
from streams.kernels.native_modulus import NativeModulus, native_modulus
from streams.kernels.paillier_keys import PublicKey
from streams.kernels.short_units import (
    OVERHEAD_BYTES,
    ShortUnit,
    invert_unit,
    join_unit,
    list_powers,
    split_units,
    square_repeatedly,
)

#: Largest |weight|: digits are computed in int64 with a carry.
MAX_WEIGHT: Final = 1 << 61

#: Bits of a digit in `combined_powers`, with the native kernel and with gmpy2, for which powers in a table cost more
#: than products with them: tables of 16 and 8 entries a row pay for 4 digits and more in each of 4 or more slots.
_NATIVE_WINDOW: Final = 4
_SHORT_WINDOW: Final = 3

#: Bytes that the tables of all ciphertexts of a call may take; beyond it there are buckets.
_TABLE_BYTES: Final = 64_000_000

#: What gmpy2 takes for a product by a short unit and for a power and its inverse in a table, in products modulo n^2.
_SHORT_COST: Final = 0.56
_ENTRY_COST: Final = 1.44

#: Multiplies what the digits of one place choose into a product, and adds to its exponent of 1 + n.
_Multiply = Callable[[mpz, mpz, Sequence[int]], tuple[mpz, mpz]]

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
    values = [ciphertext.value for ciphertext in ciphertexts]
    if (native := native_modulus(n2, rows)) is not None:
        window = choose_window(rows, largest)
        is_signed = int(weights.min()) < 0 or bool(largest >> (window - 1))
        digits = signed_digits(weights, window, digit_count(largest, window))
        products = _slotted_natively(native, values, digits, shifts, window, is_signed=is_signed)
        return [Ciphertext(product) for product in products]
    window, has_tables = choose_method(rows, largest, slots * features, public.bits)
    digits = signed_digits(weights, window, digit_count(largest, window))
    places = _order_places(shifts, len(digits), window)
    root = public.modulus
    multiply = _prepare(split_units(values, root), window, root, has_tables=has_tables)
    return [
        Ciphertext(_walk([(shift, digits[i, :, k, j].tolist()) for shift, i, k in places], multiply, root))
        for j in range(features)
    ]


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
    native = native_modulus(n2, -(-rows // rows_per_product))
    window = _SHORT_WINDOW if native is None else _NATIVE_WINDOW
    digits = signed_digits(coefficients, window, digit_count(largest, window))
    places = _order_places(shifts, len(digits), window)
    values = [ciphertext.value for ciphertext in ciphertexts]
    if native is not None:
        gaps = [0, *(high[0] - low[0] for high, low in itertools.pairwise(places))]
        chosen = np.stack([digits[position, :, slot] for _, position, slot in places])
        combined = native.combine(values, rows_per_product, gaps, chosen, places[-1][0])
        return [Ciphertext(product) for product in combined]
    root = public.modulus
    units = split_units(values, root)
    results = []
    for first in range(0, rows, rows_per_product):
        run = slice(first, first + rows_per_product)
        multiply = _prepare(units[run], window, root, has_tables=True)
        columns = [(shift, digits[position, run, slot].tolist()) for shift, position, slot in places]
        results.append(Ciphertext(_walk(columns, multiply, root)))
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
    places = _order_places(shifts, positions, window)
    gaps = [0, *(high[0] - low[0] for high, low in itertools.pairwise(places))]
    order = [(slot * positions + position, gap) for (_, position, slot), gap in zip(places, gaps, strict=True)]
    # (positions, rows, slots, features) -> (rows, features, slots and positions)
    flat = digits.transpose(1, 3, 2, 0).reshape(digits.shape[1], digits.shape[3], slots * positions)
    return native.slotted(values, flat, 1 << (window - 1), order, places[-1][0], is_signed=is_signed)


def _order_places(shifts: Sequence[int], positions: int, window: int) -> list[tuple[int, int, int]]:
    """(bits above the lowest, digit position, slot) of all digits of a weight, the highest first."""
    places = (
        (shift + window * position, position, slot)
        for slot, shift in enumerate(shifts)
        for position in range(positions)
    )
    return sorted(places, reverse=True)


def digit_count(largest: int, window: int) -> int:
    """Signed digits of `window` bits that a weight of absolute value `largest` can need."""
    half, count, below = 1 << (window - 1), 1, 0
    # The highest digit is at most 2^(w-1), those below at most 2^(w-1) - 1: upwards, the smaller side.
    while (half << (window * (count - 1))) + below < largest:
        below = (below << window) + half - 1
        count += 1
    return count


def choose_window(rows: int, largest: int) -> int:
    """The digit size with the fewest multiplications into buckets: digits * (rows + 2^w), at least 2."""
    return min(range(2, 14), key=lambda w: digit_count(largest, w) * (rows + (1 << w)))


def choose_method(rows: int, largest: int, columns: int, bits: int) -> tuple[int, bool]:
    """The digit size with the least work for gmpy2, and whether tables need less of it than buckets.

    `columns` is how many weights each ciphertext meets, `bits` the length of n.
    """

    def cost(choice: tuple[int, bool]) -> float:
        window, has_tables = choice
        products = columns * digit_count(largest, window)
        if not has_tables:
            return products * (_SHORT_COST * rows + (1 << window))
        if (rows << window) * 2 * (bits // 8 + OVERHEAD_BYTES) > _TABLE_BYTES:
            return float("inf")
        return rows * (_SHORT_COST * products + _ENTRY_COST * (1 << window - 1))

    return min(((window, has_tables) for window in range(2, 14) for has_tables in (False, True)), key=cost)


def signed_digits(weights: NDArray[np.integer[Any]], window: int, count: int) -> NDArray[np.int16]:
    """Digits with weights = sum_i digits[i] * 2^(w i), shape (count, *weights.shape).

    They are in [-2^(w-1), 2^(w-1)), and the highest one may be 2^(w-1) as well.
    """
    rest = weights.astype(np.int64)
    half = 1 << (window - 1)
    digits = np.empty((count, *weights.shape), dtype=np.int16)
    for position in range(count - 1):
        digit = ((rest + half) & ((1 << window) - 1)) - half
        digits[position] = digit
        rest = (rest - digit) >> window
    digits[-1] = rest
    return digits


def _prepare(units: Sequence[ShortUnit], window: int, root: mpz, *, has_tables: bool) -> _Multiply:
    """What multiplies the powers of these numbers by digits of that many bits into a product."""
    modulus = root * root
    if not has_tables:
        return partial(_multiply_by_buckets, units, [invert_unit(unit, root) for unit in units], window, modulus)
    tables = [list_powers(unit, 1 << (window - 1), root, signed=True) for unit in units]
    return partial(_multiply_from_tables, [each.units for each in tables], [each.exponents for each in tables], modulus)


def _walk(places: Iterable[tuple[int, Sequence[int]]], multiply: _Multiply, root: mpz) -> mpz:
    """The product of all powers modulo root^2, by Horner's rule over (shift, digits), the highest shift first."""
    total, exponent, previous = _ONE, mpz(0), 0
    for shift, digits in places:
        if exponent or total != 1:
            total, exponent = square_repeatedly(total, previous - shift, root), exponent << (previous - shift)
        total, exponent = multiply(total, exponent, digits)
        previous = shift
    return join_unit(square_repeatedly(total, previous, root), exponent << previous, root)


def _multiply_from_tables(
    units: Sequence[list[mpz]],
    exponents: Sequence[list[mpz]],
    modulus: mpz,
    total: mpz,
    exponent: mpz,
    digits: Sequence[int],
) -> tuple[mpz, mpz]:
    for powers, shares, digit in zip(units, exponents, digits, strict=True):
        if digit:
            total = total * powers[digit] % modulus
            exponent += shares[digit]
    return total, exponent


def _multiply_by_buckets(
    units: Sequence[ShortUnit],
    inverses: Sequence[ShortUnit],
    window: int,
    modulus: mpz,
    total: mpz,
    exponent: mpz,
    digits: Sequence[int],
) -> tuple[mpz, mpz]:
    buckets: list[mpz | None] = [None] * ((1 << (window - 1)) + 1)
    for digit, unit, inverse in zip(digits, units, inverses, strict=True):
        if digit:
            size, factor = (digit, unit) if digit > 0 else (-digit, inverse)
            bucket = buckets[size]
            buckets[size] = factor.unit if bucket is None else bucket * factor.unit % modulus
            exponent += size * factor.exponent
    running: mpz | None = None
    for bucket in reversed(buckets[1:]):
        if bucket is not None:
            running = bucket if running is None else running * bucket % modulus
        if running is not None:
            total = total * running % modulus
    return total, exponent
