"""Seals: what was sealed opens at the right party, in the right place, unchanged, and nowhere else."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from schemas.codec import decode, encode
from schemas.envelope import SealedMessage, SealedRecord, SealedState
from streams.engine.agreement import Agreement
from streams.engine.chunks import MAX_CHUNKS, Arrival, ChunkError, add_chunk, seal_chunks
from streams.engine.messages import MessageSeal
from streams.engine.seal import Keyring, SealError, Stream, join_fields
from tests.simulation.harness import make_keyrings

RINGS = make_keyrings(("bank", "shop", "third"))
STREAM = Stream("bank", "shop", "job-1", "align", "align")
OWN = Stream("bank", "bank", "job-1", "job", "train")
#: Any record.
ENVELOPE = SealedState(b"nonce", b"payload")


def test_the_receiver_opens_what_the_sender_sealed() -> None:
    assert RINGS["shop"].open(RINGS["bank"].seal(STREAM, 7, b"hello")) == b"hello"
    assert RINGS["bank"].open(RINGS["bank"].seal(OWN, 7, b"hello")) == b"hello"


def test_a_replay_seals_to_the_same_bytes() -> None:
    assert RINGS["bank"].seal(STREAM, 7, b"hello") == RINGS["bank"].seal(STREAM, 7, b"hello")
    assert RINGS["bank"].seal_state("t", 1, b"k", b"v") == RINGS["bank"].seal_state("t", 1, b"k", b"v")


CHANGES: dict[str, Any] = {
    "sender": "third",
    "receiver": "third",
    "job_id": "job-2",
    "origin": "job",
    "stage": "train",
    "sequence": 8,
    "chunk_index": 1,
    "chunk_count": 2,
    "digest": b"x",
    "payload": b"x" * 21,
    "manifest": b"another1",
    "epoch": 1,
    "wrapped_key": b"x",
}


@pytest.mark.parametrize("field", [field.name for field in fields(SealedRecord)])
def test_an_envelope_with_any_field_changed_does_not_open(field: str) -> None:
    envelope = RINGS["bank"].seal(STREAM, 7, b"hello")
    for ring in RINGS.values():
        with pytest.raises(SealError):
            ring.open(replace(envelope, **{field: CHANGES[field]}))


def test_only_the_receiver_and_the_sender_hold_the_key() -> None:
    envelope = RINGS["bank"].seal(STREAM, 7, b"hello")
    with pytest.raises(SealError, match="neither sender nor receiver"):
        RINGS["third"].open(envelope)
    own = RINGS["bank"].seal(OWN, 7, b"hello")
    with pytest.raises(SealError):
        RINGS["shop"].open(own)
    # The same keys, but the name of another: a peer cannot pass as the party itself.
    forged = RINGS["shop"].seal(Stream("shop", "bank", "job-1", "align", "align"), 7, b"hello")
    with pytest.raises(SealError):
        RINGS["bank"].open(replace(forged, sender="bank"))


@pytest.mark.parametrize("sequence", [-1, 2**63, 2**70])
def test_sequences_that_no_counter_reaches_do_not_open(sequence: int) -> None:
    with pytest.raises(SealError):
        RINGS["shop"].open(replace(RINGS["bank"].seal(STREAM, 7, b"hello"), sequence=sequence))


FIRST, SECOND = b"1" * 32, b"2" * 32
PRIVATE = {"bank": b"b" * 32, "shop": b"c" * 32}


def _ring(party: str, current: bytes, *others: bytes) -> Keyring:
    peer = "shop" if party == "bank" else "bank"
    public = X25519PrivateKey.from_private_bytes(PRIVATE[peer]).public_key().public_bytes_raw()
    agreements = [Agreement(PRIVATE[party], {peer: public}, manifest) for manifest in (current, *others)]
    return Keyring(party, agreements[0], b"s" * 32, others=agreements[1:], naming=Agreement(b"n" * 32, {peer: public}))


def test_a_record_opens_under_the_manifest_that_it_was_sealed_under_and_no_other() -> None:
    sealed = _ring("bank", FIRST).seal(STREAM, 7, b"hello")
    assert sealed.manifest == FIRST[:8]
    assert _ring("shop", SECOND, FIRST).open(sealed) == b"hello", "the version before, for a while"
    with pytest.raises(SealError, match="sealed under the manifest 3131313131313131, and shop works under 32323232"):
        _ring("shop", SECOND).open(sealed)
    # The same keys, and the mark of the other version on it: all of the digest is bound.
    for mark in (SECOND[:8], b""):
        with pytest.raises(SealError):
            _ring("shop", SECOND, FIRST).open(replace(sealed, manifest=mark))
    alike = _ring("shop", FIRST[:8] + SECOND[8:])
    with pytest.raises(SealError, match="does not open"):
        alike.open(sealed)


def test_chunks_that_were_sealed_before_a_rotation_are_put_together_after_it() -> None:
    pieces = seal_chunks(_ring("bank", FIRST), STREAM, 0, b"x" * 25, chunk_bytes=10)
    ring, arrival, whole = _ring("shop", SECOND, FIRST), Arrival(), None
    for piece in pieces:
        arrival, whole = add_chunk(ring, arrival, piece, ring.open(piece))
    assert whole == b"x" * 25


def test_what_a_party_sealed_for_itself_opens_after_a_rotation() -> None:
    assert _ring("bank", SECOND).open(_ring("bank", FIRST).seal(OWN, 7, b"hello")) == b"hello"


def test_a_message_opens_under_its_manifest_only() -> None:
    value = MessageSeal(_ring("bank", FIRST), "score").seal(ENVELOPE, "shop", "topic", 3)
    assert MessageSeal(_ring("shop", SECOND, FIRST), "score").open(value, "topic", 3) == ("bank", ENVELOPE)
    with pytest.raises(SealError, match="sealed under the manifest"):
        MessageSeal(_ring("shop", SECOND), "score").open(value, "topic", 3)
    message = decode(value)
    assert isinstance(message, SealedMessage)
    for mark in (SECOND[:8], b""):
        forged = encode(replace(message, manifest=mark))
        with pytest.raises(SealError):
            MessageSeal(_ring("shop", SECOND, FIRST), "score").open(forged, "topic", 3)


def test_tokens_outlive_a_rotation() -> None:
    before, after = _ring("bank", FIRST), _ring("bank", SECOND)
    assert before.token_key("bank", "shop") == after.token_key("bank", "shop")
    with pytest.raises(SealError, match="no key for tokens"):
        after.token_key("bank", "third")


def test_each_direction_job_and_stage_has_a_key_of_its_own() -> None:
    streams = [
        STREAM,
        Stream("shop", "bank", "job-1", "align", "align"),
        Stream("bank", "shop", "job-2", "align", "align"),
        Stream("bank", "shop", "job-1", "train", "align"),
        Stream("bank", "shop", "job-1", "align", "train"),
        Stream("bank", "third", "job-1", "align", "align"),
        OWN,
    ]
    payloads = {RINGS["bank"].seal(stream, 0, b"hello").payload for stream in streams if "bank" in stream.sender}
    assert len(payloads) == len(streams) - 1


def test_a_state_opens_in_its_own_place_only() -> None:
    ring = RINGS["bank"]
    value = ring.seal_state("topic", 1, b"key", b"state")
    assert ring.open_state("topic", 1, b"key", value) == b"state"
    assert isinstance(decode(value), SealedState)
    for place in (("other", 1, b"key"), ("topic", 2, b"key"), ("topic", 1, b"other")):
        with pytest.raises(SealError, match="does not open"):
            ring.open_state(*place, value)
    with pytest.raises(SealError, match="does not open"):
        RINGS["shop"].open_state("topic", 1, b"key", value)
    with pytest.raises(SealError, match="no sealed state"):
        ring.open_state("topic", 1, b"key", b"rubbish")


def test_a_blobs_name_and_bytes_say_nothing_of_its_content() -> None:
    ring, sha256 = RINGS["bank"], bytes(range(32))
    import hashlib

    content = b"many rows " * 100
    sha256 = hashlib.sha256(content).digest()
    stored = ring.seal_blob(sha256, content)
    assert ring.open_blob(sha256, stored) == content
    assert ring.blob_name(sha256) != sha256 and ring.blob_name(sha256) != RINGS["shop"].blob_name(sha256)
    assert b"rows" not in stored
    with pytest.raises(SealError):
        ring.open_blob(sha256, stored[:-1])
    with pytest.raises(SealError):
        ring.open_blob(bytes(32), stored)


def test_a_keyring_with_unfit_keys_is_refused_without_showing_them() -> None:
    with pytest.raises(ValueError, match="bank's keyring: the key of 'shop' has 3 bytes"):
        Keyring("bank", Agreement(b"p" * 32, {"shop": b"abc"}), b"s" * 32)
    with pytest.raises(ValueError, match="low order"):
        Keyring("bank", Agreement(b"p" * 32, {"shop": bytes(32)}), b"s" * 32)
    agreement = Agreement(b"p" * 32, {})
    assert "s" * 32 not in repr(Keyring("bank", agreement, b"s" * 32))
    assert "p" * 32 not in repr(agreement)


def test_lists_of_fields_never_join_to_the_same_bytes() -> None:
    lists: list[tuple[str | bytes | int, ...]] = [
        ("ab", "c"),
        ("a", "bc"),
        ("abc",),
        ("abc", ""),
        ("", "abc"),
        (1, 23),
        (12, 3),
    ]
    assert len({join_fields(*each) for each in lists}) == len(lists)


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 200, 250])
def test_a_record_of_any_size_is_cut_and_put_together(size: int) -> None:
    encoding = bytes(number % 251 for number in range(size))
    envelopes = seal_chunks(RINGS["bank"], STREAM, 3, encoding, 100)
    assert len(envelopes) == max(1, -(-size // 100))
    arrival, whole = Arrival(), None
    for envelope in envelopes:
        assert whole is None
        arrival, whole = add_chunk(RINGS["shop"], arrival, envelope, RINGS["shop"].open(envelope))
    assert whole == encoding and arrival == Arrival()


def test_chunks_of_different_records_do_not_make_one() -> None:
    first = seal_chunks(RINGS["bank"], STREAM, 3, b"a" * 150, 100)
    other = seal_chunks(RINGS["bank"], STREAM, 3, b"b" * 150, 100)
    arrival, _ = add_chunk(RINGS["shop"], Arrival(), first[0], RINGS["shop"].open(first[0]))
    with pytest.raises(ChunkError, match="does not have the digest"):
        add_chunk(RINGS["shop"], arrival, other[1], RINGS["shop"].open(other[1]))


def test_a_sender_that_announces_too_many_chunks_gets_no_memory() -> None:
    many = RINGS["bank"].seal(STREAM, 3, b"x", chunk_index=0, chunk_count=MAX_CHUNKS + 1)
    for envelope in (many, RINGS["bank"].seal(STREAM, 3, b"x", chunk_count=0)):
        with pytest.raises(ChunkError, match="the limit is"):
            add_chunk(RINGS["shop"], Arrival(), envelope, RINGS["shop"].open(envelope))
    with pytest.raises(ChunkError, match="the limit is"):
        seal_chunks(RINGS["bank"], STREAM, 3, b"x" * (MAX_CHUNKS + 1), 1)
