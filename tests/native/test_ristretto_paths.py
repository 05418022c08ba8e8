"""Every back-end of the native group gives the bytes of libsodium, or refuses the same point."""

from __future__ import annotations

import hashlib
import importlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.kernels import ristretto
from streams.kernels.ristretto import _buffers, _from_hash, _products
from tests.kernels.rfc9496 import BAD_ENCODINGS, MAPPED, MULTIPLES
from tests.kernels.ristretto_paths import take_path

native: Any = importlib.import_module("isthmus_native")

BACKENDS = native.point_backends()
ORDER = 2**252 + 27742317777372353535851937790883648493
FIELD = 2**255 - 19
GENERATOR = bytes.fromhex(MULTIPLES[0])

backends = pytest.mark.parametrize("backend", BACKENDS)
#: Numbers at which carries, foldings and recodings differ.
EDGES = sorted(
    {0, 1, 2, 7, 8, 9, 15, 16, 2**51 - 1, 2**51, 2**255 - 1, 2**255, 2**256 - 1, FIELD - 1, FIELD, FIELD + 1}
    | {multiple * ORDER + more for multiple in range(9) for more in (-1, 0, 1) if 0 <= multiple * ORDER + more < 2**256}
    | {int("8" * 64, 16), int("7" * 64, 16), int("f8" * 32, 16), int("08" * 32, 16)}
)
numbers = st.sampled_from(EDGES) | st.integers(0, 2**256 - 1)


def number(value: int) -> bytes:
    return value.to_bytes(32, "little")


def digest(value: int) -> bytes:
    return hashlib.sha512(value.to_bytes(8, "little")).digest()


def sodium_points(digests: bytes) -> bytes:
    source, target, result = _buffers(digests, len(digests) // 64)
    for index in range(len(digests) // 64):
        _from_hash(target + 32 * index, source + 64 * index)
    return result.raw


POINTS = sodium_points(b"".join(map(digest, range(40))))


def test_this_processor_has_the_back_ends_that_it_says() -> None:
    assert BACKENDS[-1] == "portable"
    with pytest.raises(ValueError, match="no back-end"):
        native.multiply_points(GENERATOR, number(1), backend="abacus")


@backends
def test_multiples_of_the_generator_are_those_of_the_rfc(backend: str) -> None:
    for factor, expected in enumerate(MULTIPLES, start=1):
        assert native.multiply_points(GENERATOR, number(factor), backend=backend).hex() == expected
        assert native.multiply_points(bytes.fromhex(expected), number(1), backend=backend).hex() == expected


@backends
def test_the_map_to_points_is_that_of_the_rfc(backend: str) -> None:
    joined = native.hash_to_points(b"".join(bytes.fromhex(digest) for digest, _ in MAPPED), backend=backend)
    assert joined.hex() == "".join(point for _, point in MAPPED)


@backends
@pytest.mark.parametrize("encoding", [*BAD_ENCODINGS, "00" * 32, MULTIPLES[0][:-2] + "f6"])
@pytest.mark.parametrize("place", [0, 7, 8, 511, 512, 519])
def test_what_is_refused_is_named_by_its_index(backend: str, encoding: str, place: int) -> None:
    """In any lane and any group that shares an inversion; a later one does not take its place."""
    joined = bytearray(GENERATOR * 520)
    for index in {place, 519}:
        joined[32 * index : 32 * index + 32] = bytes.fromhex(encoding)
    assert native.multiply_points(bytes(joined), number(5), backend=backend) == place
    assert native.multiply_points(bytes(joined), number(5), 3, backend) == place


@backends
def test_the_identity_is_refused_before_a_later_bad_encoding_and_after_an_earlier_one(backend: str) -> None:
    bad, identity = bytes.fromhex(BAD_ENCODINGS[-1]), bytes(32)
    assert native.multiply_points(GENERATOR + identity + bad, number(3), backend=backend) == 1
    assert native.multiply_points(GENERATOR + bad + identity, number(3), backend=backend) == 1


@backends
@pytest.mark.parametrize("factor", [0, ORDER, 2 * ORDER, 7 * ORDER, 2**255, 2**255 + ORDER])
def test_an_exponent_that_gives_the_identity_is_refused(backend: str, factor: int) -> None:
    """Multiples of the order; the highest bit does not count."""
    assert native.multiply_points(POINTS, number(factor), backend=backend) == 0
    assert _products(POINTS, number(factor), 40) == 0


@backends
@given(factor=numbers, seeds=st.lists(st.integers(0, 10**6), min_size=1, max_size=9))
@settings(max_examples=60, deadline=None)
def test_products_are_those_of_libsodium(backend: str, factor: int, seeds: list[int]) -> None:
    points = sodium_points(b"".join(map(digest, seeds)))
    assert native.multiply_points(points, number(factor), backend=backend) == _products(
        points, number(factor), len(seeds)
    )


@backends
@pytest.mark.parametrize("factor", EDGES)
def test_products_with_exponents_at_the_edges_are_those_of_libsodium(backend: str, factor: int) -> None:
    assert native.multiply_points(POINTS, number(factor), backend=backend) == _products(POINTS, number(factor), 40)


@backends
@given(halves=st.lists(st.tuples(numbers, numbers), min_size=1, max_size=9))
@settings(max_examples=100, deadline=None)
def test_points_of_digests_are_those_of_libsodium(backend: str, halves: list[tuple[int, int]]) -> None:
    """Halves at the edges of the field too: not reduced, and those that map to points of small order."""
    digests = b"".join(number(a) + number(b) for a, b in halves)
    assert native.hash_to_points(digests, backend=backend) == sodium_points(digests)


@backends
@given(strings=st.lists(st.binary(min_size=32, max_size=32) | numbers.map(number), min_size=1, max_size=9))
@settings(max_examples=100, deadline=None)
def test_any_strings_are_refused_or_multiplied_as_libsodium_does(backend: str, strings: list[bytes]) -> None:
    joined = b"".join(strings)
    assert native.multiply_points(joined, number(77), backend=backend) == _products(joined, number(77), len(strings))


@backends
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17])
def test_numbers_of_points_that_fill_no_lanes_change_nothing(backend: str, count: int) -> None:
    points, digests = POINTS[: 32 * count], b"".join(map(digest, range(count)))
    assert native.hash_to_points(digests, backend=backend) == points
    factor = ristretto.scalar(bytes(32))
    assert native.multiply_points(points, factor, backend=backend) == _products(points, factor, count)


