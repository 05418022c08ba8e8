"""Blobs at rest: sealed, named so that the name says nothing, stored before the transaction that mentions them."""

from __future__ import annotations

import hashlib
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable

from schemas.record import Blob
from streams.engine.ports import BlobStore, StorageError
from streams.engine.seal import Keyring, SealError

#: Names that this process stored or fetched, so that a step does not ask the store about each of its blobs again.
KNOWN_NAMES = 100_000


#: Contents that stay in memory. What is older rests in the store until a step needs it: states may exceed memory.
RESIDENT_BYTES = 64 * 2**20


class ResidentBlobs:
    """The stored blobs whose contents are in memory too, in the order in which they came; the oldest let go first."""

    def __init__(self, load: Callable[[Blob], bytes], most_bytes: int) -> None:
        self._load = load
        self._most_bytes = most_bytes
        #: By identity: equal blobs may each have the content.
        self._held: OrderedDict[int, tuple[weakref.ref[Blob], int]] = OrderedDict()
        self.bytes = 0

    def note(self, blob: Blob) -> None:
        """The blob has its content, or is about to, and is stored."""
        key = id(blob)
        if key in self._held:
            return
        self._held[key] = (weakref.ref(blob, lambda _: self._forget(key)), blob.size)
        self.bytes += blob.size
        while self.bytes > self._most_bytes and len(self._held) > 1:
            _, (oldest, size) = self._held.popitem(last=False)
            self.bytes -= size
            there = oldest()
            if there is not None:
                there.release(self._load)

    def _forget(self, key: int) -> None:
        _, size = self._held.pop(key, (None, 0))
        self.bytes -= size


class SealedBlobs:
    """The party's blob store as the engine sees it. Raises `StorageError` whatever the store raises."""

    def __init__(self, store: BlobStore, keyring: Keyring, resident_bytes: int = RESIDENT_BYTES) -> None:
        self._store = store
        self._keyring = keyring
        self._known: set[bytes] = set()
        self._resident = ResidentBlobs(self.load, resident_bytes)

    def put_all(self, blobs: Iterable[Blob]) -> None:
        """Store the blobs that are not there. A crash afterwards leaves objects that a replay stores again."""
        for blob in blobs:
            if blob.sha256 not in self._known:
                self._put(blob)
            if blob.is_loaded:
                self._resident.note(blob)

    def _put(self, blob: Blob) -> None:
        content = blob.content
        if hashlib.sha256(content).digest() != blob.sha256:
            raise StorageError(f"blob {blob.sha256.hex()} has other content: make blobs with Blob.of")
        try:
            self._store.put(self._keyring.blob_name(blob.sha256), self._keyring.seal_blob(blob.sha256, content))
        except Exception as error:
            raise StorageError(f"storing a blob of {blob.size:,} bytes: {error}") from error
        self._remember(blob.sha256)

    def load(self, blob: Blob) -> bytes:
        """The content of a blob that was decoded from a record."""
        newest, *former = self._keyring.blob_names(blob.sha256)
        try:
            # It rests under the newest generation of the storage key, unless that was made after it was stored.
            name = next((name for name in former if not self._store.has(newest) and self._store.has(name)), newest)
            stored = self._store.get(name)
        except Exception as error:
            raise StorageError(f"fetching a blob of {blob.size:,} bytes: {error}") from error
        try:
            content = self._keyring.open_blob(blob.sha256, stored)
        except SealError as error:
            raise StorageError(f"a blob of {blob.size:,} bytes: {error}") from error
        if name == newest:
            self._remember(blob.sha256)
            self._resident.note(blob)
        return content

    def _remember(self, sha256: bytes) -> None:
        if len(self._known) >= KNOWN_NAMES:
            self._known.clear()
        self._known.add(sha256)
