"""Key and ciphertext formats of `phe` (python-paillier), for interoperability and as an independent reference.

phe is GPLv3: this is the only module that imports it, and nothing that runs a job imports this module. Numbers
have one fixed exponent (0: plain integers), because phe's exponent travels in clear and tells a value's
magnitude.
"""

from __future__ import annotations

from gmpy2 import mpz
from phe import paillier as phe_paillier

from streams.kernels.ciphertexts import Ciphertext
from streams.kernels.paillier_keys import PrivateKey, PublicKey


def to_phe_public(public: PublicKey) -> phe_paillier.PaillierPublicKey:
    """The same public key for phe."""
    return phe_paillier.PaillierPublicKey(n=public.n)


def to_phe_private(private: PrivateKey) -> phe_paillier.PaillierPrivateKey:
    """The same private key for phe."""
    return phe_paillier.PaillierPrivateKey(to_phe_public(private.public), private.p, private.q)


def from_phe_public(public: phe_paillier.PaillierPublicKey) -> PublicKey:
    """A phe public key as ours."""
    return PublicKey(int(public.n))


def from_phe_private(private: phe_paillier.PaillierPrivateKey) -> PrivateKey:
    """A phe private key as ours. Its primes are not safe: fine to decrypt with, refused by `OwnerEncryptor`."""
    return PrivateKey(int(private.p), int(private.q))


def to_phe_ciphertext(public: PublicKey, ciphertext: Ciphertext) -> phe_paillier.EncryptedNumber:
    """A ciphertext for phe, exponent 0."""
    return phe_paillier.EncryptedNumber(to_phe_public(public), int(ciphertext.value), exponent=0)


def from_phe_ciphertext(number: phe_paillier.EncryptedNumber) -> Ciphertext:
    """A phe number of exponent 0 as a ciphertext; ValueError for another exponent, which is a scaled number."""
    if number.exponent != 0:
        raise ValueError(f"the number has exponent {number.exponent}; encode it as an integer (exponent 0) first")
    return Ciphertext(mpz(number.ciphertext(be_secure=False)))
