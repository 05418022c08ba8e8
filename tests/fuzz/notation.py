"""Records as JSON that people can read and later releases still load: fields that are missing take their defaults.

A new field without one is empty: the rest of the case is what matters.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, cast

from schemas.catalogue import record_classes
from schemas.derivation import Shape, shapes_of
from schemas.record import Blob, Record


def record_to_json(record: Record) -> dict[str, Any]:
    """The class's name and its fields."""
    fields = {name: _to_json(getattr(record, name)) for name in shapes_of(type(record))}
    return {"type": type(record).__name__, **fields}


def record_from_json(data: dict[str, Any]) -> Record:
    """Raises `KeyError` when there is no such class any more."""
    return _build({cls.__name__: cls for cls in record_classes()}[data["type"]], data)


def _build(cls: type[Record], data: dict[str, Any]) -> Record:
    optional = {f.name for f in dataclasses.fields(cast(Any, cls)) if f.default is not dataclasses.MISSING}
    shapes = {name: shape for name, shape in shapes_of(cls).items() if name in data or name not in optional}
    return cls(**{name: _from_json(data.get(name, _empty(shape)), shape) for name, shape in shapes.items()})


def _empty(shape: Shape) -> Any:
    """The JSON of the least value."""
    match shape.kind:
        case "array":
            return []
        case "optional":
            return None
        case "record":
            return {}
        case "enum":
            return next(iter(cast(Any, shape.python_type)))
        case "blob":
            return {"blob": ""}
    return "" if shape.python_type is bytes else shape.python_type()


def _to_json(value: Any) -> Any:
    match value:
        case bytes():
            return _shorten(value.hex(), 2)
        case str():
            return _shorten(str(value), 1)
        case float() if not math.isfinite(value):
            return {"float": repr(value)}
        case Blob():
            return {"blob": value.content.hex()}
        case Record():
            return record_to_json(value)
        case tuple():
            if len(value) > 20 and len(set(map(repr, value))) == 1:
                return {"repeat": _to_json(value[0]), "times": len(value)}
            return [_to_json(item) for item in value]
    return value


def _shorten(text: str, unit: int) -> Any:
    """A long text that is a few characters over and over is told as that."""
    for width in range(unit, 33, unit):
        if len(text) > 200 and len(text) % width == 0 and text == text[:width] * (len(text) // width):
            return {"repeat": text[:width], "times": len(text) // width}
    return text


def _from_json(data: Any, shape: Shape) -> Any:
    if shape.kind == "optional":
        assert shape.item is not None
        return None if data is None else _from_json(data, shape.item)
    if isinstance(data, dict) and "repeat" in data:
        if shape.kind == "array":
            assert shape.item is not None
            return (_from_json(data["repeat"], shape.item),) * data["times"]
        data = data["repeat"] * data["times"]
    match shape.kind:
        case "array":
            assert shape.item is not None
            return tuple(_from_json(item, shape.item) for item in data)
        case "record":
            return _build(shape.python_type, data)
        case "enum":
            return shape.python_type(data)
        case "blob":
            return Blob.of(bytes.fromhex(data["blob"]))
    if isinstance(data, dict):
        return float(data["float"])
    return bytes.fromhex(data) if shape.python_type is bytes else data
