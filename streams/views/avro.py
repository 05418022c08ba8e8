"""The contract's wire format as a faust codec."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from faust.serializers import codecs

from schemas.codec import DecodeError, decode, encode
from schemas.record import Record

#: The codec's name in faust's registry.
NAME = "isthmus-avro"


@dataclass(frozen=True)
class Unreadable:
    """In place of a record that this release cannot decode, such as a newer release's: no reason for a view to end."""

    problem: str


class AvroCodec(codecs.Codec):
    """Records <-> Avro single-object encoding, by `schemas.codec`."""

    def _loads(self, s: bytes) -> Record | Unreadable:
        try:
            return decode(s)
        except DecodeError as error:
            return Unreadable(str(error))

    def _dumps(self, s: Any) -> bytes:
        return encode(s)


codecs.register(NAME, AvroCodec())
