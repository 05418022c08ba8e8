"""The codec: what is encoded comes back, by fastavro too; what is not a record of ours is refused in clear words."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import Any

import fastavro
import pytest
from fastavro.schema import fingerprint
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.catalogue import CatalogueError, load_catalogue, record_classes, register
from schemas.codec import DecodeError, EncodeError, blobs_of, decode, encode, schema_of
from schemas.conversion import from_plain
from schemas.derivation import UnsupportedFieldError
from schemas.jobs import JobFailed, Leak, Mistake, PartySpec, Reason, Stage
from schemas.record import Blob, Record
from schemas.tasks import TimerFired
from tests.schemas.strategies import values_of

ALL = record_classes()


@dataclass(frozen=True)
class Inner(Record):
    """A record that a test nests in others."""

    name: str
    model: Blob


@dataclass(frozen=True)
class Everything(Record):
    """One field of each shape that records may have."""

    flag: bool
    count: int
    ratio: float
    text: str
    raw: bytes
    stage: Stage
    inner: Inner
    blob: Blob
    counts: tuple[int, ...]
    leaks: tuple[Leak, ...]
    inners: tuple[Inner, ...]
    pairs: tuple[tuple[int, ...], ...]
    maybe_text: str | None
    maybe_stage: Stage | None
    maybe_inner: Inner | None
    maybe_blob: Blob | None
    maybe_counts: tuple[int, ...] | None
    maybe_numbers: tuple[int | None, ...] = (None, 3)
    maybe_default: int | None = 4
    raw_default: bytes = b"\x00\xff"
    party_default: PartySpec = PartySpec("acme", "customers")


def everything(**changes: Any) -> Everything:
    """An `Everything`, with these fields changed."""
    blob = Blob.of(b"content")
    values: dict[str, Any] = {
        "flag": True,
        "count": -(2**63),
        "ratio": 0.1,
        "text": "grüße",
        "raw": bytes(range(256)),
        "stage": Stage.TRAIN,
        "inner": Inner("a", blob),
        "blob": Blob.of(b"other"),
        "counts": (1, 2),
        "leaks": (Leak.SMALL_TABLE,),
        "inners": (Inner("b", blob), Inner("c", blob)),
        "pairs": ((1, 2), ()),
        "maybe_text": "x",
        "maybe_stage": Stage.ALIGN,
        "maybe_inner": Inner("d", blob),
        "maybe_blob": Blob.of(b"third"),
        "maybe_counts": (7, 8),
    }
    return Everything(**(values | changes))


@pytest.fixture(autouse=True, scope="module")
def _registered() -> None:
    register(Everything)


@pytest.mark.parametrize("record_class", ALL, ids=lambda cls: cls.__name__)
def test_every_record_comes_back_as_it_was_and_fastavro_alone_reads_the_same(record_class: type[Record]) -> None:
    version = load_catalogue().newest(record_class)

    @settings(max_examples=15, deadline=None)
    @given(values_of(version.schema))
    def check(plain: dict[str, Any]) -> None:
        record = from_plain(record_class)(plain, None)
        data = encode(record)
        assert decode(data) == record
        assert encode(decode(data)) == data
        assert fastavro.schemaless_reader(io.BytesIO(data[10:]), version.schema, None) == plain

    check()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"maybe_text": None, "maybe_stage": None, "maybe_inner": None, "maybe_blob": None, "maybe_counts": None},
        {"inners": (), "counts": (), "leaks": (), "pairs": (), "maybe_counts": ()},
        {"maybe_default": None, "maybe_numbers": (), "raw_default": b""},
    ],
)
def test_every_shape_of_field_comes_back_with_its_type(changes: dict[str, Any]) -> None:
    record = everything(**changes)
    back = decode(encode(record))
    assert back == record
    assert isinstance(back, Everything)
    assert type(back.stage) is Stage
    assert all(type(leak) is Leak for leak in back.leaks)
    assert hash(back.counts) == hash(record.counts)


def test_a_decoded_record_is_as_frozen_and_as_hashable_as_any() -> None:
    back = decode(encode(TimerFired("job", "patience", 3)))
    assert hash(back) == hash(TimerFired("job", "patience", 3))
    with pytest.raises(AttributeError):
        back.generation = 4  # type: ignore[attr-defined]


def test_the_fingerprint_is_the_specifications_in_little_endian_order() -> None:
    """Java's SchemaNormalization gives 7195948357588979594 for "null"; the specification stores it little-endian."""
    assert bytes.fromhex(fingerprint('"null"', "CRC-64-AVRO")) == (7195948357588979594).to_bytes(8, "little")
    version = load_catalogue().newest(TimerFired)
    assert encode(TimerFired("j", "n", 1))[:10] == b"\xc3\x01" + version.fingerprint


