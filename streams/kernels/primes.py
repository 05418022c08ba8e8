"""Safe primes from a stream of draws, found by sieving p' and 2p'+1 together."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import gmpy2
import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from streams.kernels.entropy import Draws

#: Smallest size of a safe prime here, in bits; below it the sieve's primes would strike the candidates themselves.
MIN_PRIME_BITS: Final = 32

#: Candidates p' per sieve, all odd: a safe prime of 1024 bits is met every 1.9e5 of them on average.
_SIEVE_WIDTH: Final = 1 << 16

#: Rounds of `is_prime`: Baillie-PSW and then Miller-Rabin, error below 4^-(rounds - 24) even for chosen numbers.
_ROUNDS: Final = 64


@lru_cache(maxsize=4)
def small_primes(limit: int) -> NDArray[np.int64]:
    """All primes below `limit`."""
    flags = np.ones(limit, dtype=bool)
    flags[:2] = False
    for i in range(2, int(limit**0.5) + 1):
        if flags[i]:
            flags[i * i :: i] = False
    return np.flatnonzero(flags).astype(np.int64)


def draw_safe_prime(draws: Draws, bits: int) -> mpz:
    """Draw a safe prime p = 2p' + 1 with exactly `bits` bits, the two highest of them set.

    The first safe prime at or after a random start, so primes after long gaps are more likely, as in all
    incremental generators; the loss of entropy is below one bit (Brandt, Damgard 1992).
    """
    if bits < MIN_PRIME_BITS:
        raise ValueError(f"a safe prime needs at least {MIN_PRIME_BITS} bits here, not {bits}")
    limit = 1 << min(18, bits // 2 - 1)
    top = mpz(3) << (bits - 3)
    while True:
        start = top | mpz(draws.bits(bits - 3)) | 1
        for offset in _survivors(start, limit):
            half = start + 2 * offset
            if half.bit_length() == bits - 1 and _is_safe(half):
                return 2 * half + 1


def _survivors(start: mpz, limit: int) -> list[int]:
    """Offsets k for which neither start + 2k nor 2(start + 2k) + 1 has an odd prime factor below `limit`."""
    alive = np.ones(_SIEVE_WIDTH, dtype=bool)
    for prime in small_primes(limit)[1:].tolist():
        residue = int(start % prime)
        inverse_two = (prime + 1) // 2
        alive[(-residue * inverse_two) % prime :: prime] = False
        alive[(((prime - 1) * inverse_two - residue) * inverse_two) % prime :: prime] = False
    survivors: list[int] = np.flatnonzero(alive).tolist()
    return survivors


def _is_safe(half: mpz) -> bool:
    """Whether `half` and 2 * half + 1 are prime; the cheap Fermat tests come first."""
    prime = 2 * half + 1
    if gmpy2.powmod(2, half - 1, half) != 1 or gmpy2.powmod(2, prime - 1, prime) != 1:
        return False
    return bool(gmpy2.is_prime(half, _ROUNDS) and gmpy2.is_prime(prime, _ROUNDS))
