"""Can a reader with one schema read what a writer with another wrote? Decided from the schemas alone.

The rules are those of the Avro 1.12 specification, "Schema resolution". Every problem is found, with its path: a check
that stops at the first makes people fix one thing at a time. Where fastavro is laxer than the specification (it takes a
record for another of the same unqualified name, or bytes for a string) the specification counts, with one exception
that both share: an enum symbol the reader lacks is read as the reader's enum default when it has one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from schemas.record import Record

#: Writer type -> reader types it is promoted to.
_PROMOTIONS: dict[str, frozenset[str]] = {
    "int": frozenset({"long", "float", "double"}),
    "long": frozenset({"float", "double"}),
    "float": frozenset({"double"}),
    "string": frozenset({"bytes"}),
    "bytes": frozenset({"string"}),
}

_PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})


class Rule(StrEnum):
    """Who must be able to read whom. All rules are transitive: they hold against every version, not the last only."""

    #: The newest reads all older: what rests in a topic or a state survives an upgrade.
    BACKWARD = "backward_transitive"
    #: All older read the newest: a party that has not upgraded understands one that has.
    FORWARD = "forward_transitive"
    FULL = "full_transitive"


@dataclass(frozen=True)
class Problem:
    """One reason why `reader` cannot read `writer`. `path` is like `SubmitJob.spec.train.rank`."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def rule_of(record: type[Record]) -> Rule:
    """Private states and the registry are read by newer releases only; everything else may meet an older party."""
    module = record.__module__.rsplit(".", 1)[-1]
    return Rule.BACKWARD if module.endswith("_states") or module == "models" else Rule.FULL


def find_problems(versions: Sequence[Any], rule: Rule) -> tuple[str, ...]:
    """Check the newest schema of `versions` (oldest first) against every older one; one line for each problem."""
    *olds, new = versions
    lines: list[str] = []
    for number, old in enumerate(olds, start=1):
        if rule in (Rule.BACKWARD, Rule.FULL):
            lines += [f"version {len(versions)} cannot read version {number}: {p}" for p in check_pair(new, old)]
        if rule in (Rule.FORWARD, Rule.FULL):
            lines += [f"version {number} cannot read version {len(versions)}: {p}" for p in check_pair(old, new)]
    return tuple(lines)


def check_pair(reader: Any, writer: Any) -> tuple[Problem, ...]:
    """Every problem of reading, with the schema `reader`, what was written with the schema `writer`."""
    checker = _Checker(_named_types(reader), _named_types(writer))
    name = reader.get("name", "") if isinstance(reader, dict) else ""
    return tuple(checker.problems(reader, writer, name.rsplit(".", 1)[-1]))


@dataclass(frozen=True)
class _Named:
    types: dict[str, Any]

    def resolve(self, schema: Any) -> Any:
        """Replace the name of a type by its definition, and `{"type": "long"}` by `"long"`."""
        if isinstance(schema, str) and schema not in _PRIMITIVES:
            if schema not in self.types:
                raise ValueError(f"the schema uses the type {schema} without defining it")
            return self.types[schema]
        if isinstance(schema, dict) and isinstance(schema["type"], (dict, list)):
            return self.resolve(schema["type"])
        if isinstance(schema, dict) and schema["type"] in _PRIMITIVES:
            return schema["type"]
        return schema


