"""The static checker against what fastavro does: what it allows can be read, what it forbids cannot."""

from __future__ import annotations

import io
from typing import Any

import fastavro
import pytest
from hypothesis import HealthCheck, given, settings

from schemas.catalogue import load_catalogue, record_classes
from schemas.compatibility import Rule, check_pair, find_problems
from tests.schemas.strategies import values_of


def record(*fields: Any, name: str = "R", **more: Any) -> dict[str, Any]:
    """A record schema of (name, type) or (name, type, default)."""
    entries = [{"name": f[0], "type": f[1]} | ({"default": f[2]} if len(f) == 3 else {}) for f in fields]
    return {"type": "record", "name": name, "namespace": "isthmus", "fields": entries, **more}


def enum(*symbols: str, **more: Any) -> dict[str, Any]:
    """An enum schema."""
    return {"type": "enum", "name": "E", "namespace": "isthmus", "symbols": list(symbols), **more}


def array(items: Any) -> dict[str, Any]:
    """An array schema."""
    return {"type": "array", "items": items}


A = ("a", "long")
INNER = record(("x", "long"), name="Inner")
GROWN_INNER = record(("x", "long"), ("y", "string"), name="Inner")
TREE = record(("value", "long"), ("children", array("isthmus.Tree")), name="Tree")
TREE_OF_TEXT = record(("value", "string"), ("children", array("isthmus.Tree")), name="Tree")

#: reader, writer, the path of every problem.
PAIRS: dict[str, tuple[Any, Any, list[str]]] = {
    "equal": (record(A), record(A), []),
    "added with default": (record(A, ("b", "string", "x")), record(A), []),
    "added without default": (record(A, ("b", "string")), record(A), ["R.b"]),
    "two added without default": (record(A, ("b", "string"), ("c", "long")), record(A), ["R.b", "R.c"]),
    "removed": (record(A), record(A, ("b", "string")), []),
    "renamed": (record(("b", "long")), record(A), ["R.b"]),
    "renamed with default": (record(("b", "long", 0)), record(A), []),
    "reordered": (record(("b", "string"), A), record(A, ("b", "string")), []),
    "int to long": (record(A), record(("a", "int")), []),
    "long to int": (record(("a", "int")), record(A), ["R.a"]),
    "int to double": (record(("a", "double")), record(("a", "int")), []),
    "long to double": (record(("a", "double")), record(A), []),
    "double to long": (record(A), record(("a", "double")), ["R.a"]),
    "float to double": (record(("a", "double")), record(("a", "float")), []),
    "double to float": (record(("a", "float")), record(("a", "double")), ["R.a"]),
    "long to string": (record(("a", "string")), record(A), ["R.a"]),
    "boolean to long": (record(A), record(("a", "boolean")), ["R.a"]),
    "string to bytes": (record(("a", "bytes")), record(("a", "string")), []),
    "symbol added by the writer": (record(("e", enum("x"))), record(("e", enum("x", "y"))), ["R.e"]),
    "symbol added by the reader": (record(("e", enum("x", "y"))), record(("e", enum("x"))), []),
    "symbols reordered": (record(("e", enum("y", "x"))), record(("e", enum("x", "y"))), []),
    "unknown symbol with default": (record(("e", enum("x", default="x"))), record(("e", enum("x", "y"))), []),
    "became optional": (record(("a", ["null", "long"])), record(A), []),
    "no longer optional": (record(A), record(("a", ["null", "long"])), ["R.a<null>"]),
    "optional stays": (record(("a", ["long", "null"])), record(("a", ["null", "long"])), []),
    "optional promoted": (record(("a", ["null", "long"])), record(("a", ["null", "int"])), []),
    "optional of another type": (record(("a", ["null", "string"])), record(("a", ["null", "long"])), ["R.a<long>"]),
    "became an array": (record(("a", array("long"))), record(A), ["R.a"]),
    "items promoted": (record(("a", array("long"))), record(("a", array("int"))), []),
    "items of another type": (record(("a", array("string"))), record(("a", array("long"))), ["R.a[]"]),
    "nested added": (record(("i", GROWN_INNER)), record(("i", INNER)), ["R.i.y"]),
    "nested removed": (record(("i", INNER)), record(("i", GROWN_INNER)), []),
    "nested in items": (record(("i", array(GROWN_INNER))), record(("i", array(INNER))), ["R.i[].y"]),
    "nested and optional": (
        record(("i", ["null", GROWN_INNER])),
        record(("i", ["null", INNER])),
        ["R.i<record isthmus.Inner>"],
    ),
    "fixed of another size": (
        record(("f", {"type": "fixed", "name": "F", "size": 4})),
        record(("f", {"type": "fixed", "name": "F", "size": 8})),
        ["R.f"],
    ),
    "another record": (record(("i", record(("x", "long"), name="Other"))), record(("i", INNER)), ["R.i"]),
    "alias of the field": (
        record() | {"fields": [{"name": "b", "type": "long", "aliases": ["a"]}]},
        record(A),
        [],
    ),
    "alias of the record": (record(A, name="New", aliases=["R"]), record(A), []),
    "values of a map": (
        record(("m", {"type": "map", "values": "string"})),
        record(("m", {"type": "map", "values": "long"})),
        ["R.m{}"],
    ),
    "recursive": (TREE, TREE, []),
    "recursive of another type": (TREE_OF_TEXT, TREE, ["Tree.value"]),
    "named twice": (
        record(("i", GROWN_INNER), ("j", "isthmus.Inner")),
        record(("i", INNER), ("j", "isthmus.Inner")),
        ["R.i.y"],
    ),
}

