"""Random powers of fixed bases from tables: one multiplication for each digit of the exponent, no squarings.

A base g with an exponent of k digits in [-2^(w-1), 2^(w-1)) has, for each digit position i, the powers g^(d
2^(wi)) for d = 1 .. 2^(w-1). Signed digits halve the table; what belongs to negative digits is collected in a
denominator, and all denominators of a batch share one inversion (Montgomery's trick).

The exponents are not given but drawn: k independent uniform digits are a uniform exponent in an interval of
2^(wk) integers. Where that interval lies is irrelevant to a distribution modulo the order of g.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import gmpy2
import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from streams.kernels.entropy import Draws
from streams.kernels.native_modulus import LEAST, native_modulus

#: Memory that the tables of one key may take, in bytes.
TABLE_BUDGET_BYTES: Final = 62_000_000

#: CPython's object header, GMP's structure and the list slot of one table entry, in bytes.
_ENTRY_OVERHEAD_BYTES: Final = 56

_ONE: Final = mpz(1)

#: Tables of one base: `tables[i][d]` is the base to the power d * 2^(w * i), d = 0 .. 2^(w-1).
Tables = list[list[mpz]]


@dataclass(frozen=True)
class Bases:
    """Tables of bases whose digits follow each other, for one call of `raise_bases`."""

    modulus: mpz
    window: int
    positions: int
    #: Lists of tables, or the native kernel's.
    tables: Sequence[Any]
    is_native: bool


@dataclass(frozen=True)
class Subsets:
    """Products of all subsets of runs of bases."""

    modulus: mpz
    positions: int
    table: Any
    is_native: bool


def prepare_bases(bases: Sequence[tuple[mpz, int]], modulus: mpz, window: int) -> Bases:
    """Tables for (base, bits of its exponents)."""
    rows = [-(-bits // window) for _, bits in bases]
    native = native_modulus(modulus, LEAST)
    if native is not None:
        tables = [native.build_table(base, window, count) for (base, _), count in zip(bases, rows, strict=True)]
        return Bases(modulus, window, sum(rows), tables, is_native=True)
    lists = [table for base, bits in bases for table in build_tables(base, modulus, bits, window)]
    return Bases(modulus, window, sum(rows), lists, is_native=False)


def prepare_subsets(bases: Sequence[mpz], modulus: mpz, window: int) -> Subsets:
    """Tables of runs of `window` bases."""
    native, positions = native_modulus(modulus, LEAST), -(-len(bases) // window)
    if native is not None:
        return Subsets(modulus, positions, native.build_subset_table(bases, window), is_native=True)
    return Subsets(modulus, positions, build_subset_tables(bases, modulus, window), is_native=False)


def raise_bases(bases: Bases, digits: NDArray[np.int16]) -> list[mpz]:
    """For each row of signed digits (count, positions) the product of the bases' powers."""
    if bases.is_native:
        native = native_modulus(bases.modulus, LEAST)
        assert native is not None
        return native.powers(bases.tables, digits) if len(digits) else []
    return divide(fractions(list(bases.tables), digits, bases.modulus), bases.modulus)


def multiply_subsets(subsets: Subsets, digits: NDArray[np.int16]) -> list[mpz]:
    """For each row of digits (count, positions) the product of the chosen subsets."""
    if subsets.is_native:
        native = native_modulus(subsets.modulus, LEAST)
        assert native is not None
        return native.subset_products(subsets.table, digits) if len(digits) else []
    return subset_products(subsets.table, digits, subsets.modulus)


def choose_window(modulus_bits: int, exponent_bits: int) -> int:
    """The widest window (bits of a digit) whose tables fit the budget; narrow for keys of tests, which are built often.

    `exponent_bits` is the total over all bases that share the budget.
    """
    entry = modulus_bits // 8 + _ENTRY_OVERHEAD_BYTES
    widest = 5 if modulus_bits < 1024 else 7 if modulus_bits < 2048 else 11
    for window in range(widest, 2, -1):
        if -(-exponent_bits // window) * (1 << (window - 1)) * entry <= TABLE_BUDGET_BYTES:
            return window
    return 2


def build_tables(base: mpz, modulus: mpz, exponent_bits: int, window: int) -> Tables:
    """Tables for exponents of at least `exponent_bits` bits."""
    tables: Tables = []
    step = base
    for _ in range(-(-exponent_bits // window)):
        row = [_ONE, step]
        for _ in range((1 << (window - 1)) - 1):
            row.append(row[-1] * step % modulus)
        tables.append(row)
        step = row[-1] * row[-1] % modulus
    return tables


def build_subset_tables(bases: Sequence[mpz], modulus: mpz, window: int) -> Tables:
    """Products of all subsets of each run of `window` bases: `tables[i][b]` with b the subset as a bit mask."""
    tables: Tables = []
    for first in range(0, len(bases), window):
        row = [_ONE]
        for base in bases[first : first + window]:
            row += [entry * base % modulus for entry in row]
        tables.append(row)
    return tables


def draw_digits(draws: Draws, count: int, positions: int, window: int, *, signed: bool) -> NDArray[np.int16]:
    """Draw uniform digits, shape (count, positions): in [-2^(w-1), 2^(w-1)) if signed, else in [0, 2^w)."""
    words = np.frombuffer(draws.bytes(2 * count * positions), dtype="<u2").reshape(count, positions)
    digits = (words & ((1 << window) - 1)).astype(np.int16)
    return digits - np.int16(1 << (window - 1)) if signed else digits


def fractions(tables: Tables, digits: NDArray[np.int16], modulus: mpz) -> list[tuple[mpz, mpz]]:
    """For each row of signed digits the power as (numerator, denominator)."""
    numerators = [_ONE] * len(digits)
    denominators = [_ONE] * len(digits)
    # One table at a time for the whole batch: a table fits the cache, all of them do not.
    for table, column in zip(tables, digits.T.tolist(), strict=True):
        for i, digit in enumerate(column):
            if digit > 0:
                numerators[i] = numerators[i] * table[digit] % modulus
            elif digit:
                denominators[i] = denominators[i] * table[-digit] % modulus
    return list(zip(numerators, denominators, strict=True))


def subset_products(tables: Tables, digits: NDArray[np.int16], modulus: mpz) -> list[mpz]:
    """For each row of unsigned digits the product of the chosen subsets."""
    totals = [_ONE] * len(digits)
    for table, column in zip(tables, digits.T.tolist(), strict=True):
        for i, digit in enumerate(column):
            totals[i] = totals[i] * table[digit] % modulus
    return totals


def divide(pairs: Sequence[tuple[mpz, mpz]], modulus: mpz) -> list[mpz]:
    """The quotients of (numerator, denominator) pairs, with one inversion for all."""
    inverses = invert_many([denominator for _, denominator in pairs], modulus)
    return [numerator * inverse % modulus for (numerator, _), inverse in zip(pairs, inverses, strict=True)]


def invert_many(values: Iterable[mpz], modulus: mpz) -> list[mpz]:
    """Invert units with one inversion and three multiplications each (Montgomery's trick).

    Raises ZeroDivisionError when a value has a factor in common with the modulus.
    """
    units = list(values)
    if (native := native_modulus(modulus, len(units))) is not None:
        return native.invert(units)
    prefixes = [_ONE]
    for unit in units:
        prefixes.append(prefixes[-1] * unit % modulus)
    running = gmpy2.invert(prefixes[-1], modulus)
    inverses = [_ONE] * len(units)
    for i in range(len(units) - 1, -1, -1):
        inverses[i] = running * prefixes[i] % modulus
        running = running * units[i] % modulus
    return inverses
