"""Records <-> bytes: Avro's single-object encoding (Avro 1.12 specification, "Single-object encoding").

`C3 01`, then the CRC-64-AVRO fingerprint of the writer's schema in little-endian order, then the Avro body. The reader
finds the writer's schema by the fingerprint among all versions ever published, and resolves it to the record class of
today; so no registry service is needed, and a message says by itself what it is.
"""

from __future__ import annotations

import io
import struct
from typing import Any

import fastavro

from schemas.catalogue import Version, load_catalogue
from schemas.conversion import LoadBlob, blob_walker, from_plain, to_plain
from schemas.derivation import schema_of
from schemas.record import Blob, Record

__all__ = ["DecodeError", "EncodeError", "blobs_of", "decode", "encode", "schema_of", "type_of"]

_MARKER = b"\xc3\x01"
_HEADER_BYTES = 10

#: What fastavro and the conversion raise on bodies that are cut, garbled, or do not resolve to today's record.
_BODY_ERRORS = (
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    StopIteration,
    TypeError,
    ValueError,
    struct.error,
    fastavro.read.SchemaResolutionError,
)


class DecodeError(ValueError):
    """The bytes are not a record of any published schema; the text says why."""


class EncodeError(TypeError):
    """A record has a value that its schema does not allow: a bug at the place that made the record."""


def encode(record: Record) -> bytes:
    """The record in single-object encoding, by the newest schema of its class. Blobs go as digest and size.

    Raises `EncodeError`, or `CatalogueError` when the class has no published schema.
    """
    cls = type(record)
    version = load_catalogue().newest(cls)
    out = io.BytesIO()
    out.write(_MARKER + version.fingerprint)
    try:
        fastavro.schemaless_writer(out, version.parsed, to_plain(cls)(record))
    except (TypeError, ValueError, AttributeError, KeyError, OverflowError) as error:
        raise EncodeError(f"{cls.__name__} cannot be encoded: {error}") from error
    return out.getvalue()


def decode(data: bytes, load_blob: LoadBlob | None = None) -> Record:
    """The record in `data`. Its blobs fetch their content through `load_blob`, at first use.

    Raises `DecodeError`.
    """
    version = _writer_of(data)
    newest = load_catalogue().newest(version.record)
    stream = io.BytesIO(data)
    stream.seek(_HEADER_BYTES)
    try:
        reader_schema = None if version is newest else newest.parsed
        plain: Any = fastavro.schemaless_reader(stream, version.parsed, reader_schema)
        left = len(data) - stream.tell()
        record: Record = from_plain(version.record)(plain, load_blob)
    except EOFError as error:
        raise DecodeError(f"truncated {_describe(version)}: {len(data)} bytes are not all of it") from error
    except _BODY_ERRORS as error:
        raise DecodeError(f"malformed {_describe(version)}: {type(error).__name__}: {error}") from error
    if left:
        raise DecodeError(f"{left} trailing bytes after {_describe(version)}")
    return record


def type_of(data: bytes) -> type[Record]:
    """The class of the record in `data`, by its fingerprint alone. Raises `DecodeError`."""
    return _writer_of(data).record


def blobs_of(record: Record) -> tuple[Blob, ...]:
    """The blobs inside the record, at any depth, whose bytes are in memory: to be stored before the record is."""
    walk = blob_walker(type(record))
    return () if walk is None else tuple(blob for blob in walk(record) if blob.is_loaded)


def _writer_of(data: bytes) -> Version:
    if data[:2] != _MARKER:
        raise DecodeError(
            f"not Avro single-object encoding: {len(data)} bytes begin with"
            f" {data[:2].hex(' ') or 'nothing'}, expected {_MARKER.hex(' ')}"
        )
    if len(data) < _HEADER_BYTES:
        raise DecodeError(f"truncated: {len(data)} bytes, the header alone has {_HEADER_BYTES}")
    version = load_catalogue().by_fingerprint.get(data[2:_HEADER_BYTES])
    if version is None:
        raise DecodeError(
            f"unknown schema fingerprint {data[2:_HEADER_BYTES].hex()}: written by a newer release, or not ours"
        )
    return version


def _describe(version: Version) -> str:
    return f"{version.record.__name__} (schema version {version.number})"
