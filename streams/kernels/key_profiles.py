"""How the owner of a key draws the randomisers of its own encryptions: three profiles, from safest to fastest.

`exact`: near uniform n-th residues, which is textbook Paillier: nothing is assumed but that n-th residues cannot be
told from other units (Paillier 1999, section 4).

`djn`: powers h^a of one n-th residue h, with a uniform of half the modulus' length (Damgard, Jurik, Nielsen, A
generalization of Paillier's public-key system with applications to electronic voting, Int. J. Inf. Secur. 9, 2010,
section 4.2). With h = (-x^2)^n for a random x, and p = q = 3 modulo 4, powers of h by *full* exponents are uniform on
the n-th residues of Jacobi symbol 1. That exponents of half the length look the same follows, for the product of two
primes of a random modulus, from the hardness of factoring (Goldreich and Rosen, J. Cryptology 16, 2003).

`djn448`: the same with exponents of 448 bits, at every size of the modulus. That these look like longer ones is an
assumption of its own (discrete logarithms with short exponents, Gennaro, Crypto 2000); who searches for the exponent
takes about 2^224 steps (van Oorschot and Wiener, Eurocrypt 1996).

The profile is about what the *receiver* of a fresh encryption could compute. It is no way to refresh a computed
ciphertext toward the owner of the key, who knows the order of h: see `streams.kernels.refresh`.
"""

from __future__ import annotations

import hashlib
from typing import Final

import gmpy2
from gmpy2 import mpz

from schemas.profiles import KeyProfile
from streams.kernels.entropy import Draws, prf
from streams.kernels.paillier_keys import PublicKey

#: Bits of the exponent in `djn448`.
SHORT_EXPONENT_BITS: Final = 448

#: Bits of the exponent beyond the group order in `exact`: statistical distance 2^-64 for each prime.
EXTRA_BITS: Final = 64


def exponent_bits(profile: KeyProfile, modulus_bits: int) -> int:
    """Least bits of an exponent; in `exact` of each of two independent ones, modulo p^2 and q^2."""
    match profile:
        case KeyProfile.EXACT:
            return modulus_bits // 2 + EXTRA_BITS
        case KeyProfile.DJN:
            return (modulus_bits + 1) // 2
        case KeyProfile.DJN448:
            return min(SHORT_EXPONENT_BITS, (modulus_bits + 1) // 2)


def djn_base(public: PublicKey) -> mpz:
    """h = (-x^2)^n modulo n^2 for x drawn from a hash of n: everybody can check that nobody chose it."""
    n = public.modulus
    draws = Draws(prf(hashlib.sha256(public.encode()).digest(), "djn base"))
    x = mpz(draws.below(public.n))
    while gmpy2.gcd(x, n) != 1:
        x = mpz(draws.below(public.n))
    return gmpy2.powmod(n - x * x % n, n, public.modulus_squared)
