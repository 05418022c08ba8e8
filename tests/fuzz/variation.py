"""Strategies of records that a hostile peer may send: arbitrary ones of every class, and honest ones that were altered.

Large values are made by repeating small ones, so that drawing them is cheap and they shrink to nothing.
"""

from __future__ import annotations

import dataclasses
from typing import Any, cast

from hypothesis import strategies as st

from schemas.derivation import Shape, shapes_of
from schemas.record import Blob, Record

#: Where comparisons, shifts, allocations and Avro's own longs end.
EDGES = (0, 1, -1, 2, 63, 64, 2**15, 2**31 - 1, 2**31, 2**32, 2**53, 2**62, 2**63 - 1, -(2**31), -(2**63))
NAMES = (
    "guest",
    "host",
    "bank",
    "shop",
    "acme",
    "globex",
    "stranger",
    "job-1",
    "credit",
    "",
    "../..",
    "a\0b",
    "ä\u2028",
)
#: More than any honest array has, and more than is told in an event.
MANY = (2, 60, 3_000)
MOST_CHARACTERS = 300_000

_INTS = st.one_of(st.sampled_from(EDGES), st.integers(-4, 40), st.integers(-(2**63), 2**63 - 1))
EXTREMES = (0.0, -0.0, 1e308, -1e308, 5e-324, 1e150, -1e-150, 2.0**63, float("nan"), float("inf"), -float("inf"))
_FLOATS = st.one_of(st.sampled_from(EXTREMES), st.floats())
_SHORT_BYTES = st.binary(max_size=40)
_BYTES = st.one_of(
    _SHORT_BYTES,
    st.sampled_from((b"", bytes(32), b"\xff" * 32, bytes(128), b"\xff" * 128)),
    st.builds(lambda few, times: few * times, st.binary(min_size=1, max_size=4), st.sampled_from((100, 30_000))),
)
_WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_SHORT_TEXTS = st.one_of(st.sampled_from(NAMES), _WORDS)
_TEXTS = st.one_of(
    _SHORT_TEXTS,
    st.builds(lambda few, times: few * times, _WORDS, st.sampled_from((30, 2_000, 60_000))),
)
_SMALL: dict[type, st.SearchStrategy[Any]] = {
    int: _INTS,
    float: _FLOATS,
    bool: st.booleans(),
    bytes: _SHORT_BYTES,
    str: _SHORT_TEXTS,
}
_ANY = {**_SMALL, bytes: _BYTES, str: _TEXTS}


def values_of(shape: Shape, *, is_small: bool = False) -> st.SearchStrategy[Any]:
    """Any value that a field of this shape can have. What is repeated must be small itself."""
    match shape.kind:
        case "primitive":
            return (_SMALL if is_small else _ANY)[shape.python_type]
        case "enum":
            return st.sampled_from(list(cast(Any, shape.python_type)))
        case "blob":
            return _SHORT_BYTES.map(Blob.of)
        case "record":
            return records_of(shape.python_type, is_small=is_small)
    assert shape.item is not None
    if shape.kind == "optional":
        return st.one_of(st.none(), values_of(shape.item, is_small=is_small))
    item = values_of(shape.item, is_small=True)
    few = st.lists(item, max_size=3).map(tuple)
    many = st.builds(lambda one, times: (one,) * times, item, st.sampled_from(MANY))
    return few if is_small else st.one_of(few, few, many)


def records_of(cls: type[Record], *, is_small: bool = False) -> st.SearchStrategy[Any]:
    """Any record of a class."""
    return st.builds(cls, **{name: values_of(shape, is_small=is_small) for name, shape in shapes_of(cls).items()})


@st.composite
def altered(draw: st.DrawFn, record: Any, kept: str = "") -> Any:
    """The record with one field changed, at any depth: a little, or to anything. The field `kept` stays."""
    shapes = shapes_of(type(record))
    name = draw(st.sampled_from([each for each in shapes if each != kept] or list(shapes)))
    value = draw(_altered_value(getattr(record, name), shapes[name]))
    return dataclasses.replace(record, **{name: value})


def _altered_value(value: Any, shape: Shape) -> st.SearchStrategy[Any]:
    anything = values_of(shape)
    match value:
        case bool() | None:
            return anything
        case int():
            near = st.sampled_from([v for v in (value - 1, value + 1, -value, value * 2) if -(2**63) <= v < 2**63])
            return st.one_of(near, anything)
        case float():
            return st.one_of(st.sampled_from(EXTREMES), anything)
        case bytes() if value:
            return st.one_of(_altered_bytes(value), anything)
        case Record():
            return altered(value)
        case tuple() if value:
            return st.one_of(_altered_tuple(value, shape), anything)
    return anything


@st.composite
def _altered_bytes(draw: st.DrawFn, value: bytes) -> bytes:
    place = draw(st.integers(0, len(value) - 1))
    match draw(st.sampled_from(("flip", "cut", "grow", "zero", "double", "wipe"))):
        case "flip":
            return value[:place] + bytes([value[place] ^ 1 << draw(st.integers(0, 7))]) + value[place + 1 :]
        case "cut":
            return value[:place]
        case "grow":
            return value + draw(st.binary(min_size=1, max_size=4))
        case "zero":
            return value[:place] + bytes(len(value) - place)
        case "double":
            return value + value
    return draw(st.sampled_from((bytes(len(value)), b"\xff" * len(value), b"\0" * (len(value) - 1) + b"\1")))


@st.composite
def _altered_tuple(draw: st.DrawFn, value: tuple[Any, ...], shape: Shape) -> tuple[Any, ...]:
    assert shape.item is not None or shape.kind == "array"
    place = draw(st.integers(0, len(value) - 1))
    item = shape.item.item if shape.kind == "optional" and shape.item is not None else shape.item
    assert item is not None
    match draw(st.sampled_from(("drop", "repeat", "swap", "alter", "fill", "many"))):
        case "drop":
            return value[:place] + value[place + 1 :]
        case "repeat":
            return (*value, value[place])
        case "swap":
            return value[::-1]
        case "alter":
            return (*value[:place], draw(_altered_value(value[place], item)), *value[place + 1 :])
        case "fill":
            return (draw(_altered_value(value[place], item)),) * len(value)
    return value * min(draw(st.sampled_from(MANY)), MOST_CHARACTERS // len(repr(value)))
