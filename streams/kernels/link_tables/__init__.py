"""Pinned public tables: package data, checked against the digest in the code when first read."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from importlib import resources

import numpy as np
from numpy.typing import NDArray


class TableDamagedError(RuntimeError):
    """A table file is not the one that the code was released with; reinstall the package."""


def arrays_digest(name: str, arrays: Sequence[NDArray[np.generic]]) -> bytes:
    """SHA-256 over name, types, shapes and little-endian contents: not over the archive, whose bytes depend on zlib."""
    digest = hashlib.sha256(b"isthmus/table/v1\n" + name.encode() + b"\n")
    for array in arrays:
        little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        digest.update(f"{little.dtype.str}{array.shape}\n".encode())
        digest.update(little.tobytes())
    return digest.digest()


def load_pinned(file: str, name: str, columns: Sequence[str], sha256: str) -> tuple[NDArray[np.generic], ...]:
    """The named arrays of one file of this package.

    Raises:
        TableDamagedError: the contents have another digest.
    """
    data = resources.files(__name__).joinpath(file).read_bytes()
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        arrays = tuple(stored[column] for column in columns)
    found = arrays_digest(name, arrays).hex()
    if found != sha256:
        raise TableDamagedError(f"{file}: contents have SHA-256 {found}, the code expects {sha256}")
    return arrays
