"""Accounts of answers: the same books give the same statement, other books are brought down to the requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.statements import LeavesTold, ScoreStatement, StatementLeaf
from streams.kernels.statements import (
    Account,
    BookedLeaf,
    Difference,
    DifferenceKind,
    bucket_of,
    build_statement,
    compare,
    find_differences,
    find_flaw,
    interval_of,
    is_within,
    leaf_of,
    matches_bucket,
    signed_bytes,
    tell_leaves,
)

ACCOUNT = Account("bank", "bureau", 60_000, "credit", "1", answered=True)

#: request id -> the values that were answered.
Books = dict[str, set[int]]
books = st.dictionaries(
    st.text("abc\N{GREEK SMALL LETTER ALPHA}~", min_size=1, max_size=6),
    st.sets(st.integers(-5, 5), min_size=1, max_size=3),
    max_size=40,
)


def leaf(request_id: str, value: int) -> bytes:
    return leaf_of(request_id, "live", "bank", "bureau", "credit", "1", answered=True, value=value, quantum=1)


def booked(entries: Books) -> list[BookedLeaf]:
    """As the database gives them."""
    found = [
        BookedLeaf(request_id, leaf(request_id, value), value)
        for request_id in entries
        for value in entries[request_id]
    ]
    return sorted(found, key=lambda one: (bucket_of(one.request_id), one.leaf))


def statement(entries: Books, sender: str = "bank") -> ScoreStatement:
    return build_statement(sender, ACCOUNT, 1000, 70_000, booked(entries))


def leaves(entries: Books, bucket: int | None = None) -> list[StatementLeaf]:
    return [
        StatementLeaf(one.request_id, one.leaf)
        for one in booked(entries)
        if bucket is None or bucket_of(one.request_id) == bucket
    ]


@given(books)
def test_equal_books_give_statements_that_agree(entries: Books) -> None:
    own, peer = statement(entries), statement(dict(reversed(entries.items())), "bureau")
    assert compare(own, peer) == ()
    assert own.digest == peer.digest
    assert own.count == sum(map(len, entries.values()))
    assert own.value_sum == sum(sum(values) for values in entries.values())
    assert find_flaw(own) == find_flaw(peer) == ""


@given(books, books)
def test_the_buckets_that_differ_lead_to_every_difference_and_no_other(guest: Books, host: Books) -> None:
    at_guest, at_host = statement(guest), statement(host, "bureau")
    found: list[Difference] = []
    for bucket in compare(at_guest, at_host):
        found += find_differences(leaves(guest, bucket), leaves(host, bucket))
    expected = [
        Difference(
            request_id,
            DifferenceKind.MISSING_AT_HOST
            if request_id not in host
            else DifferenceKind.MISSING_AT_GUEST
            if request_id not in guest
            else DifferenceKind.DIFFERENT,
        )
        for request_id in guest.keys() | host.keys()
        if guest.get(request_id) != host.get(request_id)
    ]
    assert sorted(found) == sorted(expected)
    assert (at_guest.digest == at_host.digest) == (guest == host)


@given(books, books, st.integers(1, 5))
def test_a_bucket_told_in_parts_leads_to_the_same_differences(guest: Books, host: Books, at_once: int) -> None:
    peer = statement(host, "bureau")
    for bucket in compare(statement(guest), peer):
        parts = tell_leaves(peer, bucket, reversed(leaves(host, bucket)), at_once)
        found: list[Difference] = []
        for part in parts:
            ours = [one for one in leaves(guest, bucket) if is_within(part, one.request_id)]
            found += find_differences(ours, part.leaves)
        assert sorted(found) == sorted(find_differences(leaves(guest, bucket), leaves(host, bucket)))
        assert parts[-1].until == "", "the last part says that it is the last"
        assert [part.after for part in parts[1:]] == [part.until for part in parts[:-1]]


@given(books, st.integers(0, 255))
def test_a_whole_bucket_is_checked_against_the_signed_digest(entries: Books, other: int) -> None:
    said = statement(entries)
    for bucket in {bucket.bucket for bucket in said.buckets} | {other}:
        (told,) = tell_leaves(said, bucket, leaves(entries, bucket), 1000)
        assert matches_bucket(told, said)
        assert not matches_bucket(replace(told, leaves=(*told.leaves, StatementLeaf("x", bytes(32)))), said)
        if told.leaves:
            assert not matches_bucket(replace(told, leaves=told.leaves[1:]), said)


def _variants() -> Iterator[tuple[str, bytes]]:
    whole = ("r", "live", "bank", "bureau", "credit", "1")
    numbers = {"answered": True, "value": 3, "quantum": 5}
    yield "as it is", leaf_of(*whole, **numbers)  # type: ignore[arg-type]
    for index in range(len(whole)):
        changed = [*whole]
        changed[index] += "1"
        yield f"text {index}", leaf_of(*changed, **numbers)  # type: ignore[arg-type]
    for name, value in {"answered": False, "value": 5, "quantum": 3}.items():
        yield name, leaf_of(*whole, **{**numbers, name: value})  # type: ignore[arg-type]
    yield "moved border", leaf_of("r", "live", "bank", "bureau", "credit1", "", **numbers)  # type: ignore[arg-type]


def test_everything_that_both_know_is_in_a_leaf() -> None:
    variants = dict(_variants())
    assert len(set(variants.values())) == len(variants)


_OTHER: dict[type, Callable[[Any], Any]] = {
    int: lambda value: value + 1,
    str: lambda value: value + "x",
    bool: lambda value: not value,
    bytes: lambda value: value[::-1],
}


def test_a_signature_covers_every_field() -> None:
    said = statement({"a": {1}, "b": {2}})
    for field in fields(ScoreStatement):
        value = getattr(said, field.name)
        if field.name not in ("signature", "buckets"):
            changed = replace(said, **{field.name: _OTHER[type(value)](value)})
            assert signed_bytes(changed) != signed_bytes(said), field.name
    assert find_flaw(replace(said, buckets=said.buckets[:1])), "the buckets are bound by the digest"


@pytest.mark.parametrize(
    ("change", "flaw"),
    [
        ({"count": 3}, "do not add up"),
        ({"digest": bytes(32)}, "digest is not that"),
        ({"interval_end_ms": 60_000}, "ends before"),
    ],
)
def test_a_statement_that_contradicts_itself_is_told(change: dict[str, int], flaw: str) -> None:
    said = statement({"a": {1}, "b": {2}})
    assert flaw in find_flaw(replace(said, **change))  # type: ignore[arg-type]


def test_buckets_out_of_order_or_empty_are_a_flaw() -> None:
    said = statement({"a": {1}, "b": {2}})
    assert "not in order" in find_flaw(replace(said, buckets=said.buckets[::-1]))
    assert "not in order" in find_flaw(replace(said, buckets=said.buckets + said.buckets))
    empty = replace(said.buckets[0], count=0)
    assert "empty bucket" in find_flaw(replace(said, buckets=(empty,)))


@pytest.mark.parametrize("order", [lambda found: found[::-1], lambda found: [*found, found[-1]]])
def test_leaves_out_of_order_or_twice_are_a_bug_of_the_caller(
    order: Callable[[list[BookedLeaf]], list[BookedLeaf]],
) -> None:
    disordered = order(booked({"a": {1}, "b": {2}}))
    with pytest.raises(ValueError, match="out of order, or there twice"):
        build_statement("bank", ACCOUNT, 1000, 0, disordered)


def test_values_that_somebody_made_up_do_not_overflow_a_statement() -> None:
    assert statement({"a": {2**63 - 1}, "b": {2}}).value_sum == -(2**63) + 1
    assert statement({"a": {-(2**63)}, "b": {-1}}).value_sum == 2**63 - 1


def test_statements_about_different_things_are_not_compared() -> None:
    said = statement({"a": {1}})
    for other in (replace(said, version="2"), replace(said, interval_end_ms=62_000), replace(said, answered=False)):
        with pytest.raises(ValueError, match="different accounts"):
            compare(said, other)


def test_nothing_answered_is_a_statement_too() -> None:
    none = statement({})
    assert (none.count, none.buckets, find_flaw(none)) == (0, (), "")
    assert compare(statement({"a": {1}}), none) == (bucket_of("a"),)
    assert tell_leaves(none, 5, [], 10) == (
        LeavesTold("bank", "bureau", 60_000, "credit", "1", True, none.digest, 5, "", "", ()),
    )


def test_intervals_begin_at_multiples_of_their_length() -> None:
    assert [interval_of(us, 1000) for us in (0, 999_999, 1_000_000, 61_999_999)] == [0, 0, 1000, 61_000]
