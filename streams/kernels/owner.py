"""What only the key owner can do: encryption at table speed, by default with exact randomisers, and decryption.

Encryption. The n-th residues modulo p^2 are the subgroup of order p - 1, and r -> r^n maps the units modulo n
onto the product of these subgroups for p and q. So instead of r^n the owner draws h_p^e modulo p^2 with h_p a
generator of the subgroup and e uniform in an interval of at least 2^(|p| + 64) integers, the same for q, and
joins the two by the Chinese remainder theorem. The result is within 2^-63 of textbook Paillier in statistical
distance, for every single ciphertext; no assumption about short exponents. That h_p generates is checked: p - 1
= 2p' has four divisors. In the other profiles (`streams.kernels.key_profiles`) both exponents are the same one, and
h_p and h_q are the residues of one base.

Decryption is Paillier's, modulo p^2 and q^2 (Paillier 1999, section 7).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import gmpy2
from gmpy2 import mpz

from schemas.profiles import KeyProfile
from streams.kernels.ciphertexts import Ciphertext, FreshCiphertext
from streams.kernels.common_powers import raise_all
from streams.kernels.entropy import Draws
from streams.kernels.fixed_base import Bases, choose_window, draw_digits, prepare_bases, raise_bases
from streams.kernels.key_profiles import djn_base, exponent_bits
from streams.kernels.paillier_keys import PrivateKey

_ONE: Final = mpz(1)


@dataclass(frozen=True)
class _Half:
    """Constants of one prime: tables of the base modulo `square` = prime^2."""

    square: mpz
    bases: Bases


def residue_generator(prime: mpz) -> mpz:
    """A generator of the subgroup of order prime - 1 modulo prime^2, for a safe prime."""
    half = (prime - 1) // 2
    if not gmpy2.is_prime(half):
        raise ValueError("a factor of the modulus is not a safe prime, so no generator can be checked; make a new key")
    root = mpz(2)
    # The order of `root` divides 2 * half with half prime: it is 2 * half unless root^2 = 1 or root^half = 1.
    while root * root % prime == 1 or gmpy2.powmod(root, half, prime) == 1:
        root += 1
    return gmpy2.powmod(root, prime, prime * prime)


@lru_cache(maxsize=4)
def _halves(private: PrivateKey, profile: KeyProfile) -> tuple[_Half, _Half]:
    bits = exponent_bits(profile, private.public.bits)
    window = choose_window(private.public.bits, 2 * bits)
    base = None if profile is KeyProfile.EXACT else djn_base(private.public)

    def build(prime: mpz) -> _Half:
        square = prime * prime
        own = residue_generator(prime) if base is None else base % square
        return _Half(square, prepare_bases([(own, bits)], prime, window))

    return build(mpz(private.p)), build(mpz(private.q))


class OwnerEncryptor:
    """Encrypts under the party's own key. Building the tables (0.4 s or less at 2048 bits) is memoised by key."""

    def __init__(self, private: PrivateKey, profile: KeyProfile = KeyProfile.EXACT) -> None:
        self.public = private.public
        self.profile = profile
        self._halves = _halves(private, profile)
        p2, q2 = (half.square for half in self._halves)
        self._q2_inverse = gmpy2.invert(q2, p2)

    def residues(self, count: int, draws: Draws) -> list[mpz]:
        """Draw `count` n-th residues modulo n^2, as the profile says: what an encryption of 0 is."""
        (half_p, half_q) = self._halves
        digits = [
            draw_digits(draws, count, half.bases.positions, half.bases.window, signed=True)
            for half in (self._halves if self.profile is KeyProfile.EXACT else self._halves[:1])
        ]
        roots = [raise_bases(half.bases, own) for half, own in zip(self._halves, (digits[0], digits[-1]), strict=True)]
        p2, q2 = half_p.square, half_q.square
        inverse = self._q2_inverse
        return [b + q2 * ((a - b) * inverse % p2) for a, b in zip(*roots, strict=True)]

    def encrypt_many(self, plaintexts: Sequence[int], draws: Draws) -> list[FreshCiphertext]:
        """Encrypt signed integers of absolute value below n / 2; ValueError names the first that does not fit."""
        n, n2 = self.public.modulus, self.public.modulus_squared
        half = n // 2
        for index, plaintext in enumerate(plaintexts):
            if not -half <= plaintext <= half:
                raise ValueError(f"plaintext {index} of {len(plaintexts)} does not fit in {self.public.bits} bits")
        return [
            FreshCiphertext(residue * (_ONE + plaintext % n * n) % n2)
            for plaintext, residue in zip(plaintexts, self.residues(len(plaintexts), draws), strict=True)
        ]

    def encrypt(self, plaintext: int, draws: Draws) -> FreshCiphertext:
        """Encrypt one integer."""
        return self.encrypt_many([plaintext], draws)[0]


def decrypt_many(private: PrivateKey, ciphertexts: Sequence[Ciphertext]) -> list[int]:
    """Decrypt to signed integers in (-n/2, n/2)."""
    p, q = mpz(private.p), mpz(private.q)
    n = p * q
    values = [ciphertext.value for ciphertext in ciphertexts]
    modulo_p = _decrypt_half(values, p, q)
    modulo_q = _decrypt_half(values, q, p)
    inverse = gmpy2.invert(q, p)
    half = n // 2
    plaintexts = []
    for a, b in zip(modulo_p, modulo_q, strict=True):
        plaintext = b + q * ((a - b) * inverse % p)
        plaintexts.append(int(plaintext - n if plaintext > half else plaintext))
    return plaintexts


def decrypt(private: PrivateKey, ciphertext: Ciphertext) -> int:
    """Decrypt one ciphertext to a signed integer in (-n/2, n/2)."""
    return decrypt_many(private, [ciphertext])[0]


def _decrypt_half(values: Sequence[mpz], prime: mpz, other: mpz) -> list[mpz]:
    """Plaintexts modulo `prime`: L(c^(prime-1)) / L((1+n)^(prime-1)) with L(x) = (x - 1) / prime.

    (1 + n)^(prime-1) = 1 + (prime-1) n modulo prime^2, so the divisor is (prime-1) * other = -other modulo prime.
    """
    square = prime * prime
    factor = gmpy2.invert(-other, prime)
    powers = raise_all([value % square for value in values], prime - 1, square)
    return [(power - 1) // prime * factor % prime for power in powers]
