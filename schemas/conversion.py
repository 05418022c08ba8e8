"""Between records and the plain values (dicts, lists, str, ...) that an Avro library works on.

The functions are put together once a class and cached: encoding and decoding of thousands of small records a second
must not look at type hints.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

from schemas.derivation import Shape, full_name, once_a_class, shapes_of
from schemas.record import Blob, Record

LoadBlob = Callable[[Blob], bytes]
ToPlain = Callable[[Any], Any]
FromPlain = Callable[[Any, LoadBlob | None], Any]

_NUMBERS: dict[type, ToPlain] = {int: operator.index, float: operator.pos}
_BRANCH_NAMES: dict[type, str] = {str: "string", int: "long", float: "double", bool: "boolean", bytes: "bytes"}


@once_a_class
def to_plain(cls: type[Record]) -> Callable[[Any], dict[str, Any]]:
    """The function that turns a record of this class into a dict for an Avro writer."""
    changed = [(name, convert) for name, shape in shapes_of(cls).items() if (convert := _writer(shape)) is not None]

    def convert_record(record: Any) -> dict[str, Any]:
        plain = dict(record.__dict__)
        for name, convert in changed:
            plain[name] = convert(plain[name])
        return plain

    return convert_record


@once_a_class
def from_plain(cls: type[Record]) -> Callable[[dict[str, Any], LoadBlob | None], Any]:
    """The function that turns the dict of an Avro reader, which it may keep, into a record of this class."""
    changed = [(name, convert) for name, shape in shapes_of(cls).items() if (convert := _reader(shape)) is not None]
    is_plain = not hasattr(cls, "__post_init__")

    def convert_record(plain: dict[str, Any], load: LoadBlob | None) -> Any:
        values = dict(plain)
        for name, convert in changed:
            values[name] = convert(values[name], load)
        if not is_plain:
            return cls(**values)
        # A frozen dataclass's __init__ costs a call of object.__setattr__ a field; this is the same without them.
        record = cls.__new__(cls)
        record.__dict__.update(values)
        return record

    return convert_record


@once_a_class
def blob_walker(cls: type[Record]) -> Callable[[Any], Iterator[Blob]] | None:
    """The function that lists the blobs inside a record of this class; `None` when it cannot have any."""
    walkers = [(name, walk) for name, shape in shapes_of(cls).items() if (walk := _walker(shape)) is not None]
    if not walkers:
        return None

    def walk_record(record: Any) -> Iterator[Blob]:
        for name, walk in walkers:
            yield from walk(getattr(record, name))

    return walk_record


def _writer(shape: Shape) -> ToPlain | None:
    """`None` means that the value can be handed over as it is."""
    match shape.kind:
        case "primitive":
            # fastavro cuts 1.5 to 1 in a field of type long, and reads "1" as a double: refuse what is not a number.
            return _NUMBERS.get(shape.python_type)
        case "record":
            return to_plain(shape.python_type)
        case "blob":
            return lambda blob: {"sha256": blob.sha256, "size": blob.size}
        case "array":
            assert shape.item is not None
            convert = _writer(shape.item)
            return list if convert is None else lambda items: list(map(convert, items))
        case "optional":
            assert shape.item is not None
            # Naming the branch spares fastavro to find it by validating the value against each.
            branch, inner = _branch_name(shape.item), _writer(shape.item)
            if inner is None:
                return lambda value: None if value is None else (branch, value)
            return lambda value: None if value is None else (branch, inner(value))
    return None


def _branch_name(shape: Shape) -> str:
    if shape.kind in ("record", "enum", "blob"):
        return full_name(shape.python_type)
    return _BRANCH_NAMES.get(shape.python_type, "array")


def _reader(shape: Shape) -> FromPlain | None:
    match shape.kind:
        case "record":
            return from_plain(shape.python_type)
        case "enum":
            members = {member.value: member for member in shape.python_type}  # type: ignore[attr-defined]
            return lambda value, load: members[value]
        case "blob":
            return lambda plain, load: Blob(plain["sha256"], plain["size"], load)
        case "array":
            assert shape.item is not None
            convert = _reader(shape.item)
            if convert is None:
                return lambda items, load: tuple(items)
            return lambda items, load: tuple([convert(item, load) for item in items])
        case "optional":
            assert shape.item is not None
            inner = _reader(shape.item)
            if inner is not None:
                return lambda value, load: None if value is None else inner(value, load)
    return None


def _walker(shape: Shape) -> Callable[[Any], Iterator[Blob]] | None:
    match shape.kind:
        case "record":
            return blob_walker(shape.python_type)
        case "blob":
            return lambda blob: iter((blob,))
        case "array" | "optional":
            assert shape.item is not None
            walk = _walker(shape.item)
            if walk is None:
                return None
            if shape.kind == "optional":
                return lambda value: iter(()) if value is None else walk(value)
            return lambda items: (blob for item in items for blob in walk(item))
    return None
