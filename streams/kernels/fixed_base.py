"""Random powers of fixed bases from tables: one multiplication for each digit of the exponent, no squarings.

A base g with an exponent of k digits in [-2^(w-1), 2^(w-1)) has, for each digit position i, the powers g^(d
2^(wi)) for d = 1 .. 2^(w-1). Signed digits halve the table; what belongs to negative digits is collected in a
denominator, and all denominators of a batch share one inversion (Montgomery's trick).

Moduli are squares, p^2 or n^2. With gmpy2 tables hold short units (`streams.kernels.short_units`), half as long.

The exponents are not given but drawn: k independent uniform digits are a uniform exponent in an interval of
2^(wk) integers. Where that interval lies is irrelevant to a distribution modulo the order of g.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from streams.kernels.entropy import Draws
from streams.kernels.inverses import invert_many
from streams.kernels.native_modulus import LEAST, native_modulus
from streams.kernels.short_units import OVERHEAD_BYTES, ShortPowers, join_unit, list_powers, split_units

#: Memory that the tables of one key may take, in bytes, if their numbers were whole: with gmpy2 they are cut in two,
#: and take another `OVERHEAD_BYTES` each. Both paths have equal windows, because those decide what is drawn.
TABLE_BUDGET_BYTES: Final = 62_000_000

_ONE: Final = mpz(1)


@dataclass(frozen=True)
class Bases:
    """Tables of bases whose digits follow each other, for one call of `raise_bases`."""

    #: The modulus is its square.
    root: mpz
    window: int
    positions: int
    #: `ShortPowers` for each digit, or the native kernel's tables.
    tables: Sequence[Any]
    is_native: bool


@dataclass(frozen=True)
class Subsets:
    """Products of all subsets of runs of bases."""

    root: mpz
    positions: int
    #: `ShortPowers` for each run, or the native kernel's table.
    table: Any
    is_native: bool


def prepare_bases(bases: Sequence[tuple[mpz, int]], root: mpz, window: int) -> Bases:
    """Tables modulo root^2 for (base, bits of its exponents)."""
    rows = [-(-bits // window) for _, bits in bases]
    native = native_modulus(root * root, LEAST)
    if native is not None:
        tables = [native.build_table(base, window, count) for (base, _), count in zip(bases, rows, strict=True)]
        return Bases(root, window, sum(rows), tables, is_native=True)
    lists = [
        table for (base, _), count in zip(bases, rows, strict=True) for table in _tables(base, root, count, window)
    ]
    return Bases(root, window, sum(rows), lists, is_native=False)


def prepare_subsets(bases: Sequence[mpz], root: mpz, window: int) -> Subsets:
    """Tables modulo root^2 of runs of `window` bases."""
    native, positions = native_modulus(root * root, LEAST), -(-len(bases) // window)
    if native is not None:
        return Subsets(root, positions, native.build_subset_table(bases, window), is_native=True)
    return Subsets(root, positions, _subset_tables(bases, root, window), is_native=False)


def raise_bases(bases: Bases, digits: NDArray[np.int16]) -> list[mpz]:
    """For each row of signed digits (count, positions) the product of the bases' powers."""
    if not bases.is_native:
        return _multiply_powers(bases.tables, digits, bases.root)
    native = native_modulus(bases.root * bases.root, LEAST)
    assert native is not None
    return native.powers(bases.tables, digits) if len(digits) else []


def multiply_subsets(subsets: Subsets, digits: NDArray[np.int16]) -> list[mpz]:
    """For each row of digits (count, positions) the product of the chosen subsets."""
    if not subsets.is_native:
        return _multiply_powers(subsets.table, digits, subsets.root)
    native = native_modulus(subsets.root * subsets.root, LEAST)
    assert native is not None
    return native.subset_products(subsets.table, digits) if len(digits) else []


def choose_window(modulus_bits: int, exponent_bits: int) -> int:
    """The widest window (bits of a digit) whose tables fit the budget; narrow for keys of tests, which are built often.

    `exponent_bits` is the total over all bases that share the budget.
    """
    entry = modulus_bits // 8 + OVERHEAD_BYTES
    widest = 5 if modulus_bits < 1024 else 7 if modulus_bits < 2048 else 11
    for window in range(widest, 2, -1):
        if -(-exponent_bits // window) * (1 << (window - 1)) * entry <= TABLE_BUDGET_BYTES:
            return window
    return 2


def draw_digits(draws: Draws, count: int, positions: int, window: int, *, signed: bool) -> NDArray[np.int16]:
    """Draw uniform digits, shape (count, positions): in [-2^(w-1), 2^(w-1)) if signed, else in [0, 2^w)."""
    words = np.frombuffer(draws.bytes(2 * count * positions), dtype="<u2").reshape(count, positions)
    digits = (words & ((1 << window) - 1)).astype(np.int16)
    return digits - np.int16(1 << (window - 1)) if signed else digits


def _tables(base: mpz, root: mpz, positions: int, window: int) -> list[ShortPowers]:
    """The powers 0 .. 2^(w-1) of base^(2^(w i)) for each digit position i."""
    tables: list[ShortPowers] = []
    half, modulus = 1 << (window - 1), root * root
    for _ in range(positions):
        (step,) = split_units([base], root)
        tables.append(list_powers(step, half, root, signed=False))
        last = join_unit(tables[-1].units[half], tables[-1].exponents[half], root)
        base = last * last % modulus
    return tables


def _subset_tables(bases: Sequence[mpz], root: mpz, window: int) -> list[ShortPowers]:
    """Products of all subsets of each run of `window` bases, a subset being an index as a bit mask."""
    tables: list[ShortPowers] = []
    modulus = root * root
    for first in range(0, len(bases), window):
        row = [mpz(1)]
        for base in bases[first : first + window]:
            row += [entry * base % modulus for entry in row]
        short = split_units(row, root)
        tables.append(ShortPowers([each.unit for each in short], [each.exponent for each in short]))
    return tables


def _multiply_powers(tables: Sequence[ShortPowers], digits: NDArray[np.int16], root: mpz) -> list[mpz]:
    """For each row of digits the product of what it chooses from the tables; what is negative divides."""
    modulus = root * root
    numerators, denominators = [mpz(1)] * len(digits), [mpz(1)] * len(digits)
    exponents = [mpz(0)] * len(digits)
    # One table at a time for the whole batch: a table fits the cache, all of them do not.
    for table, column in zip(tables, digits.T.tolist(), strict=True):
        units, shares = table.units, table.exponents
        for i, digit in enumerate(column):
            if digit > 0:
                numerators[i] = numerators[i] * units[digit] % modulus
                exponents[i] += shares[digit]
            elif digit:
                denominators[i] = denominators[i] * units[-digit] % modulus
                exponents[i] -= shares[-digit]
    if digits.size and digits.min() < 0:
        inverses = invert_many(denominators, modulus)
        numerators = [a * b % modulus for a, b in zip(numerators, inverses, strict=True)]
    return [join_unit(product, exponent, root) for product, exponent in zip(numerators, exponents, strict=True)]
