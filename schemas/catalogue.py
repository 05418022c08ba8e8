"""Which records exist, every version of their schemas that was ever published, and which fingerprint means which."""

from __future__ import annotations

import functools
import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from schemas.derivation import schema_of
from schemas.record import Record

#: The modules that define records.
MODULES = (
    "schemas.jobs",
    "schemas.tasks",
    "schemas.envelope",
    "schemas.audit",
    "schemas.audit_statements",
    "schemas.revelations",
    "schemas.deadletter",
    "schemas.engine_states",
    "schemas.alignment",
    "schemas.training",
    "schemas.evaluation",
    "schemas.registration",
    "schemas.cohorts",
    "schemas.models",
    "schemas.scoring",
    "schemas.serving",
    "schemas.statements",
    "schemas.views",
    "schemas.job_states",
    "schemas.alignment_states",
    "schemas.training_states",
    "schemas.evaluation_states",
    "schemas.registration_states",
    "schemas.cohort_states",
    "schemas.audit_states",
    "schemas.scoring_states",
)

#: `<Record>/<version>.avsc` for every version ever published.
FOLDER = Path(__file__).parent / "avro"


class CatalogueError(Exception):
    """The published schemas and the record classes do not fit together."""


@dataclass(frozen=True, eq=False)
class Version:
    """One published schema of one record. `schema` is the file as it is, `parsed` is what fastavro made of it."""

    record: type[Record]
    number: int
    schema: dict[str, Any]
    parsed: Any
    #: CRC-64-AVRO of the parsing canonical form, in the little-endian order of the single-object encoding.
    fingerprint: bytes


def parse_version(record: type[Record], number: int, schema: dict[str, Any]) -> Version:
    """A version from its schema's JSON. Raises `fastavro.schema.SchemaParseException` and the like when it is wrong."""
    # fastavro keeps the caller's nested dicts: give it its own.
    parsed = fastavro.parse_schema(json.loads(json.dumps(schema)))
    crc = fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")
    _decode_bytes_defaults(parsed, {})
    return Version(record, number, schema, parsed, bytes.fromhex(crc))


class Catalogue:
    """Record classes by name and their published versions, in order; the newest is the one that is written."""

    def __init__(self) -> None:
        self.versions: dict[type[Record], tuple[Version, ...]] = {}
        self.by_fingerprint: dict[bytes, Version] = {}

    def add(self, version: Version) -> None:
        """Take one more version of a record. Raises `CatalogueError` when another record has its fingerprint."""
        known = self.by_fingerprint.get(version.fingerprint)
        if known is not None and known.record is not version.record:
            raise CatalogueError(
                f"{version.record.__name__} {version.number} and {known.record.__name__} {known.number} have the same"
                f" fingerprint {version.fingerprint.hex()}"
            )
        self.versions[version.record] = (*self.versions.get(version.record, ()), version)
        self.by_fingerprint[version.fingerprint] = version

    def newest(self, record: type[Record]) -> Version:
        """The version that is written. Raises `CatalogueError` when none was published."""
        versions = self.versions.get(record)
        if not versions:
            raise CatalogueError(
                f"{record.__name__} has no published schema in {FOLDER}: run `python -m schemas.publish`"
                " (in tests: schemas.catalogue.register)"
            )
        return versions[-1]


@functools.cache
def record_classes() -> tuple[type[Record], ...]:
    """Every record class of the contract, by name."""
    for module in MODULES:
        importlib.import_module(module)
    found: dict[str, type[Record]] = {}
    waiting = list(Record.__subclasses__())
    while waiting:
        cls = waiting.pop()
        waiting.extend(cls.__subclasses__())
        if cls.__module__ not in MODULES:
            continue
        if cls.__name__ in found:
            raise CatalogueError(
                f"two records are called {cls.__name__}: {found[cls.__name__].__module__}, {cls.__module__}"
            )
        found[cls.__name__] = cls
    return tuple(found[name] for name in sorted(found))


def published_schemas(name: str, folder: Path = FOLDER) -> tuple[dict[str, Any], ...]:
    """The schemas of a record's versions 1, 2, ... as they are on disk. Raises `CatalogueError` at a gap."""
    numbers = sorted(int(path.stem) for path in (folder / name).glob("*.avsc"))
    if numbers != list(range(1, len(numbers) + 1)):
        raise CatalogueError(f"{folder / name}: versions must be numbered 1, 2, ... without a gap, found {numbers}")
    return tuple(json.loads((folder / name / f"{number}.avsc").read_text()) for number in numbers)


@functools.cache
def load_catalogue() -> Catalogue:
    """The catalogue of everything in `FOLDER`, loaded once a process."""
    catalogue = Catalogue()
    for record in record_classes():
        for number, schema in enumerate(published_schemas(record.__name__), start=1):
            catalogue.add(parse_version(record, number, schema))
    return catalogue


def register(record: type[Record]) -> None:
    """Let this process encode and decode a record that is not part of the contract, such as one that a test defines."""
    catalogue = load_catalogue()
    if record not in catalogue.versions:
        catalogue.add(parse_version(record, 1, schema_of(record)))


def _decode_bytes_defaults(schema: Any, named: dict[str, Any]) -> None:
    """Turn the defaults of bytes fields, which JSON has as text, into bytes: fastavro does not."""
    if isinstance(schema, list):
        for branch in schema:
            _decode_bytes_defaults(branch, named)
    if not isinstance(schema, dict):
        return
    if schema["type"] == "array":
        _decode_bytes_defaults(schema["items"], named)
    if schema["type"] != "record":
        return
    named[schema["name"]] = schema
    for field in schema["fields"]:
        _decode_bytes_defaults(field["type"], named)
        if "default" in field:
            field["default"] = _decoded_default(field["type"], field["default"], named)


def _decoded_default(schema: Any, value: Any, named: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return _decoded_default(schema[0], value, named)
    schema = named.get(schema, schema) if isinstance(schema, str) else schema
    if schema == "bytes":
        return value.encode("latin-1") if isinstance(value, str) else value
    if isinstance(schema, dict) and schema["type"] == "array":
        return [_decoded_default(schema["items"], item, named) for item in value]
    if isinstance(schema, dict) and schema["type"] == "record":
        types = {field["name"]: field["type"] for field in schema["fields"]}
        return {name: _decoded_default(types[name], item, named) for name, item in value.items()}
    return value
