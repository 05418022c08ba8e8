"""Checks of the public keys that others hand in, and the errors about keys of any kind."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from streams import kem

KEY_BYTES = 32
#: Encodings of the points of small order of Ed25519, without the sign bit.
SMALL_ORDER = frozenset(
    (
        bytes(32),
        bytes([1, *bytes(31)]),
        bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
        bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
        *(bytes([first, *[0xFF] * 30, 0x7F]) for first in (0xEC, 0xED, 0xEE)),
    )
)


class SecretsError(Exception):
    """Keys are missing, unsafe or unusable. The message names the file and what to do, never a key."""


def parse_sealing_key(text: str) -> bytes:
    """An X25519 key in hexadecimal digits. Raises `ValueError`, also for a point of small order (RFC 7748, 6.1)."""
    key = _parse(text, "X25519")
    try:
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(key))
    except ValueError:
        raise ValueError("is a key that protects nothing: anybody knows what is shared with it") from None
    return key


def parse_kem_key(text: str) -> bytes:
    """A key for encapsulation (`streams/kem.py`) in hexadecimal digits. Raises `ValueError`."""
    try:
        key = bytes.fromhex(text)
    except ValueError:
        raise ValueError("is not hexadecimal, as keys for encapsulation are written here") from None
    kem.check_public_key(key)
    return key


def parse_signing_key(text: str) -> bytes:
    """An Ed25519 key in hexadecimal digits. Raises `ValueError`, also for one under which anybody can sign."""
    key = _parse(text, "Ed25519")
    if bytes([*key[:31], key[31] & 0x7F]) in SMALL_ORDER:
        raise ValueError("is a key under which anybody can sign: its party could deny everything")
    return key


def _parse(text: str, kind: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        raise ValueError(f"is not hexadecimal, as {kind} keys are written here") from None
    if len(key) != KEY_BYTES:
        raise ValueError(f"has {len(key)} bytes, {kind} keys have {KEY_BYTES}")
    return key
