"""Many short texts in two arrays: a person takes the bytes of an identifier and four more, where a tuple takes 70."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

#: Texts that iteration decodes at a time.
PIECE = 4096


class Identifiers(Sequence[str]):
    """An immutable sequence of texts. Slices and picks are lists."""

    def __init__(self, content: bytes | bytearray, ends: NDArray[np.unsignedinteger]) -> None:
        """Text k is the UTF-8 of `content` between ends k - 1 and k."""
        self._content = content
        self._ends = ends

    @classmethod
    def of(cls, texts: Iterable[str]) -> Identifiers:
        """These texts."""
        encoded = [text.encode() for text in texts]
        content = b"".join(encoded)
        ends = np.cumsum(np.fromiter(map(len, encoded), dtype=np.uint64, count=len(encoded)))
        return cls(content, ends.astype(np.min_scalar_type(len(content))))

    @property
    def content(self) -> bytes | bytearray:
        """The UTF-8 of all texts, joined."""
        return self._content

    @property
    def ends(self) -> NDArray[np.unsignedinteger]:
        """Where each text ends in `content`."""
        return self._ends

    def pick(self, rows: NDArray[np.unsignedinteger] | NDArray[np.signedinteger]) -> list[str]:
        """The texts at these places, in their order."""
        ends = self._ends[rows].tolist()
        starts = np.where(rows == 0, 0, self._ends[np.maximum(rows, 1) - 1]).tolist()
        return [self._content[start:end].decode() for start, end in zip(starts, ends, strict=True)]

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), PIECE):
            yield from self[start : start + PIECE]

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return self.pick(np.arange(len(self))[place])
        (text,) = self.pick(np.asarray([range(len(self))[place]]))
        return text
