"""Powers of many numbers by one exponent: what decryption and textbook randomisers are made of."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import gmpy2
from gmpy2 import mpz

from streams.kernels.native_modulus import native_modulus
from streams.native import kernel_threads


def raise_all(values: Sequence[mpz], exponent: mpz, modulus: mpz) -> list[mpz]:
    """value^exponent for each value, exponent from 0 on, by as many threads as a call may take."""
    if (native := native_modulus(modulus, len(values))) is not None:
        return native.power(values, exponent)
    share = -(-len(values) // kernel_threads()) or 1
    parts = [list(values[first : first + share]) for first in range(0, len(values), share)]
    if len(parts) < 2:
        return [power for part in parts for power in gmpy2.powmod_base_list(part, exponent, modulus)]
    # gmpy2 lets go of the interpreter's lock while it computes a list.
    with ThreadPoolExecutor(len(parts)) as pool:
        powers = pool.map(gmpy2.powmod_base_list, parts, itertools.repeat(exponent), itertools.repeat(modulus))
        return list(itertools.chain.from_iterable(powers))