#: Where fastavro resolves what the specification forbids: names of nested records aside, these are its documented gaps.
FASTAVRO_IS_LAXER: frozenset[str] = frozenset()


def fastavro_reads(reader: Any, writer: Any, value: Any) -> bool:
    """Whether fastavro reads, as `reader`, this value written as `writer`."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(writer), value)
    out.seek(0)
    try:
        fastavro.schemaless_reader(out, fastavro.parse_schema(writer), fastavro.parse_schema(reader))
    except (fastavro.read.SchemaResolutionError, EOFError, IndexError, KeyError, ValueError, TypeError):
        return False
    return True


def outcomes_of(readers: list[Any], writer: Any) -> list[bool]:
    """For many values of the writer and each reader: whether fastavro reads it."""
    outcomes: list[bool] = []

    @settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(values_of(writer))
    def collect(value: Any) -> None:
        outcomes.extend(fastavro_reads(reader, writer, value) for reader in readers)

    collect()
    return outcomes


@pytest.mark.parametrize("name", PAIRS)
def test_the_checker_finds_every_problem_at_its_path(name: str) -> None:
    reader, writer, expected = PAIRS[name]
    assert [problem.path for problem in check_pair(reader, writer)] == expected


@pytest.mark.parametrize("name", [name for name in PAIRS if name not in FASTAVRO_IS_LAXER and "recursive" not in name])
def test_fastavro_agrees_with_the_checker(name: str) -> None:
    """Allowed: every value is read. Forbidden: some value is not."""
    reader, writer, expected = PAIRS[name]
    assert all(outcomes_of([reader], writer)) == (not expected)


@pytest.mark.parametrize("record_class", record_classes(), ids=lambda cls: cls.__name__)
def test_every_ordered_pair_of_published_versions_behaves_as_the_checker_says(record_class: Any) -> None:
    versions = [version.schema for version in load_catalogue().versions.get(record_class, ())]
    for writer in versions:
        readers = [reader for reader in versions if not check_pair(reader, writer)]
        assert readers
        assert all(outcomes_of(readers, writer))


def test_rules_are_transitive_and_tell_versions_apart() -> None:
    first, second, third = record(A), record(A, ("b", "long", 0)), record(A, ("b", "long"))
    assert find_problems([first, second], Rule.FULL) == ()
    assert find_problems([second, third], Rule.FULL) == ()
    assert find_problems([first, second, third], Rule.FORWARD) == ()
    assert find_problems([first, second, third], Rule.BACKWARD) == (
        "version 3 cannot read version 1: R.b: the writer does not have it and it has no default",
    )
    assert len(find_problems([first, second, third], Rule.FULL)) == 1


def test_a_schema_that_uses_an_undefined_type_is_refused() -> None:
    with pytest.raises(ValueError, match=r"isthmus\.Missing without defining it"):
        check_pair(record(("a", "isthmus.Missing")), record(("a", "isthmus.Missing")))
