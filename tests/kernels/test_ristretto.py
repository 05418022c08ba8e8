"""The group against RFC 9496, and what private set intersection needs from it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.kernels import ristretto
from streams.kernels.entropy import prf
from tests.kernels.rfc9496 import BAD_ENCODINGS, MAPPED, MULTIPLES
from tests.kernels.ristretto_paths import PATHS, take_path

KEY = bytes(range(32))

#: What `multiply` refuses: strings that are no encoding, the identity, and the generator with the highest bit set.
REFUSED = (*BAD_ENCODINGS, "00" * 32, MULTIPLES[0][:-2] + "f6")


@pytest.fixture(autouse=True, params=PATHS, scope="module")
def _path(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test here runs on each path that is there."""
    with pytest.MonkeyPatch.context() as patch:
        take_path(patch, request.param)
        yield


def small_scalar(value: int) -> bytes:
    return value.to_bytes(32, "little")


def points_of(*ids: str) -> list[bytes]:
    joined = ristretto.hash_ids(ids, b"context")
    return [joined[i : i + 32] for i in range(0, len(joined), 32)]


def test_multiples_of_the_generator_are_those_of_the_rfc() -> None:
    generator = bytes.fromhex(MULTIPLES[0])
    for factor, expected in enumerate(MULTIPLES, start=1):
        assert ristretto.multiply(generator, small_scalar(factor)).hex() == expected


def test_the_map_to_points_is_that_of_the_rfc() -> None:
    joined = ristretto.hash_to_points(b"".join(bytes.fromhex(digest) for digest, _ in MAPPED))
    assert joined.hex() == "".join(point for _, point in MAPPED)


@pytest.mark.parametrize("encoding", REFUSED)
def test_bad_encodings_and_the_identity_are_refused_with_their_index(encoding: str) -> None:
    good = bytes.fromhex(MULTIPLES[0])
    with pytest.raises(ValueError, match="point 1 of 3 is the identity or not a canonical"):
        ristretto.multiply(good + bytes.fromhex(encoding) + good, ristretto.scalar(KEY))


def test_a_result_that_is_the_identity_is_refused() -> None:
    with pytest.raises(ValueError, match="point 0 of 1"):
        ristretto.multiply(bytes.fromhex(MULTIPLES[0]), bytes(32))


def test_cut_input_is_refused() -> None:
    with pytest.raises(ValueError, match="1 too many"):
        ristretto.multiply(bytes(33), ristretto.scalar(KEY))
    with pytest.raises(ValueError, match="a scalar has 32 bytes"):
        ristretto.multiply(b"", b"1")


@given(st.binary(min_size=1, max_size=8), st.binary(min_size=1, max_size=8))
@settings(max_examples=25)
def test_blinding_twice_commutes(a: bytes, b: bytes) -> None:
    """The law the whole alignment rests on: alpha (beta P) = beta (alpha P)."""
    points = ristretto.hash_ids(["anna", "bert", "ümit"], b"context")
    alpha, beta = ristretto.scalar(prf(KEY, "a", a)), ristretto.scalar(prf(KEY, "b", b))
    twice = ristretto.multiply(ristretto.multiply(points, alpha), beta)
    assert twice == ristretto.multiply(ristretto.multiply(points, beta), alpha)


def test_scalars_are_reduced_and_differ_by_key() -> None:
    order = 2**252 + 27742317777372353535851937790883648493
    scalars = {ristretto.scalar(prf(KEY, "scalar", i)) for i in range(50)}
    assert len(scalars) == 50
    assert all(0 < int.from_bytes(s, "little") < order for s in scalars)


def test_an_id_maps_to_the_documented_hash() -> None:
    """Another implementation can compute the same point from the documentation alone."""
    digest = hashlib.sha512(
        b"isthmus/psi/id" + (7).to_bytes(8, "big") + b"context" + (4).to_bytes(8, "big") + b"anna"
    ).digest()
    assert ristretto.hash_ids(["anna"], b"context") == ristretto.hash_to_points(digest)


