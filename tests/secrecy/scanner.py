"""Finds what must not be there in any amount of bytes: each thing in every form in which a program might let it out."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Of each pattern, this many bytes are searched for first. Shorter patterns would be found by chance.
KEY_BYTES = 8
#: Labels and small integers are few bits each: only a run of them is recognisable.
RUN = 32
#: Adjacent small integers of a row.
FEW = 4
#: A number's text is looked for when it has at least so many characters.
TEXT = 10
SEPARATORS = (",", ", ", "\n")


@dataclass(frozen=True)
class Canary:
    """Something that must stay in a house, in one form."""

    what: str
    pattern: bytes


class Scanner:
    """Looks for many canaries at once."""

    def __init__(self, canaries: Iterable[Canary]) -> None:
        self._by_key: dict[int, list[Canary]] = {}
        self.count = 0
        for canary in canaries:
            assert len(canary.pattern) >= KEY_BYTES, canary
            self._by_key.setdefault(int.from_bytes(canary.pattern[:KEY_BYTES], "little"), []).append(canary)
            self.count += 1
        self._keys = np.array(sorted(self._by_key), dtype=np.uint64)

    def scan(self, data: bytes) -> set[str]:
        """What the data holds."""
        found: set[str] = set()
        for shift in range(min(KEY_BYTES, max(0, len(data) - KEY_BYTES + 1))):
            words = np.frombuffer(data, dtype="<u8", count=(len(data) - shift) // KEY_BYTES, offset=shift)
            nearest = np.minimum(np.searchsorted(self._keys, words), len(self._keys) - 1)
            for index in np.flatnonzero(self._keys[nearest] == words).tolist():
                start = shift + KEY_BYTES * index
                for canary in self._by_key[int(words[index])]:
                    if data.startswith(canary.pattern, start):
                        found.add(canary.what)
        return found


def texts(what: str, words: Iterable[str]) -> Iterator[Canary]:
    """Words as they are, and by the digests that would let somebody test a guess."""
    for word in words:
        data = word.encode()
        if len(data) >= KEY_BYTES:
            yield Canary(f"{what} as text", data)
        digest = hashlib.sha256(data).digest()
        yield Canary(f"{what} as SHA-256", digest)
        yield Canary(f"{what} as SHA-256 in hex", digest.hex().encode())


def secret(what: str, key: bytes) -> Iterator[Canary]:
    """A key in the usual writings."""
    yield Canary(f"{what} raw", key)
    yield Canary(f"{what} reversed", key[::-1])
    yield Canary(f"{what} in hex", key.hex().encode())
    yield Canary(f"{what} in hex, capitals", key.hex().upper().encode())
    yield Canary(f"{what} in decimal", str(int.from_bytes(key, "big")).encode())
    # Base64 depends on what stands before: the middle of each of the three ways.
    for shift in range(3):
        whole = base64.b64encode(bytes(shift) + key)
        yield Canary(f"{what} in base64", whole[4:-4])


def numbers(what: str, values: ArrayLike) -> Iterator[Canary]:
    """Real numbers, each on its own: as text and as 8 bytes; in pairs as 4 bytes each."""
    array = np.asarray(values, dtype=np.float64)
    assert not np.any(array.view(np.uint64) & np.uint64(0xFFFF) == 0), "round numbers are found by chance"
    for value in array.ravel().tolist():
        if len(repr(value)) >= TEXT:
            yield Canary(f"{what} as text", repr(value).encode())
        for order in ("<", ">"):
            yield Canary(f"{what} as float64{order}", np.array(value, dtype=f"{order}f8").tobytes())
    for pair in _runs(array, 2):
        for order in ("<", ">"):
            yield Canary(f"{what} as float32{order}", pair.astype(f"{order}f4").tobytes())


def small_integers(what: str, values: ArrayLike, run: int = FEW) -> Iterator[Canary]:
    """Integers of a few bits, in runs along the rows and along the columns of a matrix."""
    array = np.asarray(values, dtype=np.int64)
    for matrix in (array, array.T) if array.ndim == 2 else (array,):
        for some in _runs(matrix, run):
            if len(set(some.tolist())) < 2 or (run == FEW and abs(some).max() < 256):
                continue
            for form in ("<i4", ">i4", "<i8", ">i8"):
                yield Canary(f"{what} as {form}", some.astype(form).tobytes())
            if abs(some).max() < 128 and run >= KEY_BYTES:
                yield Canary(f"{what} as int8", some.astype(np.int8).tobytes())
                yield Canary(f"{what} as digits", "".join(map(str, some.tolist())).encode())
            written = [
                (f"{what} as text", separator.join(map(str, some.tolist())).encode()) for separator in SEPARATORS
            ]
            for name, pattern in (*written, (f"{what} as Avro longs", b"".join(map(avro_long, some.tolist())))):
                if len(pattern) >= KEY_BYTES:
                    yield Canary(name, pattern)


def labels(what: str, values: NDArray[np.int8]) -> Iterator[Canary]:
    """Runs of a label vector."""
    yield from small_integers(what, values, RUN)
    for some in _runs(values, RUN):
        yield Canary(f"{what} as float64", some.astype("<f8").tobytes())


def avro_long(value: int) -> bytes:
    """Zigzag, then seven bits a byte."""
    rest = value * 2 if value >= 0 else -value * 2 - 1
    encoded = bytearray()
    while rest >= 128:
        encoded.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*encoded, rest])


def weights(what: str, values: Sequence[int], fractional_bits: int) -> Iterator[Canary]:
    """Fixed-point weights, as integers in threes and as the numbers they stand for."""
    for few in zip(values, values[1:], values[2:], strict=False):
        yield Canary(f"{what} as int64", np.array(few, dtype="<i8").tobytes())
        yield Canary(f"{what} as Avro longs", b"".join(map(avro_long, few)))
    for value in values:
        number = value * 2.0**-fractional_bits
        yield Canary(f"{what} as float64", np.array(number, dtype="<f8").tobytes())
        for text in (repr(number), f"{number:.8f}", str(value)):
            if len(text) >= TEXT:
                yield Canary(f"{what} as text", text.encode())


def _runs(array: NDArray[Any], length: int) -> Iterator[NDArray[Any]]:
    """Adjacent values, along the last axis."""
    for line in array.reshape(-1, array.shape[-1]) if array.ndim else ():
        for start in range(len(line) - length + 1):
            yield line[start : start + length]