def test_the_body_is_plain_avro_byte_for_byte() -> None:
    """Written out by hand from the specification: zigzag lengths and numbers, enum index, union branch."""
    failed = JobFailed("j", "p", Reason.CANCELLED, "q", "", (Mistake("a", "b"),))
    cancelled = list(Reason).index(Reason.CANCELLED) * 2
    body = b"\x02j\x02p" + bytes([cancelled]) + b"\x02q" + b"\x00" + b"\x02" + b"\x02a\x02b" + b"\x00"
    assert encode(failed)[10:] == body


# --- what is not a record of ours ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", [b"", b"\xc3", b"{}", b'{"job_id": "x"}', b"\x00\x00\x00\x00\x01abcdefgh", b"\xc3\x02" * 20]
)
def test_foreign_bytes_are_refused_as_foreign(data: bytes) -> None:
    with pytest.raises(DecodeError, match="not Avro single-object encoding"):
        decode(data)


def test_an_unknown_fingerprint_is_told_in_hex() -> None:
    with pytest.raises(DecodeError, match="unknown schema fingerprint 0102030405060708"):
        decode(b"\xc3\x01" + bytes(range(1, 9)) + b"body")


def test_every_truncation_is_refused() -> None:
    data = encode(everything())
    for length in range(len(data)):
        with pytest.raises(DecodeError):
            decode(data[:length])


def test_trailing_bytes_are_refused_and_counted() -> None:
    with pytest.raises(DecodeError, match="3 trailing bytes after TimerFired"):
        decode(encode(TimerFired("job", "patience", 3)) + b"abc")


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_garbled_record_is_decoded_or_refused_but_nothing_else_happens(position: int, change: int) -> None:
    data = bytearray(encode(everything()))
    data[position % len(data)] ^= change
    with contextlib.suppress(DecodeError):
        decode(bytes(data))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(ALL), st.binary(max_size=64))
def test_random_bodies_are_decoded_or_refused_but_nothing_else_happens(record_class: type[Record], body: bytes) -> None:
    header = b"\xc3\x01" + load_catalogue().newest(record_class).fingerprint
    with contextlib.suppress(DecodeError):
        decode(header + body)


# --- what may not be encoded --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"count": 1.5},
        {"count": 2**63},
        {"count": None},
        {"text": b"bytes"},
        {"ratio": "1"},
        {"stage": "nowhere"},
        {"inners": 3},
    ],
)
def test_a_value_of_the_wrong_type_is_not_encoded(changes: dict[str, Any]) -> None:
    with pytest.raises(EncodeError, match="Everything cannot be encoded"):
        encode(everything(**changes))


def test_an_unpublished_record_is_not_encoded() -> None:
    @dataclass(frozen=True)
    class Unheard(Record):
        name: str

    with pytest.raises(CatalogueError, match="Unheard has no published schema"):
        encode(Unheard("x"))


@pytest.mark.parametrize("hint", ["dict[str, int]", "list[int]", "int | str", "tuple[int, str]", "object", "Any"])
def test_a_field_of_an_unsupported_type_is_refused_by_name(hint: str) -> None:
    wrong: type[Record] = dataclass(frozen=True)(
        type("Wrong", (Record,), {"__annotations__": {"values": hint}, "__module__": __name__})
    )
    with pytest.raises(UnsupportedFieldError, match=r"Wrong\.values"):
        schema_of(wrong)


# --- blobs --------------------------------------------------------------------------------------------------------


def test_a_blob_is_encoded_as_digest_and_size_only() -> None:
    content = b"a part of a model, never in a record"
    record = everything(blob=Blob.of(content))
    data = encode(record)
    assert content not in data
    assert Blob.of(content).sha256 in data


def test_a_decoded_blob_loads_its_content_once_and_at_first_use() -> None:
    asked: list[bytes] = []

    def load(blob: Blob) -> bytes:
        asked.append(blob.sha256)
        return b"content"

    back = decode(encode(everything()), load)
    assert isinstance(back, Everything)
    assert asked == []
    assert back.inner.model.content == b"content"
    assert back.inner.model.content == b"content"
    assert asked == [Blob.of(b"content").sha256]


def test_a_decoded_blob_without_a_loader_says_which_blob_is_missing() -> None:
    back = decode(encode(everything()))
    assert isinstance(back, Everything)
    with pytest.raises(LookupError, match=Blob.of(b"other").sha256.hex()):
        _ = back.blob.content


def test_blobs_are_found_at_every_depth_when_their_bytes_are_in_memory() -> None:
    record = everything()
    found = [blob.content for blob in blobs_of(record)]
    assert sorted(found) == sorted([b"content"] * 4 + [b"other", b"third"])
    assert blobs_of(decode(encode(record), lambda blob: b"")) == ()
    assert blobs_of(everything(maybe_blob=None, maybe_inner=None, inners=())) == (
        Blob.of(b"content"),
        Blob.of(b"other"),
    )
    assert blobs_of(TimerFired("j", "n", 1)) == ()