def test_points_of_one_id_under_two_contexts_differ() -> None:
    assert ristretto.hash_ids(["anna"], b"job-1") != ristretto.hash_ids(["anna"], b"job-2")
    # The border between context and id is part of the hash.
    assert ristretto.hash_ids(["xanna"], b"job") != ristretto.hash_ids(["anna"], b"jobx")


def test_order_and_duplicates_of_ids_are_kept() -> None:
    anna, bert, again = points_of("anna", "bert", "anna")
    assert anna == again != bert


def test_blinding_ids_is_hashing_and_multiplying() -> None:
    factor = ristretto.scalar(KEY)
    ids = ["anna", "bert", "ümit"]
    points = ristretto.hash_ids(ids, b"context")
    assert ristretto.blind_ids(iter(ids), b"context", factor) == ristretto.multiply(points, factor)
    with pytest.raises(ValueError, match="a scalar has 32 bytes"):
        ristretto.blind_ids(ids, b"context", factor[1:])
    with pytest.raises(ValueError, match="point 0 of 3"):
        ristretto.blind_ids(ids, b"context", bytes(32))


def test_tags_depend_on_point_and_context_only() -> None:
    points = ristretto.hash_ids(["anna", "bert"], b"context")
    tags = ristretto.tag_points(points, b"guest to host")
    assert len(tags) == 64
    assert tags[32:] == ristretto.tag_points(points[32:], b"guest to host")
    assert tags != ristretto.tag_points(points, b"host to guest")


def test_no_points_are_no_work() -> None:
    assert ristretto.multiply(ristretto.hash_ids([], b""), ristretto.scalar(KEY)) == b""
    assert ristretto.tag_points(b"", b"") == b""


@pytest.mark.parametrize(
    ("raw", "id_type", "expected"),
    [
        ("  A-17 ", "string", "A-17"),
        ("Cafe\u0301", "string", "Caf\u00e9"),
        ("\u00a0x\u2003", "string", "x"),
        (" Anna.Bo@Example.ORG", "email", "anna.bo@example.org"),
        ("STRASSE@x.de", "email", "strasse@x.de"),
        ("straße@x.de", "email", "strasse@x.de"),
        ("+49 (30) 123-456", "phone", "4930123456"),
        ("0049 30 123456", "phone", "4930123456"),
        ("4930123456", "phone", "4930123456"),
    ],
)
def test_spellings_of_one_identifier_become_one(raw: str, id_type: str, expected: str) -> None:
    assert ristretto.normalise_id(raw, id_type) == expected


@given(st.text(min_size=1, max_size=20), st.sampled_from(["string", "email"]))
def test_normalising_twice_changes_nothing(raw: str, id_type: str) -> None:
    if not raw.strip():
        return
    once = ristretto.normalise_id(raw, id_type)
    assert ristretto.normalise_id(once, id_type) == once


@pytest.mark.parametrize("id_type", ["string", "email", "phone"])
def test_an_empty_identifier_is_refused(id_type: str) -> None:
    with pytest.raises(ValueError, match="empty"):
        ristretto.normalise_id(" \t", id_type)


@pytest.mark.parametrize(
    "raw", ["030 123456", "+49 30 12", "+49 30 1234567890123", "anna", "+49+30123456", "+0049301234"]
)
def test_a_phone_number_without_country_code_or_with_letters_is_refused(raw: str) -> None:
    with pytest.raises(ValueError, match="not a phone number with its country code"):
        ristretto.normalise_id(raw, "phone")


def test_the_refused_identifier_is_not_in_the_message() -> None:
    with pytest.raises(ValueError, match="phone") as refusal:
        ristretto.normalise_id("030 987654", "phone")
    assert "987654" not in str(refusal.value)


def test_an_unknown_identifier_type_is_refused() -> None:
    with pytest.raises(ValueError, match="'passport' is unknown"):
        ristretto.normalise_id("x", "passport")
