"""Tags that lie in blobs, chunk by chunk, as the join reads them: one chunk in memory at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from schemas.record import Blob
from streams.kernels.ristretto import MATCH_BYTES

_MATCH_WORDS = MATCH_BYTES // 8

Words = NDArray[np.uint64]


class TagTable(Sequence[Words]):
    """Array k has the tags of blob k: the first `MATCH_BYTES` of each item of `width` bytes, or the last."""

    def __init__(self, blobs: Sequence[Blob], width: int = MATCH_BYTES, *, last: bool = False) -> None:
        self._blobs = blobs
        self._width = width
        self._columns = slice(-_MATCH_WORDS, None) if last else slice(_MATCH_WORDS)

    def __len__(self) -> int:
        return len(self._blobs)

    @overload
    def __getitem__(self, place: int) -> Words: ...
    @overload
    def __getitem__(self, place: slice) -> list[Words]: ...
    def __getitem__(self, place: int | slice) -> Words | list[Words]:
        if isinstance(place, slice):
            return [self._read(blob) for blob in self._blobs[place]]
        return self._read(self._blobs[place])

    def _read(self, blob: Blob) -> Words:
        return np.frombuffer(blob.content, dtype="<u8").reshape(-1, self._width // 8)[:, self._columns]
