"""Bytes that call themselves records: whatever they are, they decode or a `DecodeError` says why they do not."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import strategies as st

from schemas.catalogue import Version, load_catalogue
from schemas.codec import DecodeError, decode, encode, type_of
from schemas.conversion import from_plain
from tests.schemas.strategies import values_of

MARKER = b"\xc3\x01"


def avro_long(value: int) -> bytes:
    """As Avro has it: zigzag, then seven bits a byte."""
    rest = (value << 1) ^ (value >> 63)
    rest &= (1 << 64) - 1
    found = bytearray()
    while rest >= 128:
        found.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*found, rest])


#: Lengths, counts and numbers at which decoders break; and what is no number at all.
_NUMBERS = (0, 1, -1, 2, -2, 63, 64, 2**20, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**31), -(2**63), -(2**40))
_PIECES = (
    *map(avro_long, _NUMBERS),
    b"\xff" * 10,
    b"\x80" * 9,
    b"\xff" * 20,
    b"\x02a",
    b"\x04\xc3\x28",
    bytes(8),
    b"\xff" * 8,
)


def _versions() -> list[Version]:
    return list(itertools.chain.from_iterable(load_catalogue().versions.values()))


def _bodies() -> st.SearchStrategy[bytes]:
    piece = st.one_of(st.sampled_from(_PIECES), st.binary(min_size=1, max_size=4))
    return st.lists(piece, max_size=24).map(b"".join)


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    """A valid encoding of a published version, changed in places."""
    version = draw(st.sampled_from(_versions()))
    if version is load_catalogue().newest(version.record):
        data = encode(from_plain(version.record)(draw(values_of(version.schema)), None))
    else:
        data = MARKER + version.fingerprint + draw(_bodies())
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(data)))
        piece = draw(st.one_of(st.sampled_from(_PIECES), st.binary(max_size=3)))
        kept = draw(st.sampled_from((0, 1, len(piece), len(data))))
        data = data[:place] + piece + data[place + kept :]
    return data


def encodings() -> st.SearchStrategy[bytes]:
    """Anything, with more of what comes far."""
    headed = st.builds(
        lambda version, body: MARKER + version.fingerprint + body, st.sampled_from(_versions()), _bodies()
    )
    return st.one_of(_mutated(), headed, headed, st.binary(max_size=40))


def check_encoding(data: bytes) -> None:
    """It decodes to a record of the class that it names, which encodes again; or it is a `DecodeError`."""
    try:
        record = decode(data)
    except DecodeError as error:
        reason = str(error)
        if not 0 < len(reason) < 10_000:
            raise AssertionError(f"the reason has {len(reason):,} characters") from error
        return
    assert type(record) is type_of(data)
    again = encode(record)
    assert decode(again) == record or "nan" in repr(record)
    assert encode(decode(again)) == again


def to_json(data: bytes) -> Any:
    return {"hex": data.hex()}


def from_json(data: Any) -> bytes:
    return bytes.fromhex(data["hex"])
