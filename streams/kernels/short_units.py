"""Numbers modulo n^2 as a unit below n times a power of 1 + n: a product costs little more than half.

Every unit c modulo n^2 is y (1 + n)^u = y (1 + u n) for y = c mod n and one u modulo n, because the powers of 1 + n are
the units that are 1 modulo n (Paillier 1999, section 3). So a product of many c is the product of their y times one
power of 1 + n, whose exponent is the sum of their u. A number modulo n^2 times a y of half its length takes GMP 2.6 us
at 4096 bits where two numbers of full length take 4.7, and 0.8 for 1.5 us at 2048 bits; adding u is nothing beside it.

A product of two y below n is q n + r, and so r (1 + n)^(q / r): a unit again, at the price of an inverse, which tables
of powers have at hand.

All this is about gmpy2: the native kernel keeps numbers by their two digits to the base n.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gmpy2 import f_divmod, mpz

from streams.kernels.inverses import invert_many

#: CPython's object header, GMP's structure and the list slot of one number in a table, in bytes.
OVERHEAD_BYTES: Final = 56

_ONE: Final = mpz(1)


@dataclass(frozen=True, slots=True)
class ShortUnit:
    """`unit` * (1 + root)^`exponent` modulo root^2, all below the root; `inverse` is that of the unit modulo root."""

    unit: mpz
    exponent: mpz
    inverse: mpz


@dataclass(frozen=True, slots=True)
class ShortPowers:
    """Powers of a number: b^d is `units[d]` * (1 + root)^`exponents[d]`, for negative d from the ends of the lists."""

    units: list[mpz]
    exponents: list[mpz]


def split_units(values: Sequence[mpz], root: mpz) -> list[ShortUnit]:
    """Numbers modulo root^2 as short units, with one inversion for all.

    Raises ZeroDivisionError when a value has a factor in common with the root.
    """
    digits = [f_divmod(value, root) for value in values]
    inverses = invert_many([low for _, low in digits], root)
    return [
        ShortUnit(low, high * inverse % root, inverse) for (high, low), inverse in zip(digits, inverses, strict=True)
    ]


def invert_unit(base: ShortUnit, root: mpz) -> ShortUnit:
    """The inverse modulo root^2."""
    # y y' = 1 + k n is (1 + n)^k, so that the inverse of y (1 + n)^u is y' (1 + n)^(-k - u).
    return ShortUnit(base.inverse, (-base.exponent - base.unit * base.inverse // root) % root, base.unit)


def list_powers(base: ShortUnit, most: int, root: mpz, *, signed: bool) -> ShortPowers:
    """The powers 0 .. `most` of a number; if `signed`, -`most` .. -1 behind them."""
    units, exponents, inverses = [_ONE, base.unit], [mpz(0), base.exponent], [_ONE, base.inverse]
    for _ in range(most - 1):
        carry, unit = f_divmod(units[-1] * base.unit, root)
        inverse = inverses[-1] * base.inverse % root
        units.append(unit)
        inverses.append(inverse)
        exponents.append((exponents[-1] + base.exponent + carry * inverse) % root)
    if signed:
        for d in range(most, 0, -1):
            exponents.append(-(exponents[d] + units[d] * inverses[d] // root) % root)
        units += inverses[:0:-1]
    return ShortPowers(units, exponents)


def square_repeatedly(value: mpz, count: int, root: mpz) -> mpz:
    """value^(2^count) modulo root^2, by two digits to the base root: 3.3 us a square at 4096 bits instead of 4.5."""
    if value == 1 or not count:
        return value
    high, low = f_divmod(value, root)
    for _ in range(count):
        carry, square = f_divmod(low * low, root)
        high = ((low * high << 1) + carry) % root
        low = square
    return high * root + low


def join_unit(product: mpz, exponent: mpz, root: mpz) -> mpz:
    """product * (1 + root)^exponent modulo root^2; the product may have any length, the exponent any size and sign."""
    return product * (_ONE + exponent % root * root) % (root * root)
