"""Paillier keys (Paillier, Eurocrypt 1999) with generator n + 1, from safe primes, derived from a 32-byte key."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

import gmpy2
from gmpy2 import mpz

from streams.kernels.entropy import Draws, prf
from streams.kernels.primes import MIN_PRIME_BITS, draw_safe_prime, small_primes

#: Primes below this must not divide a peer's modulus.
SMALL_FACTOR_LIMIT: Final = 1 << 16


@dataclass(frozen=True)
class PublicKey:
    """The modulus. Plaintexts are signed integers in (-n/2, n/2), ciphertexts are units modulo n^2."""

    n: int

    @cached_property
    def modulus(self) -> mpz:
        """n as a GMP integer."""
        return mpz(self.n)

    @cached_property
    def modulus_squared(self) -> mpz:
        """n^2 as a GMP integer."""
        return self.modulus**2

    @property
    def bits(self) -> int:
        """Bits of n."""
        return self.n.bit_length()

    @property
    def modulus_bytes(self) -> int:
        """Bytes of n, big-endian, on the wire."""
        return (self.bits + 7) // 8

    @property
    def ciphertext_bytes(self) -> int:
        """Bytes of one ciphertext on the wire."""
        return (2 * self.bits + 7) // 8

    def encode(self) -> bytes:
        """The modulus, big-endian, without leading zeros."""
        return self.n.to_bytes(self.modulus_bytes, "big")

    @staticmethod
    def decode(data: bytes, bits: int) -> PublicKey:
        """Read a peer's modulus and check it; raises ValueError (see `sanity_check_modulus`)."""
        n = int.from_bytes(data, "big")
        sanity_check_modulus(n, bits)
        return PublicKey(n)


@dataclass(frozen=True, repr=False)
class PrivateKey:
    """Two distinct safe primes of equal size. Never printed: `repr` shows the size only."""

    p: int
    q: int

    def __repr__(self) -> str:
        return f"PrivateKey(<{self.public.bits} bits>)"

    @cached_property
    def public(self) -> PublicKey:
        """The public half."""
        return PublicKey(self.p * self.q)


@lru_cache(maxsize=16)
def generate_keys(key: bytes, bits: int) -> PrivateKey:
    """Derive a key pair whose modulus has exactly `bits` bits. Equal input gives equal keys; about 2 s at 2048 bits.

    p = 2p' + 1 and q = 2q' + 1 with p', q' prime, hence p = q = 3 mod 4 and gcd(n, phi(n)) = 1. Sizes below 2048 are
    for tests and simulation: the callers' profiles decide what a job may use.
    """
    if bits % 2 or bits < 2 * MIN_PRIME_BITS:
        raise ValueError(f"a Paillier modulus needs an even size of at least {2 * MIN_PRIME_BITS} bits, not {bits}")
    draws = Draws(prf(key, "paillier primes", bits))
    p = draw_safe_prime(draws, bits // 2)
    q = draw_safe_prime(draws, bits // 2)
    while q == p:
        q = draw_safe_prime(draws, bits // 2)
    return PrivateKey(int(p), int(q))


def sanity_check_modulus(n: int, bits: int) -> None:
    """Refuse a malformed modulus of a peer: wrong size, a prime factor below 2^16, a square, a prime.

    This catches mistakes and lazy attacks. It does not prove that n = pq; `Refresher` states what follows from that.
    """
    if n.bit_length() != bits:
        raise ValueError(f"the peer's Paillier modulus has {n.bit_length()} bits, but the job says {bits}")
    for prime in small_primes(SMALL_FACTOR_LIMIT).tolist():
        if n % prime == 0:
            raise ValueError(f"the peer's Paillier modulus is divisible by {prime}; it must make a new key")
    if gmpy2.is_square(mpz(n)):
        raise ValueError("the peer's Paillier modulus is a square; it must make a new key")
    if gmpy2.is_prime(mpz(n)):
        raise ValueError("the peer's Paillier modulus is prime; it must make a new key")
