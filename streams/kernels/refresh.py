"""Refreshing ciphertexts toward the owner of their key.

The owner knows p, q and every randomiser that it drew, so nothing that rests on factoring hides a computed
ciphertext from it: it must be multiplied by a statistically uniform n-th residue. In particular the DJN short
cut, powers of a base that the *owner* published, gives the owner one parity of the exponent for each ciphertext
(Jacobi symbol), or all of it if it chose a bad base.

The textbook way is r^n for a uniform unit r (`textbook_residues`). The same distribution, up to 2^-62, comes
four times cheaper from

    u1^a1 * u2^a2 * (product of a uniformly random subset of v1 .. v160)

with u1, u2, v1 .. v160 n-th residues r^n of uniform r that the *sender* draws once per key, after it has seen
n, and keeps to itself. Write G for the group of n-th residues modulo n^2, n = pq with any primes p, q:

1. The l-part of G has rank at most two for every prime l, as G is a quotient of a product of two cyclic groups.
2. a1 and a2 are uniform in intervals of 2^(|n| + 64) integers, longer than 2^64 times every order in G:
   u1^a1 u2^a2 is within 2^-63 of uniform on the subgroup H that u1 and u2 generate.
3. So the product is uniform on G up to how far the subset product is from uniform on Q = G / H. For subset
   products the leftover hash lemma applies with exact universality (two different subsets differ by a factor v
   or 1/v that is uniform on Q), so the distance, averaged over the v, is at most sqrt(|Q| / 2^160) / 2.
4. Two random elements fail to generate Q's l-part with probability about 1/l when l divides p-1 and q-1, and
   1/l^2 otherwise, and the mean of sqrt(|Q|) is at most the product over those l of (1-1/l)(1-1/l^2) /
   ((1-l^-1/2)(1-l^-3/2)) (moments of the cokernel of a random 2 x 2 matrix over the l-adic integers). In the
   worst case gcd(p-1, q-1) is the product of the first primes up to |n|/2 bits: then it is below 2^16 at 2048
   bits and below 2^19 at 3072 bits. Hence 160 bases: the mean distance is below 2^-61, whatever p and q are.

Every bound is about the pair (bases, output), so many refreshes with one set of bases add up: 2^20 of them stay
below 2^-40. For n = pq of safe primes |Q| is tiny and all this is lost in the rounding. If n had more than two
prime factors, point 1 would fail: a peer that makes such a key is a malicious one, and the design promises
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
from streams.kernels.entropy import Draws, prf
from streams.kernels.fixed_base import (
    Tables,
    build_subset_tables,
    build_tables,
    choose_window,
    divide,
    draw_digits,
    fractions,
    subset_products,
)
from streams.kernels.paillier_keys import PublicKey

#: Bits of an exponent beyond |n|.
EXTRA_BITS: Final = 64

#: Bases of the subset product (see point 4), and how many share one table.
SUBSET_BASES: Final = 160
SUBSET_WINDOW: Final = 8


@dataclass(frozen=True)
class _Bases:
    """`tables` of u1 and then u2 with the same window; `subset_tables` of v1 .. v160."""

    tables: Tables
    window: int
    subset_tables: Tables


@lru_cache(maxsize=4)
def _bases(public: PublicKey, key: bytes) -> _Bases:
    n2 = public.modulus_squared
    draws = Draws(prf(key, "refresh bases", public.encode()))
    first, second, *others = textbook_residues(public, 2 + SUBSET_BASES, draws)
    exponent_bits = public.bits + EXTRA_BITS
    window = choose_window(2 * public.bits, 2 * exponent_bits)
    tables = [table for base in (first, second) for table in build_tables(base, n2, exponent_bits, window)]
    return _Bases(tables, window, build_subset_tables(others, n2, SUBSET_WINDOW))


def textbook_residues(public: PublicKey, count: int, draws: Draws) -> list[mpz]:
    """r^n modulo n^2 for uniform units r: the definition, about 9 ms each at 2048 bits."""
    roots: list[mpz] = []
    while len(roots) < count:
        root = mpz(draws.below(public.n))
        if gmpy2.gcd(root, public.modulus) == 1:
            roots.append(root)
    residues: list[mpz] = gmpy2.powmod_base_list(roots, public.modulus, public.modulus_squared)
    return residues


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
        bases = self._bases
        digits = draw_digits(draws, count, len(bases.tables), bases.window, signed=True)
        subsets = draw_digits(draws, count, len(bases.subset_tables), SUBSET_WINDOW, signed=False)
        powers = divide(fractions(bases.tables, digits, n2), n2)
        factors = subset_products(bases.subset_tables, subsets, n2)
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
