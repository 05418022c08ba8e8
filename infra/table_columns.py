"""What one pass over a table collects, piece by piece: identifiers, numbers, and what is wrong with them.

A piece is some tens of thousands of rows as pandas reads them; only compact arrays outlive it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streams.identifiers import Identifiers

Places = NDArray[np.int64]

_Number = TypeVar("_Number", bound=np.generic)


class IdentifierColumn:
    """The identifiers of a table, normalised, and which of them cannot be used or repeat."""

    def __init__(self, normalise: Callable[[str], str]) -> None:
        self._normalise = normalise
        self._content = bytearray()
        self._lengths: list[NDArray[np.uint32]] = []
        self._hashes: list[NDArray[np.int64]] = []
        self._rows = 0
        #: Identifiers that have no canonical form, and (row from 1, why) of the first.
        self.unusable = 0
        self.first_unusable = (0, "")

    def add(self, column: pd.Series[str]) -> None:
        """The identifiers of the next rows. One that has no canonical form stands as an empty text."""
        texts: list[str] = []
        for row, raw in enumerate(column.fillna("").tolist(), start=self._rows + 1):
            try:
                texts.append(self._normalise(raw))
            except ValueError as error:
                texts.append("")
                if not self.unusable:
                    self.first_unusable = (row, str(error))
                self.unusable += 1
        self._rows += len(texts)
        encoded = [text.encode() for text in texts]
        self._content += b"".join(encoded)
        self._lengths.append(np.fromiter(map(len, encoded), dtype=np.uint32, count=len(encoded)))
        # Python's own hash is keyed anew in each process: nobody can prepare a table that makes many meet.
        self._hashes.append(np.fromiter(map(hash, texts), dtype=np.int64, count=len(texts)))

    def identifiers(self) -> Identifiers:
        """All of them, in the order of the rows."""
        ends = np.cumsum(_join(self._lengths), dtype=np.uint64)
        return Identifiers(self._content, ends.astype(np.min_scalar_type(len(self._content))))

    def find_repeated(self) -> list[tuple[int, int]]:
        """(row of the first, row of the repetition) from 1, of each usable identifier that an earlier row has.

        To be asked once, when all rows are there: the memory that it took is needed for what follows.
        """
        hashes = _join(self._hashes)
        hashes.sort()
        if not (hashes[1:] == hashes[:-1]).any():
            self._hashes.clear()
            return []
        hashes = _join(self._hashes)
        order = np.argsort(hashes)
        same = hashes[order[1:]] == hashes[order[:-1]]
        suspects = np.union1d(order[1:][same], order[:-1][same])
        first_rows: dict[str, int] = {}
        repeated: list[tuple[int, int]] = []
        for row, text in zip((suspects + 1).tolist(), self.identifiers().pick(suspects), strict=True):
            if text and first_rows.setdefault(text, row) != row:
                repeated.append((first_rows[text], row))
        return repeated


@dataclass(frozen=True)
class Numbers:
    """A column as float64, NaN where there is no number, and the places (from 0) that are not what they should be."""

    values: NDArray[np.float64]
    wrong: Places
    missing: Places
    infinite: Places


class NumberColumn:
    """The numbers of one column."""

    def __init__(self) -> None:
        self._values: list[NDArray[np.float64]] = []
        self._wrong: list[Places] = []
        self._missing: list[Places] = []
        #: Places of `True` and `False` in pieces that hold nothing else, and whether another piece holds numbers.
        self._truths: list[Places] = []
        self._has_others = False
        self._rows = 0

    def add(self, column: pd.Series[float]) -> None:
        """The values of the next rows, as pandas read them."""
        absent = column.isna().to_numpy()
        values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        kind = pd.api.types.infer_dtype(column, skipna=True)
        if kind == "boolean":
            self._truths.append(np.flatnonzero(~absent) + self._rows)
        elif kind != "empty" and not absent.all():
            self._has_others = True
        self._values.append(values)
        self._wrong.append(np.flatnonzero(np.isnan(values) & ~absent) + self._rows)
        self._missing.append(np.flatnonzero(absent) + self._rows)
        self._rows += len(values)

    def numbers(self) -> Numbers:
        """The whole column. Truth values are numbers only where the whole column is of them."""
        values = _join(self._values)
        self._values = [values]
        wrong = _join(self._wrong)
        if self._has_others and self._truths:
            truths = _join(self._truths)
            values[truths] = np.nan
            wrong = np.union1d(wrong, truths)
        return Numbers(values, wrong, _join(self._missing), np.flatnonzero(np.isinf(values)))


def _join(parts: list[NDArray[_Number]]) -> NDArray[_Number]:
    """The parts, of which there is at least one, one after the other."""
    return np.concatenate(parts)
