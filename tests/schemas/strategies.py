"""Hypothesis strategies of the plain values that an Avro schema allows."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

_LONGS = st.integers(-(2**63), 2**63 - 1)
_PRIMITIVES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": _LONGS,
    "float": st.floats(allow_nan=False, width=32),
    "double": st.floats(allow_nan=False),
    "bytes": st.binary(max_size=20),
    "string": st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
}


def values_of(schema: Any, named: dict[str, Any] | None = None) -> st.SearchStrategy[Any]:
    """Values that a writer with this schema may be given; named types are looked up in `named`."""
    named = {} if named is None else named
    if isinstance(schema, list):
        return st.one_of([values_of(branch, named) for branch in schema])
    if isinstance(schema, str):
        return _PRIMITIVES[schema] if schema in _PRIMITIVES else values_of(named[schema], named)
    if "name" in schema:
        named[f"{schema['namespace']}.{schema['name']}" if "namespace" in schema else schema["name"]] = schema
    match schema["type"]:
        case "record":
            return st.fixed_dictionaries({f["name"]: values_of(f["type"], named) for f in schema["fields"]})
        case "enum":
            return st.sampled_from(schema["symbols"])
        case "array":
            return st.lists(values_of(schema["items"], named), max_size=3)
        case "map":
            return st.dictionaries(_PRIMITIVES["string"], values_of(schema["values"], named), max_size=3)
        case "fixed":
            return st.binary(min_size=schema["size"], max_size=schema["size"])
    return values_of(schema["type"], named)
