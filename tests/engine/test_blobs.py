"""Contents that rest in the store and those that are in memory as well: a state may be larger than memory."""

from __future__ import annotations

from schemas.record import Blob
from streams.engine.agreement import Agreement
from streams.engine.blobs import SealedBlobs
from streams.engine.seal import Keyring

KILOBYTE = 1000


class CountingStore:
    """A store in memory that counts what is fetched."""

    def __init__(self) -> None:
        self.objects: dict[bytes, bytes] = {}
        self.fetched = 0

    def put(self, sha256: bytes, content: bytes) -> None:
        """As the store's."""
        self.objects[sha256] = content

    def get(self, sha256: bytes) -> bytes:
        """As the store's."""
        self.fetched += 1
        return self.objects[sha256]

    def has(self, sha256: bytes) -> bool:
        """As the store's."""
        return sha256 in self.objects


def _blobs(store: CountingStore, kilobytes: int) -> SealedBlobs:
    keyring = Keyring("bank", Agreement(b"p" * 32, {}), b"s" * 32)
    return SealedBlobs(store, keyring, kilobytes * KILOBYTE)


def _of(number: int) -> Blob:
    return Blob.of(bytes([number]) * KILOBYTE)


def test_the_oldest_contents_are_let_go_and_come_again_when_they_are_wanted() -> None:
    store = CountingStore()
    blobs = _blobs(store, 3)
    held = [_of(number) for number in range(5)]
    blobs.put_all(held)
    assert [blob.is_loaded for blob in held] == [False, False, True, True, True]
    assert store.fetched == 0
    assert held[0].content == bytes(KILOBYTE)
    assert store.fetched == 1
    assert [blob.is_loaded for blob in held] == [True, False, False, True, True]
    assert [blob.content for blob in held] == [_of(number).content for number in range(5)]


def test_what_is_not_stored_is_never_let_go() -> None:
    blobs = _blobs(CountingStore(), 1)
    mine = _of(9)
    blobs.put_all([_of(number) for number in range(5)])
    assert mine.is_loaded


def test_a_step_over_the_same_blobs_again_counts_them_once() -> None:
    blobs = _blobs(CountingStore(), 3)
    held = [_of(number) for number in range(3)]
    for _ in range(10):
        blobs.put_all(held)
    assert all(blob.is_loaded for blob in held)


def test_blobs_that_nobody_has_any_more_take_no_room() -> None:
    blobs = _blobs(CountingStore(), 3)
    kept = _of(0)
    blobs.put_all([kept])
    for number in range(1, 100):
        blobs.put_all([_of(number)])
    assert kept.is_loaded


def test_one_blob_beyond_the_limit_is_held_all_the_same() -> None:
    """It was put by a step that has it in hand; to fetch it at once again would be in vain."""
    store = CountingStore()
    blobs = _blobs(store, 1)
    large = Blob.of(b"x" * 5 * KILOBYTE)
    blobs.put_all([large])
    assert large.content == b"x" * 5 * KILOBYTE
    assert store.fetched == 0


def test_decoded_blobs_share_the_room() -> None:
    store = CountingStore()
    blobs = _blobs(store, 2)
    stored = [_of(number) for number in range(4)]
    blobs.put_all(stored)
    decoded = [Blob(blob.sha256, blob.size, blobs.load) for blob in stored]
    assert [blob.content for blob in decoded] == [_of(number).content for number in range(4)]
    assert [blob.is_loaded for blob in decoded] == [False, False, True, True]
    assert not any(blob.is_loaded for blob in stored)
