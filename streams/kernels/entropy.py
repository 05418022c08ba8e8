"""Randomness without a generator: everything a job draws is a pseudo-random function of the party's seed.

A step that is replayed after a crash must emit the same bytes, so no kernel asks the operating system for entropy.
Instead a key is derived for one purpose (`prf`) and then stretched (`expand`, `Draws`, `permutation`).

Laws
- `prf` is injective in what it hashes: label and fields carry their type and length, so no two different argument
  lists feed HMAC the same bytes.
- One key, one purpose: stretch a key by `Draws` or by `expand` or by `permutation`; derive another for the next use.
  The three read disjoint parts of the key stream, so that a slip does not repeat bytes.
- Bind every value that the drawn number hides or depends on in the fields, or two runs that differ in it share
  a mask.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

#: What `prf` accepts as a field.
Field = bytes | str | int

#: Bytes of a derived key.
KEY_BYTES: Final = 32

#: Shortest master secret that `job_seed` accepts, in bytes (128 bits).
MIN_SECRET_BYTES: Final = 16

#: Purposes for which a party has one key for all of its jobs.
JOINT_ORDER: Final = "align/joint order"
COHORT_ROWS: Final = "cohort rows"
COHORT_LEDGER: Final = "cohort ledger"
PARTY_KEYS: Final = (JOINT_ORDER, COHORT_ROWS, COHORT_LEDGER)

_COUNTER_DRAWS: Final = b"draws\0\0\0"
_COUNTER_EXPAND: Final = b"expand\0\0"
_COUNTER_PERMUTATION: Final = b"permute\0"


def _tagged(field: Field) -> bytes:
    """Type letter, length in 8 bytes, content: a prefix-free code, hence injective when concatenated."""
    if isinstance(field, bool):
        raise TypeError("prf: a bool is not a field; pass an int or a str so that the encoding is clear")
    if isinstance(field, int):
        body = field.to_bytes(field.bit_length() // 8 + 1, "big", signed=True)
        letter = b"i"
    elif isinstance(field, str):
        body = field.encode("utf-8")
        letter = b"s"
    elif isinstance(field, bytes):
        body = field
        letter = b"b"
    else:
        raise TypeError(f"prf: a field is bytes, str or int, not {type(field).__name__}")
    return letter + len(body).to_bytes(8, "big") + body


def prf(key: bytes, label: str, *fields: Field) -> bytes:
    """Derive 32 bytes from `key` for the purpose `label` and the values `fields` (HMAC-SHA-256, RFC 2104)."""
    return hmac.digest(key, b"".join(map(_tagged, (label, *fields))), hashlib.sha256)


@dataclass(frozen=True)
class RevealedSecret:
    """What of a party's master secret an auditor gets to see: one job's seed, and keys that serve all of its jobs.

    Nothing about the seed of another job follows from it. Its text shows no key.
    """

    job_id: str
    seed: bytes = field(repr=False)
    #: Purpose -> key, see `PARTY_KEYS`.
    keys: Mapping[str, bytes] = field(repr=False)


#: What a machine draws from: the party's master secret, or what an auditor has of it.
Secret = bytes | RevealedSecret


def job_seed(secret: Secret, job_id: str) -> bytes:
    """Derive the 32-byte seed of one job. Raises `ValueError` for a job whose seed was not revealed."""
    if isinstance(secret, RevealedSecret):
        if job_id != secret.job_id:
            raise ValueError(f"the seed of job {secret.job_id} was revealed, not that of {job_id}")
        return secret.seed
    _check_length(secret)
    return prf(secret, "isthmus job seed", job_id)


def party_key(secret: Secret, purpose: str) -> bytes:
    """Derive the 32-byte key of one of `PARTY_KEYS`: it is the same in all jobs of the party."""
    if purpose not in PARTY_KEYS:
        raise ValueError(f"no key of a party is for {purpose!r}")
    if isinstance(secret, RevealedSecret):
        return secret.keys[purpose]
    _check_length(secret)
    return prf(secret, purpose)


def reveal_secret(secret: bytes, job_id: str) -> RevealedSecret:
    """What an auditor of this job gets to see."""
    return RevealedSecret(job_id, job_seed(secret, job_id), {each: party_key(secret, each) for each in PARTY_KEYS})


def _check_length(secret: bytes) -> None:
    if len(secret) < MIN_SECRET_BYTES:
        raise ValueError(f"the master secret has {len(secret)} bytes; it needs at least {MIN_SECRET_BYTES}")


class Draws:
    """A stream of pseudo-random numbers from one 32-byte key (AES-256 in counter mode).

    The stream does not depend on how it is cut: `bytes(a) + bytes(b)` equals what `bytes(a + b)` would have given.
    """

    def __init__(self, key: bytes) -> None:
        self._stream = _key_stream(key, _COUNTER_DRAWS)

    def bytes(self, n_bytes: int) -> bytes:
        """Draw `n_bytes` bytes."""
        return self._stream.update(bytes(n_bytes))

    def bits(self, k: int) -> int:
        """Draw a uniform integer in [0, 2^k)."""
        return int.from_bytes(self.bytes((k + 7) // 8), "little") & ((1 << k) - 1)

    def below(self, n: int) -> int:
        """Draw a uniform integer in [0, n) by rejection: exactly uniform, fewer than two tries on average."""
        if n < 1:
            raise ValueError(f"below: the bound must be positive, not {n}")
        k = (n - 1).bit_length()
        while True:
            value = self.bits(k)
            if value < n:
                return value


def expand(key: bytes, n_bytes: int) -> bytes:
    """Stretch a 32-byte key to `n_bytes` bytes."""
    return _key_stream(key, _COUNTER_EXPAND).update(bytes(n_bytes))


#: Words of a key stream that are drawn at a time.
_PIECE_WORDS = 2**20


def permutation(key: bytes, n: int) -> NDArray[np.uint32]:
    """Draw a permutation of 0..n-1: the order of n 128-bit words of the key stream.

    Equal words (probability below n^2 / 2^129) keep their order, so the result is the same on every platform.
    """
    stream = _key_stream(key, _COUNTER_PERMUTATION)
    halves = np.empty(n, dtype="<u8")
    for start in range(0, n, _PIECE_WORDS):
        piece = halves[start : start + _PIECE_WORDS]
        piece[:] = np.frombuffer(stream.update(bytes(16 * len(piece))), dtype="<u8")[::2]
    order = np.argsort(halves, kind="stable").astype(np.uint32)
    halves = halves[order]
    if (halves[1:] == halves[:-1]).any():
        return sort_words(key, n)
    return order


def sort_words(key: bytes, n: int) -> NDArray[np.uint32]:
    """`permutation` by its definition. What differs in the first half of each word needs half the memory and time."""
    words = np.frombuffer(_key_stream(key, _COUNTER_PERMUTATION).update(bytes(16 * n)), dtype="<u8").reshape(n, 2)
    return np.lexsort((words[:, 1], words[:, 0])).astype(np.uint32)


def _key_stream(key: bytes, initial_counter: bytes) -> _KeyStream:
    if len(key) != KEY_BYTES:
        raise ValueError(f"a stream key has {KEY_BYTES} bytes, not {len(key)}; derive it with prf()")
    return _KeyStream(key, initial_counter + bytes(8))


class _KeyStream:
    """The AES-256-CTR key stream. The counter's first 8 bytes name the use; no use draws 2^64 blocks."""

    def __init__(self, key: bytes, counter: bytes) -> None:
        self._encryptor = Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor()

    def update(self, zeros: bytes) -> bytes:
        return self._encryptor.update(zeros)
