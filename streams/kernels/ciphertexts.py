"""Ciphertexts, their arithmetic, and the rule that only fresh ones leave the party.

A sum or product of ciphertexts carries the randomness of its inputs. The key owner knows that randomness and
can verify a guess of every exponent that was used, so a computed ciphertext must be refreshed before it is
sent. The types say so: arithmetic gives a `Ciphertext`, `encode_ciphertexts` takes `FreshCiphertext` only, and
only encryption and refresh make those.

Laws, with D the decryption and all plaintexts modulo n
- D(add(a, b)) = D(a) + D(b), D(add_plain(a, m)) = D(a) + m, D(scale(a, k)) = k D(a), D(product(c)) = sum of D(c_i).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import gmpy2
from gmpy2 import mpz

from streams.kernels.paillier_keys import PublicKey

_ONE: Final = mpz(1)


@dataclass(frozen=True, slots=True)
class Ciphertext:
    """A unit modulo n^2 whose randomness may tell the key owner how it was computed: keep it, or refresh it."""

    value: mpz


@dataclass(frozen=True, slots=True)
class FreshCiphertext(Ciphertext):
    """A ciphertext whose randomness is independent of everything: may be sent. Made by encryption and refresh only."""


def add(public: PublicKey, a: Ciphertext, b: Ciphertext) -> Ciphertext:
    """Add two plaintexts under encryption."""
    return Ciphertext(a.value * b.value % public.modulus_squared)


def add_plain(public: PublicKey, a: Ciphertext, plaintext: int) -> Ciphertext:
    """Add a known number to the plaintext."""
    n = public.modulus
    return Ciphertext(a.value * (_ONE + plaintext % n * n) % public.modulus_squared)


def scale(public: PublicKey, a: Ciphertext, factor: int) -> Ciphertext:
    """Multiply the plaintext by a known integer of any sign: the work grows with the size of |factor|, not of n."""
    n2 = public.modulus_squared
    if factor < 0:
        return Ciphertext(gmpy2.powmod(gmpy2.invert(a.value, n2), -factor, n2))
    return Ciphertext(gmpy2.powmod(a.value, factor, n2))


def product(public: PublicKey, ciphertexts: Iterable[Ciphertext]) -> Ciphertext:
    """Add all plaintexts; the empty product is the trivial ciphertext of 0."""
    n2 = public.modulus_squared
    total = _ONE
    for ciphertext in ciphertexts:
        total = total * ciphertext.value % n2
    return Ciphertext(total)


def encode_ciphertexts(public: PublicKey, ciphertexts: Sequence[FreshCiphertext]) -> bytes:
    """Join ciphertexts, `public.ciphertext_bytes` big-endian bytes each. Refuses what was not refreshed (TypeError)."""
    for index, ciphertext in enumerate(ciphertexts):
        if not isinstance(ciphertext, FreshCiphertext):
            raise TypeError(
                f"ciphertext {index} of {len(ciphertexts)} is a result of arithmetic; refresh it before it is sent"
            )
    return join_ciphertexts(public, ciphertexts)


def join_ciphertexts(public: PublicKey, ciphertexts: Sequence[Ciphertext]) -> bytes:
    """Join ciphertexts of any kind for the party's *own* state; for a peer there is `encode_ciphertexts`."""
    width = public.ciphertext_bytes
    return b"".join(int(ciphertext.value).to_bytes(width, "big") for ciphertext in ciphertexts)


def decode_ciphertexts(public: PublicKey, data: bytes) -> list[Ciphertext]:
    """Split joined ciphertexts and check that each is a unit modulo n^2; ValueError otherwise.

    The result is not fresh: sending a received ciphertext on would show where it came from.
    """
    width = public.ciphertext_bytes
    count, rest = divmod(len(data), width)
    if rest:
        raise ValueError(f"joined ciphertexts have {width} bytes each, but {len(data)} bytes came: {rest} too many")
    ciphertexts = [Ciphertext(mpz(int.from_bytes(data[width * i : width * (i + 1)], "big"))) for i in range(count)]
    n = public.modulus
    common = _ONE
    for index, ciphertext in enumerate(ciphertexts):
        if not 0 < ciphertext.value < public.modulus_squared:
            raise ValueError(f"ciphertext {index} of {count} is not in (0, n^2)")
        common = common * ciphertext.value % n
    if gmpy2.gcd(common, n) != 1:
        raise ValueError("a ciphertext has a factor in common with the modulus")
    return ciphertexts
