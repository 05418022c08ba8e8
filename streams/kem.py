"""Key encapsulation that a quantum computer does not open: HPKE (RFC 9180) with ML-KEM-768 and X25519 together.

Who breaks one of the two does not have the key. (FIPS 203 for ML-KEM; the combination is that of
draft-ietf-hpke-pq, as the library `cryptography` has it.) A private key is a seed of 32 bytes.
"""

from __future__ import annotations

import functools

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SEED_BYTES = 32
_LATTICE_BYTES, _CURVE_BYTES = 1184, 32
#: An ML-KEM-768 key and an X25519 key, one after the other.
PUBLIC_BYTES = _LATTICE_BYTES + _CURVE_BYTES

_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_EXPAND = b"isthmus/kem/1"


class KemError(ValueError):
    """It does not open: for another key, about something else, or changed on the way."""


def public_key_of(seed: bytes) -> bytes:
    """What others seal keys with, `PUBLIC_BYTES` long. Raises `ValueError` for a seed of another length."""
    lattice, curve = _halves(seed)
    return lattice.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()


def check_public_key(public_key: bytes) -> None:
    """Raises `ValueError` for what is no key."""
    _parse(public_key)


def wrap(key: bytes, public_key: bytes, info: bytes) -> bytes:
    """The key, sealed for whoever has the private key; opens with the same `info` only. Differs each time."""
    return _SUITE.encrypt(key, _parse(public_key), info)


def unwrap(wrapped: bytes, seed: bytes, info: bytes) -> bytes:
    """Raises `KemError`."""
    try:
        return _SUITE.decrypt(wrapped, _private_key(seed), info)
    except (InvalidTag, ValueError) as error:
        raise KemError("the wrapped key does not open") from error


@functools.lru_cache(64)
def _parse(public_key: bytes) -> MLKEM768X25519PublicKey:
    if len(public_key) != PUBLIC_BYTES:
        raise ValueError(f"has {len(public_key)} bytes, keys for encapsulation have {PUBLIC_BYTES}")
    lattice = MLKEM768PublicKey.from_public_bytes(public_key[:_LATTICE_BYTES])
    curve = X25519PublicKey.from_public_bytes(public_key[_LATTICE_BYTES:])
    try:
        X25519PrivateKey.generate().exchange(curve)
    except ValueError:
        raise ValueError("is a key that protects nothing: its X25519 half is of low order") from None
    return MLKEM768X25519PublicKey(lattice, curve)


@functools.lru_cache(8)
def _private_key(seed: bytes) -> MLKEM768X25519PrivateKey:
    return MLKEM768X25519PrivateKey(*_halves(seed))


def _halves(seed: bytes) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
    if len(seed) != SEED_BYTES:
        raise ValueError(f"a seed of {len(seed)} bytes, expected {SEED_BYTES}")
    expanded = HKDF(SHA256(), 64 + _CURVE_BYTES, salt=None, info=_EXPAND).derive(seed)
    return MLKEM768PrivateKey.from_seed_bytes(expanded[:64]), X25519PrivateKey.from_private_bytes(expanded[64:])
