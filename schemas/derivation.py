"""From a record's dataclass to its Avro schema (Avro 1.12): self-contained, every type defined at its first use."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from schemas.record import Blob, Record

#: The namespace of every named type.
NAMESPACE = "isthmus"

_T = typing.TypeVar("_T")

_PRIMITIVES: dict[type, str] = {str: "string", int: "long", float: "double", bool: "boolean", bytes: "bytes"}


def once_a_class(function: Callable[[type[Record]], _T]) -> Callable[[type[Record]], _T]:
    """Remember what the function gave for a class. (As `functools.cache`, whose type refuses classes.)"""
    return typing.cast(Callable[[type[Record]], _T], functools.cache(function))


class UnsupportedFieldError(TypeError):
    """A record has a field of a type that records must not have."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """What a field's type hint says: one of the kinds below, with `item` the inner shape of an array or an optional."""

    #: `primitive`, `enum`, `record`, `blob`, `array` or `optional`.
    kind: str
    python_type: type
    item: Shape | None = None


def shape_of(hint: Any, where: str) -> Shape:
    """The shape of a type hint. Raises `UnsupportedFieldError` naming `where`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return Shape("array", tuple, shape_of(arguments[0], where))
    if origin in (typing.Union, types.UnionType) and len(arguments) == 2 and types.NoneType in arguments:
        inner = shape_of(next(a for a in arguments if a is not types.NoneType), where)
        if inner.kind != "optional":
            return Shape("optional", types.NoneType, inner)
    if isinstance(hint, type) and origin is None:
        if hint in _PRIMITIVES:
            return Shape("primitive", hint)
        if hint is Blob:
            return Shape("blob", Blob)
        if issubclass(hint, StrEnum):
            return Shape("enum", hint)
        if issubclass(hint, Record) and dataclasses.is_dataclass(hint):
            return Shape("record", hint)
    raise UnsupportedFieldError(f"{where}: records cannot have fields of type {hint!r}; see schemas.record.Record")


@once_a_class
def shapes_of(cls: type[Record]) -> dict[str, Shape]:
    """The shape of every field of a record class, in order."""
    if not dataclasses.is_dataclass(cls):
        raise UnsupportedFieldError(f"{cls!r} is not a record: a frozen dataclass that extends schemas.record.Record")
    hints = typing.get_type_hints(cls)
    return {f.name: shape_of(hints[f.name], f"{cls.__name__}.{f.name}") for f in dataclasses.fields(cls)}


def schema_of(cls: type[Record]) -> dict[str, Any]:
    """The Avro schema that the dataclass implies. Raises `UnsupportedFieldError`."""
    return _record_schema(cls, set())


def full_name(cls: type) -> str:
    """The Avro full name of a record or an enum."""
    return f"{NAMESPACE}.{cls.__name__}"


def _record_schema(cls: type[Record], defined: set[str]) -> dict[str, Any]:
    defined.add(cls.__name__)
    defaults = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    fields = []
    for name, shape in shapes_of(cls).items():
        default = _default_of(defaults[name])
        entry: dict[str, Any] = {"name": name, "type": _avro_type(shape, defined)}
        if default is not dataclasses.MISSING:
            if shape.kind == "optional" and default is not None:
                entry["type"].reverse()  # An Avro default belongs to the first branch of a union.
            entry["default"] = _plain_default(shape, default)
        fields.append(entry)
    return _named(cls, {"type": "record", "fields": fields})


def _named(cls: type, rest: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": rest.pop("type"), "name": cls.__name__, "namespace": NAMESPACE}
    if doc := inspect.cleandoc(cls.__doc__ or ""):
        schema["doc"] = doc
    return schema | rest


def _avro_type(shape: Shape, defined: set[str]) -> Any:
    match shape.kind:
        case "primitive":
            return _PRIMITIVES[shape.python_type]
        case "array":
            assert shape.item is not None
            return {"type": "array", "items": _avro_type(shape.item, defined)}
        case "optional":
            assert shape.item is not None
            return ["null", _avro_type(shape.item, defined)]
    if shape.python_type.__name__ in defined:
        return full_name(shape.python_type)
    if shape.kind == "record":
        return _record_schema(shape.python_type, defined)
    defined.add(shape.python_type.__name__)
    if shape.kind == "blob":
        doc = "Bytes that are kept in the blob store under their SHA-256."
        fields = [{"name": "sha256", "type": "bytes"}, {"name": "size", "type": "long"}]
        return {"type": "record", "name": "Blob", "namespace": NAMESPACE, "doc": doc, "fields": fields}
    members = typing.cast(type[StrEnum], shape.python_type).__members__
    schema: dict[str, Any] = {"type": "enum", "symbols": [member.value for member in members.values()]}
    if "UNKNOWN" in members:
        # A reader takes its enum's default for a symbol that it lacks: such an enum may grow.
        schema["default"] = members["UNKNOWN"].value
    return _named(shape.python_type, schema)


def _default_of(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _plain_default(shape: Shape, value: Any) -> Any:
    """The default as Avro writes it in a schema's JSON."""
    match shape.kind:
        case "array":
            assert shape.item is not None
            return [_plain_default(shape.item, item) for item in value]
        case "optional":
            assert shape.item is not None
            return None if value is None else _plain_default(shape.item, value)
        case "record":
            inner = shapes_of(shape.python_type)
            return {name: _plain_default(inner[name], getattr(value, name)) for name in inner}
        case "enum":
            return shape.python_type(value).value
        case "blob":
            raise UnsupportedFieldError("a blob cannot be a default")
    return value.decode("latin-1") if isinstance(value, bytes) else value
