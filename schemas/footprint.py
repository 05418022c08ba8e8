"""How much memory a record may take once it is decoded: a peer must not get a gigabyte for a megabyte.

A list of small records takes some five hundred times the bytes that it was sent in; a vector of ciphertexts takes just
its bytes. The worst that the bytes of a class can do follows from its schema, before anything is decoded.
"""

from __future__ import annotations

from schemas.codec import DecodeError, type_of
from schemas.derivation import Shape, once_a_class, shapes_of
from schemas.record import Record

#: What a record of others may take. Honest ones stay far below.
MOST_BYTES = 1 << 29

# What CPython and the decoder take, measured and rounded up: for a record its dict and the instance with another one,
# for each of its fields an entry of both, for a value the object, for an item the places in a list and in a tuple.
_RECORD, _FIELD, _VALUE, _ITEM = 480, 40, 100, 24
#: Long bytes and texts: the bytes themselves, and some more in text of few characters beyond ASCII.
_PLAIN = 4.5


def check_footprint(data: bytes) -> type[Record]:
    """The class that the bytes say they are of. Raises `DecodeError`, also when they could take too much memory."""
    cls = type_of(data)
    worst = int(len(data) * growth_of(cls))
    if worst > MOST_BYTES:
        raise DecodeError(f"a {cls.__name__} of {len(data):,} bytes could take {worst:,} bytes of memory")
    return cls


@once_a_class
def growth_of(cls: type[Record]) -> float:
    """The most bytes of memory for a byte of a record of this class, for large ones."""
    return max([_PLAIN, *(_growth(shape) for shape in shapes_of(cls).values())])


def _growth(shape: Shape) -> float:
    """The worst of what may be inside, without limit, of a field of this shape."""
    match shape.kind:
        case "array":
            assert shape.item is not None
            item = shape.item
            # Items may have all their options, or none.
            worst = max((_weight(item, full) + _ITEM) / _least_bytes(item, full) for full in (True, False))
            return max(worst, _growth(item))
        case "optional":
            assert shape.item is not None
            return _growth(shape.item)
        case "record":
            return growth_of(shape.python_type)
    return _PLAIN


def _weight(shape: Shape, full: bool) -> int:
    """Memory of the smallest value of this shape, with all options taken or none."""
    match shape.kind:
        case "record":
            return _RECORD + sum(_FIELD + _weight(each, full) for each in shapes_of(shape.python_type).values())
        case "blob":
            return _RECORD + 4 * _VALUE
        case "array":
            return 2 * _VALUE
        case "optional":
            assert shape.item is not None
            return _weight(shape.item, full) if full else 0
    return _VALUE


def _least_bytes(shape: Shape, full: bool) -> int:
    """The fewest bytes that such a value is encoded in. No item of an array has none, or arrays would be endless."""
    match shape.kind:
        case "record":
            return sum(_least_bytes(each, full) for each in shapes_of(shape.python_type).values())
        case "blob":
            return 2
        case "optional":
            assert shape.item is not None
            return 1 + (_least_bytes(shape.item, full) if full else 0)
    return 8 if shape.python_type is float else 1
