"""Records in a file, one after the other: each is four bytes of length and an Avro single-object encoding."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from producers.audit_trail import AuditError
from schemas.codec import DecodeError, decode, encode
from schemas.footprint import check_footprint
from schemas.record import Record

_LENGTH_BYTES = 4
#: An envelope of a chunk has less than a megabyte, a step's list of those that crossed some.
MOST_RECORD_BYTES = 1 << 26


def write_record(file: BinaryIO, record: Record) -> None:
    """Append the record."""
    data = encode(record)
    file.write(len(data).to_bytes(_LENGTH_BYTES, "big") + data)


def read_records(path: Path) -> Iterator[Record]:
    """The records in their order, one in memory at a time. Raises `AuditError`: the file is not what it should be."""
    try:
        with path.open("rb") as file:
            while head := file.read(_LENGTH_BYTES):
                size = int.from_bytes(head, "big")
                data = file.read(size) if size <= MOST_RECORD_BYTES else b""
                if len(head) < _LENGTH_BYTES or len(data) != size:
                    raise AuditError(f"{path} ends within a record, or is no file of records: get it again")
                check_footprint(data)
                yield decode(data)
    except OSError as error:
        raise AuditError(f"{path} cannot be read: {error}") from error
    except DecodeError as error:
        raise AuditError(f"{path} is no file of records of this release: {error}") from error