class _Checker:
    """One reader against one writer. Pairs of named types under comparison are remembered: types may be recursive."""

    def __init__(self, readers: _Named, writers: _Named) -> None:
        self._readers, self._writers = readers, writers
        self._seen: set[tuple[str, str]] = set()

    def problems(self, reader: Any, writer: Any, path: str) -> Iterator[Problem]:
        reader, writer = self._readers.resolve(reader), self._writers.resolve(writer)
        if isinstance(writer, list):
            for branch in writer:
                yield from self.problems(reader, branch, f"{path}<{_label(self._writers.resolve(branch))}>")
            return
        if isinstance(reader, list):
            if not any(self._can_read(branch, writer, path) for branch in reader):
                yield Problem(path, f"no branch of the reader's union reads the writer's {_label(writer)}")
            return
        reader_type, writer_type = _type_of(reader), _type_of(writer)
        if reader_type != writer_type:
            if reader_type not in _PROMOTIONS.get(writer_type, ()):
                yield Problem(path, f"the writer's {_label(writer)} cannot be read as {_label(reader)}")
        elif reader_type == "array":
            yield from self.problems(reader["items"], writer["items"], f"{path}[]")
        elif reader_type == "map":
            yield from self.problems(reader["values"], writer["values"], f"{path}{{}}")
        elif reader_type not in _PRIMITIVES:
            yield from self._named_problems(reader, writer, path)

    def _can_read(self, reader: Any, writer: Any, path: str) -> bool:
        trial = _Checker(self._readers, self._writers)
        trial._seen = set(self._seen)
        return not any(trial.problems(reader, writer, path))

    def _named_problems(self, reader: dict[str, Any], writer: dict[str, Any], path: str) -> Iterator[Problem]:
        names = (_full_name(reader), _full_name(writer))
        if names in self._seen:
            return
        if names[0] != names[1] and names[1] not in _aliases(reader):
            yield Problem(path, f"the writer's {_label(writer)} has another name than the reader's {_label(reader)}")
            return
        self._seen.add(names)
        match reader["type"]:
            case "record":
                yield from self._record_problems(reader, writer, path)
            case "enum":
                if "default" not in reader:
                    for symbol in writer["symbols"]:
                        if symbol not in reader["symbols"]:
                            yield Problem(path, f"the reader's enum {names[0]} lacks the symbol {symbol}")
            case "fixed":
                if reader["size"] != writer["size"]:
                    yield Problem(path, f"fixed of {writer['size']} bytes cannot be read as of {reader['size']}")

    def _record_problems(self, reader: dict[str, Any], writer: dict[str, Any], path: str) -> Iterator[Problem]:
        written = {field["name"]: field for field in writer["fields"]}
        for field in reader["fields"]:
            source = next((written[n] for n in (field["name"], *field.get("aliases", ())) if n in written), None)
            if source is not None:
                yield from self.problems(field["type"], source["type"], f"{path}.{field['name']}")
            elif "default" not in field:
                yield Problem(f"{path}.{field['name']}", "the writer does not have it and it has no default")


def _named_types(schema: Any) -> _Named:
    found: dict[str, Any] = {}

    def visit(part: Any, namespace: str) -> None:
        if isinstance(part, list):
            for branch in part:
                visit(branch, namespace)
        if not isinstance(part, dict):
            return
        if part.get("type") in ("record", "enum", "fixed"):
            found[_full_name(part, namespace)] = part
            namespace = part.get("namespace", namespace)
        for field in part.get("fields", ()):
            visit(field["type"], namespace)
        for key in ("items", "values", "type"):
            visit(part.get(key), namespace)

    visit(schema, "")
    return _Named(found)


def _full_name(schema: dict[str, Any], namespace: str = "") -> str:
    name: str = schema["name"]
    space: str = schema.get("namespace", namespace)
    return name if "." in name or not space else f"{space}.{name}"


def _aliases(schema: dict[str, Any]) -> tuple[str, ...]:
    space = _full_name(schema).rpartition(".")[0]
    return tuple(alias if "." in alias or not space else f"{space}.{alias}" for alias in schema.get("aliases", ()))


def _type_of(schema: Any) -> str:
    return str(schema["type"]) if isinstance(schema, dict) else str(schema)


def _label(schema: Any) -> str:
    if isinstance(schema, list):
        return "union"
    return (
        f"{schema['type']} {_full_name(schema)}" if isinstance(schema, dict) and "name" in schema else _type_of(schema)
    )
