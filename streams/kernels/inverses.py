"""Inverses of many numbers for the price of one and three products each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import gmpy2
from gmpy2 import mpz

from streams.kernels.native_modulus import native_modulus

_ONE: Final = mpz(1)


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
