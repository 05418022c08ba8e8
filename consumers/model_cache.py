"""The party's halves of models, for scoring: from the object store at first use, then from files of this machine.

    <home>/cache/models/<digest>      sealed as in the object store, checked against its digest whenever it is read

A file that is damaged is fetched again. With the object store down, whatever was used here once can be used.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from pathlib import Path

from schemas.codec import DecodeError, decode
from schemas.models import ModelHalf
from schemas.record import Blob
from streams.engine.blobs import SealedBlobs
from streams.engine.ports import BlobStore, StorageError
from streams.engine.seal import Keyring, SealError

_log = logging.getLogger(__name__)

#: A request waits so long for the first fetch of a half, and those after it not at all. Stores answer within
#: milliseconds, or their clients try for many seconds: nobody else's request can wait for that.
FETCH_SECONDS = 1.0
#: Until a store that failed is asked again.
RETRY_SECONDS = 1.0
#: Halves that stay in memory; one has some kilobytes.
MOST_HALVES = 1_000


class ModelUnavailableError(Exception):
    """The half cannot be had now. The text says why."""


@dataclass
class _Fetch:
    """One attempt at a half."""

    content: Future[bytes]
    retry_at: float = 0.0

    @property
    def has_failed(self) -> bool:
        """Whether it is over, and gave nothing."""
        return self.content.done() and self.content.exception() is not None


class ModelCache:
    """Any thread may call it."""

    def __init__(
        self, folder: Path, store: BlobStore, keyring: Keyring, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = folder
        self._blobs = SealedBlobs(store, keyring)
        self._keyring = keyring
        self._now = now
        self._lock = threading.Lock()
        self._halves: dict[bytes, ModelHalf] = {}
        self._fetches: dict[bytes, _Fetch] = {}

    def half(self, sha256: bytes) -> ModelHalf:
        """The half with this digest. Raises `ModelUnavailableError`."""
        half = self._halves.get(sha256)
        if half is None:
            half = self._decode(sha256, self._read(sha256) or self._fetch(sha256))
            with self._lock:
                while len(self._halves) >= MOST_HALVES:
                    del self._halves[next(iter(self._halves))]
                self._halves[sha256] = half
                self._fetches.pop(sha256, None)
        return half

    def _path(self, sha256: bytes) -> Path:
        return self._folder / sha256.hex()

    def _read(self, sha256: bytes) -> bytes | None:
        """From the file, if there is a sound one."""
        path = self._path(sha256)
        try:
            return self._keyring.open_blob(sha256, path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, SealError) as error:
            _log.warning("%s is not used and fetched again: %s", path, error)
            return None

    def _fetch(self, sha256: bytes) -> bytes:
        """From the object store, by a thread that may take its time."""
        with self._lock:
            fetch = self._fetches.get(sha256)
            is_first = fetch is None or (fetch.has_failed and self._now() >= fetch.retry_at)
            if fetch is None or is_first:
                fetch = self._fetches[sha256] = _Fetch(Future())
                threading.Thread(target=self._load, args=(sha256, fetch), name="model-fetch", daemon=True).start()
        try:
            return fetch.content.result(FETCH_SECONDS if is_first else 0)
        except FutureTimeoutError:
            raise ModelUnavailableError(f"the half {sha256.hex()} is being fetched from the object store") from None
        except StorageError as error:
            raise ModelUnavailableError(f"the half {sha256.hex()} is not in the cache, and {error}") from error

    def _load(self, sha256: bytes, fetch: _Fetch) -> None:
        try:
            content = self._blobs.load(Blob(sha256, 0))
        except StorageError as error:
            _log.warning("the half %s cannot be fetched: %s", sha256.hex(), error)
            fetch.retry_at = self._now() + RETRY_SECONDS
            fetch.content.set_exception(error)
            return
        try:
            self._write(sha256, content)
        except OSError as error:
            # It is of use all the same, until the process ends.
            _log.warning("the half %s cannot be kept in %s: %s", sha256.hex(), self._folder, error)
        fetch.content.set_result(content)

    def _write(self, sha256: bytes, content: bytes) -> None:
        """The file appears complete or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        scratch = self._folder / f"{sha256.hex()}.{os.getpid()}"
        try:
            with scratch.open("wb") as file:
                file.write(self._keyring.seal_blob(sha256, content))
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(self._path(sha256))
        finally:
            with contextlib.suppress(OSError):
                scratch.unlink(missing_ok=True)

    def _decode(self, sha256: bytes, content: bytes) -> ModelHalf:
        try:
            half = decode(content)
        except DecodeError as error:
            raise ModelUnavailableError(f"the half {sha256.hex()} cannot be read: {error}") from error
        if not isinstance(half, ModelHalf):
            raise ModelUnavailableError(f"the object {sha256.hex()} is a {type(half).__name__}, not a model half")
        return half