@backends
@pytest.mark.parametrize("count", [511, 512, 513, 1100])
def test_threads_and_groups_change_nothing(backend: str, count: int) -> None:
    digests = b"".join(map(digest, range(count)))
    points = sodium_points(digests)
    factor = number(ORDER - 2)
    products = _products(points, factor, count)
    for threads in (0, 1, 2, 3, 64):
        assert native.hash_to_points(digests, threads, backend) == points
        assert native.multiply_points(points, factor, threads, backend) == products


@backends
@given(ids=st.lists(st.text(max_size=200), max_size=20), context=st.binary(max_size=150), factor=numbers)
@settings(max_examples=50, deadline=None)
def test_ids_become_the_points_of_the_reference(backend: str, ids: list[str], context: bytes, factor: int) -> None:
    """Blocks of SHA-512 and of SHA-256 are full at other lengths of context and text; bytes are those of UTF-8."""
    prefix = ristretto._id_prefix(context)
    with pytest.MonkeyPatch.context() as patch:
        take_path(patch, "libsodium")
        points = ristretto.hash_ids(ids, context)
        tags = ristretto.tag_points(points, context)
    assert native.hash_ids(ids, prefix, 2, backend) == points
    blinded = native.blind_ids(ids, prefix, number(factor), 2, backend)
    assert blinded == _products(points, number(factor), len(ids))
    tag_prefix = b"isthmus/psi/tag" + len(context).to_bytes(8, "big") + context
    assert native.tag_points(points, tag_prefix) == tags


@pytest.mark.parametrize("count", [511, 512, 513, 1025])
def test_every_id_of_several_groups_is_hashed_once(count: int) -> None:
    ids = [f"person-{n}" for n in range(count)]
    points = b"".join(native.hash_ids([each], b"prefix") for each in ids)
    for threads in (1, 2, 5):
        assert native.hash_ids(ids, b"prefix", threads) == points


def test_ids_that_are_no_texts_are_refused() -> None:
    with pytest.raises(TypeError):
        native.hash_ids(["anna", b"bert"], b"")
    with pytest.raises(UnicodeEncodeError):
        native.hash_ids(["\ud800"], b"")


@pytest.mark.parametrize(
    "arguments", [(bytes(31), number(1)), (GENERATOR, number(1)[1:]), (GENERATOR, number(1) + b"\0")]
)
def test_wrong_sizes_are_refused(arguments: tuple[bytes, bytes]) -> None:
    with pytest.raises(ValueError, match="bytes"):
        native.multiply_points(*arguments)


def test_a_cut_digest_is_refused() -> None:
    with pytest.raises(ValueError, match="bytes"):
        native.hash_to_points(bytes(65))
