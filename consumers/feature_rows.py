"""Rows of features in memory: compact, and read from a topic's records without taking each one apart.

Loading a topic is reading hundreds of thousands of records whose names of columns are all the same. So the names
are compared as bytes, and the numbers are left as they lie there until somebody asks for them.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple

from schemas.codec import DecodeError, decode, encode
from schemas.serving import FeatureRow

#: Avro's single-object header, and a value in the row: the branch of the union, then a double.
_HEADER_BYTES, _VALUE_BYTES = 10, 9
_NUMBER = b"\x02"
_MISSING = struct.pack("<d", float("nan"))
_PROBE = FeatureRow("probe", ("a", "b"), (0.5, -1.0), 70_000)


class Row(NamedTuple):
    """A person. `packed` holds a byte and a little-endian double for each column; NaN stands for a missing value."""

    entity_id: str
    columns: tuple[str, ...]
    packed: bytes
    #: No value is missing.
    is_full: bool
    as_of_ms: int


@dataclass(frozen=True)
class _Layout:
    columns: tuple[str, ...]
    #: The record between the identifier and the first value.
    block: bytes
    tags: bytes
    #: Reads the doubles.
    numbers: struct.Struct


class RowReader:
    """Turns records into rows that share their names of columns. `quick` counts those that went the short way."""

    def __init__(self) -> None:
        self.quick = 0
        self._header = encode(_PROBE)[:_HEADER_BYTES]
        self._layouts: dict[tuple[str, ...], _Layout] = {}
        #: That of the record before. None where the short way does not fit the schema of today.
        self._layout: _Layout | None = None
        self._fits = True
        #: The time of the row before: rows of one load share theirs.
        self._as_of_ms = 0
        is_same = self.read(encode(_PROBE)) == self.read(encode(_PROBE))
        self._fits, self.quick = is_same and self.quick == 1, 0

    def read(self, data: bytes) -> Row:
        """The row in a record's bytes. Raises `DecodeError`."""
        if self._fits and self._layout is not None and data.startswith(self._header):
            row = self._read_quickly(data, self._layout)
            if row is not None:
                self.quick += 1
                return row
        record = decode(data)
        if not isinstance(record, FeatureRow):
            raise DecodeError(f"{type(record).__name__} is no row of features")
        if len(record.columns) != len(record.values):
            raise DecodeError(f"{len(record.columns)} columns, {len(record.values)} values")
        layout = self._layouts.get(record.columns) or self._add_layout(record.columns)
        self._layout = layout
        packed = b"".join(_NUMBER + (_MISSING if number is None else _pack(number)) for number in record.values)
        return Row(record.entity_id, layout.columns, packed, _is_full(layout, packed), record.as_of_ms)

    def _read_quickly(self, data: bytes, layout: _Layout) -> Row | None:
        try:
            length, at = _read_long(data, _HEADER_BYTES)
            end = at + length
            start = end + len(layout.block)
            stop = start + len(layout.tags) * _VALUE_BYTES
            if data[end:start] != layout.block or data[start:stop:_VALUE_BYTES] != layout.tags or data[stop]:
                return None
            as_of_ms, last = _read_long(data, stop + 1)
            if as_of_ms == self._as_of_ms:
                as_of_ms = self._as_of_ms
            self._as_of_ms = as_of_ms
            entity_id = data[at:end].decode()
        except (IndexError, UnicodeDecodeError):
            return None
        packed = data[start:stop]
        return Row(entity_id, layout.columns, packed, _is_full(layout, packed), as_of_ms) if last == len(data) else None

    def _add_layout(self, columns: tuple[str, ...]) -> _Layout:
        names = tuple(sys.intern(name) for name in columns)
        texts = [name.encode() for name in names]
        count = _write_long(len(names))
        items = b"".join(_write_long(len(text)) + text for text in texts)
        # An array is a count, the items, and a count of none; without items the last one only.
        block = (count + items if names else b"") + b"\0" + (count if names else b"")
        layout = _Layout(names, block, _NUMBER * len(names), struct.Struct("<" + "xd" * len(names)))
        self._layouts[names] = layout
        return layout


_pack = struct.Struct("<d").pack


def _is_full(layout: _Layout, packed: bytes) -> bool:
    total = sum(layout.numbers.unpack(packed))
    # Only NaN is not equal to itself. (Infinities can add up to NaN as well: then the long way is taken for nothing.)
    return bool(total == total)


def _read_long(data: bytes, at: int) -> tuple[int, int]:
    """Avro's zigzag number at a position, and the position after it. Raises `IndexError`."""
    shift = result = 0
    while True:
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (result >> 1) ^ -(result & 1), at
        shift += 7


def _write_long(number: int) -> bytes:
    number <<= 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def make_plan(columns: tuple[str, ...], wanted: tuple[str, ...]) -> Callable[[Row], dict[str, object]]:
    """Reads the wanted columns of rows with these columns; those that they do not have are left out."""
    unpack = struct.Struct("<" + "xd" * len(columns)).unpack
    names = tuple(name for name in wanted if name in columns)
    positions = [columns.index(name) for name in names]
    pick: Callable[[tuple[Any, ...]], tuple[Any, ...]]
    if names == columns:
        pick = tuple
    elif len(positions) > 1:
        pick = itemgetter(*positions)
    else:

        def pick(numbers: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(numbers[position] for position in positions)

    def read(row: Row) -> dict[str, object]:
        numbers = pick(unpack(row.packed))
        if row.is_full:
            return dict(zip(names, numbers, strict=True))
        return {name: number if number == number else None for name, number in zip(names, numbers, strict=True)}

    return read
