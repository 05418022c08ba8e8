"""Blobs at rest: sealed, named so that the name says nothing, stored before the transaction that mentions them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from schemas.record import Blob
from streams.engine.ports import BlobStore, StorageError
from streams.engine.seal import Keyring, SealError

#: Names that this process stored or fetched, so that a step does not ask the store about each of its blobs again.
KNOWN_NAMES = 100_000


class SealedBlobs:
    """The party's blob store as the engine sees it. Raises `StorageError` whatever the store raises."""

    def __init__(self, store: BlobStore, keyring: Keyring) -> None:
        self._store = store
        self._keyring = keyring
        self._known: set[bytes] = set()

    def put_all(self, blobs: Iterable[Blob]) -> None:
        """Store the blobs that are not there. A crash afterwards leaves objects that a replay stores again."""
        for blob in blobs:
            if blob.sha256 in self._known:
                continue
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
        return content

    def _remember(self, sha256: bytes) -> None:
        if len(self._known) >= KNOWN_NAMES:
            self._known.clear()
        self._known.add(sha256)
