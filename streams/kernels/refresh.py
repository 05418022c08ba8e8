"""Refreshing ciphertexts toward the owner of their key.

The owner knows p, q and every randomiser that it drew, so nothing that rests on factoring hides a computed
ciphertext from it: it must be multiplied by a statistically uniform n-th residue. In particular the DJN short
cut, powers of a base that the *owner* published, gives the owner one parity of the exponent for each ciphertext
(Jacobi symbol), or all of it if it chose a bad base.

The textbook way is r^n for a uniform unit r (`textbook_residues`). The same distribution, up to 2^-62, comes
four times cheaper from

    u1^a1 * u2^a2 * (product of a uniformly random subset of v1 .. v160)

with u1, u2, v1 .. v160 n-th residues r^n of uniform r that the *sender* draws once per key, after it has seen
n, and keeps to itself. Let n = pq with any primes p, q, and G the group of n-th residues modulo n^2.

1. G is a quotient of a product of two cyclic groups, so for every prime l its l-part is Z_(l^a) x Z_(l^b) with
   a >= b, where l^b divides gcd(p-1, q-1), which is below 2^(|n|/2).
2. a1 is uniform in an interval of 2^(|n| + 64) integers, longer than 2^64 times any order in G: u1^a1 is within
   2^-65 of uniform on the group <u1>.
3. a2 is uniform in an interval of 2^(|n|/2 + 168) integers. The order of u2 in G / <u1> is at most gcd(p-1,
   q-1) * t with t = exponent(G) / order(u1). The l-part of t is l^j or more with probability l^-j at most, so
   the mean of sqrt(t) is at most the product over l of 1 + l^-1/2, which is largest if exponent(G) is the
   product of the first primes up to |n| bits: 2^19.7 at 2048 bits, 2^22.8 at 3072. So u1^a1 u2^a2 is uniform on
   H = <u1, u2> up to sqrt(2^(|n|/2) t / 2^(|n|/2 + 168)), below 2^-64 in the mean (3072 bits: 2^-61).
4. So the result is uniform on G up to how far the subset product is from uniform on Q = G / H. The leftover hash
   lemma applies with exact universality (two different subsets differ by a factor v or 1/v, uniform on Q): the
   distance, in the mean over the v, is at most sqrt(|Q| / 2^160) / 2.
5. |Q| is the cokernel of random 2 x 2 matrices over the l-adic integers, or smaller. The mean of sqrt(|Q|) is
   at most the product over l dividing gcd(p-1, q-1) of (1-1/l)(1-1/l^2) / ((1-l^-1/2)(1-l^-3/2)), times 1.6 for
   all other l. In the worst case, the gcd a product of the first primes, this is 2^16.6 at 2048 bits and 2^19
   at 3072: the distance of point 4 is below 2^-64 (3072 bits: 2^-62), whatever p and q are.

Every bound is on the distance of the pair (bases, output) in the mean over the bases, so many refreshes with one set
of bases add up: 2^20 of them stay below 2^-40. `tests/secrecy/test_refresh.py` recomputes the products.
For n = pq of safe primes Q has a handful of elements and all this is lost in the rounding. If n had more than
two prime factors, point 1 would fail: a peer that makes such a key is malicious, and the design promises
security against semi-honest peers.

-1 is an n-th residue (n is odd) and needs no treatment of its own: it is in G.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import gmpy2
from gmpy2 import mpz

from streams.kernels.ciphertexts import Ciphertext, FreshCiphertext
from streams.kernels.common_powers import raise_all
from streams.kernels.entropy import Draws, prf
from streams.kernels.fixed_base import (
    Bases,
    Subsets,
    choose_window,
    draw_digits,
    multiply_subsets,
    prepare_bases,
    prepare_subsets,
    raise_bases,
)
from streams.kernels.paillier_keys import PublicKey

#: Bits of the first exponent beyond |n| (point 2), of the second beyond |n| / 2 (point 3).
FIRST_EXTRA_BITS: Final = 64
SECOND_EXTRA_BITS: Final = 168

#: Bases of the subset product (see point 4), and how many share one table.
SUBSET_BASES: Final = 160
SUBSET_WINDOW: Final = 8


@dataclass(frozen=True)
class _Bases:
    """Tables of u1 and then u2 with the same window, and of the subsets of v1 .. v160."""

    bases: Bases
    subsets: Subsets


@lru_cache(maxsize=4)
def _bases(public: PublicKey, key: bytes) -> _Bases:
    draws = Draws(prf(key, "refresh bases", public.encode()))
    first, second, *others = textbook_residues(public, 2 + SUBSET_BASES, draws)
    exponents = (public.bits + FIRST_EXTRA_BITS, public.bits // 2 + SECOND_EXTRA_BITS)
    window = choose_window(2 * public.bits, sum(exponents))
    bases = prepare_bases(list(zip((first, second), exponents, strict=True)), public.modulus, window)
    return _Bases(bases, prepare_subsets(others, public.modulus, SUBSET_WINDOW))


def textbook_residues(public: PublicKey, count: int, draws: Draws) -> list[mpz]:
    """r^n modulo n^2 for uniform units r: the definition, about 9 ms each at 2048 bits with gmpy2."""
    roots: list[mpz] = []
    while len(roots) < count:
        root = mpz(draws.below(public.n))
        if gmpy2.gcd(root, public.modulus) == 1:
            roots.append(root)
    return raise_all(roots, public.modulus, public.modulus_squared)


class Refresher:
    """Re-randomises ciphertexts under a peer's key, from the party's own bases. Building the tables is memoised.

    `key` is 32 bytes that only this party knows, such as a PRF value of its job seed. About 2.5 ms a ciphertext
    at 2048 bits.
    """

    def __init__(self, public: PublicKey, key: bytes) -> None:
        self.public = public
        self._bases = _bases(public, key)

    def residues(self, count: int, draws: Draws) -> list[mpz]:
        """Draw `count` n-th residues modulo n^2, statistically uniform."""
        n2 = self.public.modulus_squared
        bases, subsets = self._bases.bases, self._bases.subsets
        digits = draw_digits(draws, count, bases.positions, bases.window, signed=True)
        chosen = draw_digits(draws, count, subsets.positions, SUBSET_WINDOW, signed=False)
        powers, factors = raise_bases(bases, digits), multiply_subsets(subsets, chosen)
        return [power * factor % n2 for power, factor in zip(powers, factors, strict=True)]

    def refresh_many(self, ciphertexts: Sequence[Ciphertext], draws: Draws) -> list[FreshCiphertext]:
        """Refresh: the same plaintexts, randomness independent of how the ciphertexts came about."""
        n2 = self.public.modulus_squared
        residues = self.residues(len(ciphertexts), draws)
        return [
            FreshCiphertext(ciphertext.value * residue % n2)
            for ciphertext, residue in zip(ciphertexts, residues, strict=True)
        ]

    def refresh(self, ciphertext: Ciphertext, draws: Draws) -> FreshCiphertext:
        """Refresh one ciphertext."""
        return self.refresh_many([ciphertext], draws)[0]
