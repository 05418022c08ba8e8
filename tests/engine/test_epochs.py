"""Epochs: when a sender begins one, what opens with which key, and what a thief of the static keys gets: nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from schemas.envelope import SealedRecord
from streams import kem
from streams.engine.agreement import Agreement
from streams.engine.epochs import EPOCH_RECORDS, Opener, Sending, key_for_opening, key_for_sending
from streams.engine.seal import NO_EPOCH, EpochKey, Keyring, SealError, Stream

STREAM = Stream("bank", "shop", "job-1", "train", "train")
FIRST, SECOND = b"1" * 32, b"2" * 32
PRIVATE = {"bank": b"b" * 32, "shop": b"c" * 32}
SEEDS = {"bank": b"d" * 32, "shop": b"e" * 32}
STORAGE = {"bank": b"s" * 32, "shop": b"t" * 32}


def ring(
    party: str, *manifests: bytes, seeds: dict[str, bytes] = SEEDS, storage: dict[str, bytes] = STORAGE
) -> Keyring:
    peer = "shop" if party == "bank" else "bank"
    public = X25519PrivateKey.from_private_bytes(PRIVATE[peer]).public_key().public_bytes_raw()
    kem_key = kem.public_key_of(SEEDS[peer])
    agreements = [
        Agreement(PRIVATE[party], {peer: public}, manifest, seeds[party], {peer: kem_key}) for manifest in manifests
    ]
    return Keyring(party, agreements[0], storage[party], others=agreements[1:])


def transcript(keyring: Keyring, count: int, epoch_records: int = EPOCH_RECORDS) -> list[SealedRecord]:
    """What the bank sends: record n says `record n`."""
    sending, sealed = Sending(), []
    for sequence in range(count):
        sending, epoch, wrapped = key_for_sending(keyring, STREAM, sequence, sending, epoch_records)
        sealed.append(keyring.seal(STREAM, sequence, b"record %d" % sequence, epoch=epoch, wrapped_key=wrapped))
    return sealed


def test_an_epoch_begins_with_the_stream_after_so_many_records_and_under_a_new_manifest() -> None:
    sealed = transcript(ring("bank", FIRST), 7, epoch_records=3)
    assert [each.epoch for each in sealed] == [1, 1, 1, 2, 2, 2, 3]
    assert [bool(each.wrapped_key) for each in sealed] == [True, False, False, True, False, False, True]
    sending, _, _ = key_for_sending(ring("bank", FIRST), STREAM, 0, Sending())
    rotated = ring("bank", SECOND, FIRST)
    later, epoch, wrapped = key_for_sending(rotated, STREAM, 1, sending)
    assert (later, epoch.number, bool(wrapped)) == (Sending(2, SECOND[:8], 1), 2, True)
    assert key_for_sending(rotated, STREAM, 2, later)[2] == b""
    assert key_for_sending(rotated, STREAM, 1 + EPOCH_RECORDS, later)[0].number == 3


def test_both_ends_open_every_record_and_epochs_share_no_key() -> None:
    sealed = transcript(ring("bank", FIRST), 7, epoch_records=3)
    for party in ("shop", "bank"):
        opener = Opener(ring(party, FIRST))
        assert [opener.open(each) for each in sealed] == [b"record %d" % number for number in range(7)]
    keys = {ring("bank", FIRST).epoch_key(STREAM, number, FIRST[:8]) for number in (1, 2, 3)}
    keys |= {ring("bank", FIRST).epoch_key(replace(STREAM, job_id="job-2"), 1, FIRST[:8])}
    keys |= {ring("bank", SECOND).epoch_key(STREAM, 1, SECOND[:8])}
    assert len(keys) == 5
    # The same records, sealed again after a crash: the same epochs, keys and payloads.
    assert [each.payload for each in transcript(ring("bank", FIRST), 3, 3)][1:] == [
        each.payload for each in sealed[1:3]
    ]


def test_records_go_on_over_a_rotation_in_the_middle_of_a_stream() -> None:
    before, after = ring("bank", FIRST), ring("bank", SECOND, FIRST)
    sending, sealed = Sending(), []
    for sequence, keyring in enumerate((before, before, after, after)):
        sending, epoch, wrapped = key_for_sending(keyring, STREAM, sequence, sending)
        sealed.append(keyring.seal(STREAM, sequence, b"hello", epoch=epoch, wrapped_key=wrapped))
    opener = Opener(ring("shop", SECOND, FIRST))
    assert [opener.open(each) for each in sealed] == [b"hello"] * 4
    assert [each.epoch for each in sealed] == [1, 1, 2, 2]
    with pytest.raises(SealError, match="sealed under the manifest"):
        Opener(ring("shop", FIRST)).open(sealed[2])


@pytest.mark.parametrize("thief", ["bank", "shop"])
def test_who_recorded_everything_and_has_the_static_keys_of_both_opens_nothing(thief: str) -> None:
    """X25519 broken, or both private keys stolen: without a seed for encapsulation no epoch's key comes out."""
    sealed = transcript(ring("bank", FIRST), 7, epoch_records=3)
    nothing = {"bank": b"?" * 32, "shop": b"!" * 32}
    stolen = ring(thief, FIRST, seeds=nothing, storage=nothing)
    opened = 0
    for envelope in sealed:
        for key in (NO_EPOCH, EpochKey(envelope.epoch, bytes(32))):
            with pytest.raises(SealError):
                stolen.open(envelope, key)
        with pytest.raises(SealError):
            opened += len(Opener(stolen).open(envelope))
    assert opened == 0
    # The same thief, against epochs that have no key of their own.
    weakened = [ring("bank", FIRST).seal(STREAM, number, b"hello") for number in range(7)]
    assert [stolen.open(each) for each in weakened] == [b"hello"] * 7


def test_who_has_the_seed_alone_opens_nothing_and_forges_nothing() -> None:
    """The keys of epochs say nothing of who sent a record: that is what the two share."""
    sealed = transcript(ring("bank", FIRST), 1)[0]
    stranger = X25519PrivateKey.from_private_bytes(b"x" * 32).public_key().public_bytes_raw()
    outsider = Keyring("shop", Agreement(b"y" * 32, {"bank": stranger}, FIRST, SEEDS["shop"]), b"z" * 32)
    epoch = key_for_opening(outsider, sealed, NO_EPOCH)
    assert epoch.key == ring("bank", FIRST).epoch_key(STREAM, 1, FIRST[:8]), "the key itself it gets"
    with pytest.raises(SealError, match="does not open"):
        outsider.open(sealed, epoch)
    forger = Keyring(
        "bank",
        Agreement(b"y" * 32, {"shop": stranger}, FIRST, b"q" * 32, {"shop": kem.public_key_of(SEEDS["shop"])}),
        b"z" * 32,
    )
    with pytest.raises(SealError, match="does not open"):
        Opener(ring("shop", FIRST)).open(transcript(forger, 1)[0])


@pytest.mark.parametrize("field", ["sender", "receiver", "job_id", "origin", "stage", "epoch", "manifest"])
def test_a_wrapped_key_opens_for_its_own_stream_and_epoch_only(field: str) -> None:
    sealed = transcript(ring("bank", FIRST), 1)[0]
    receiver = ring("shop", FIRST, SECOND)
    assert len(receiver.unwrap_epoch_key(sealed)) == 32
    other = {"epoch": 2, "manifest": SECOND[:8]}.get(field, "third")
    with pytest.raises(SealError, match="does not open"):
        receiver.unwrap_epoch_key(replace(sealed, **{field: other}))  # type: ignore[arg-type]


def test_keys_that_are_no_keys_are_refused() -> None:
    good = kem.public_key_of(b"a" * 32)
    for bad in (b"", good[:-1], good[:1184] + bytes(32), b"\xff" * kem.PUBLIC_BYTES):
        with pytest.raises(ValueError):
            kem.check_public_key(bad)
    kem.check_public_key(good)
    with pytest.raises(ValueError, match="a seed of 5 bytes"):
        kem.public_key_of(b"short")
    wrapped = kem.wrap(b"k" * 32, good, b"info")
    assert kem.unwrap(wrapped, b"a" * 32, b"info") == b"k" * 32
    for attempt in ((wrapped[:-1], b"a" * 32, b"info"), (wrapped, b"b" * 32, b"info"), (wrapped, b"a" * 32, b"other")):
        with pytest.raises(kem.KemError):
            kem.unwrap(*attempt)
