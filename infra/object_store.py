"""Where large objects rest: a folder or a bucket. Objects are named by a digest and never change once they are there.

Beside them lie files with names, for other programs to read: archives of the scoring history.

What the bytes are, and whether they are sealed, is the caller's business; so the store cannot check them by their name.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from infra.settings import DirectoryStoreSettings, PartySettings

#: What a killed process left in the scratch folder is nobody's after a day.
STALE_SECONDS = 86_400


class ObjectStoreError(Exception):
    """An object could not be stored or fetched; the message says where and why. Trying again later may help."""


class ObjectStore(Protocol):
    """A store of immutable objects, each named by a SHA-256 digest."""

    def put(self, sha256: bytes, content: bytes) -> None:
        """Store durably; does nothing when the object is there. Raises `ObjectStoreError`."""
        ...

    def get(self, sha256: bytes) -> bytes:
        """The content. Raises `ObjectStoreError`, also when there is no such object."""
        ...

    def has(self, sha256: bytes) -> bool:
        """Whether the object is there. Raises `ObjectStoreError`."""
        ...

    def put_named(self, name: str, content: bytes) -> None:
        """Store durably under a name such as `scoring/2026/part.avro`, in place of what is there.

        Raises `ObjectStoreError`, and `ValueError` for a name that is none.
        """
        ...


def open_object_store(settings: PartySettings) -> ObjectStore:
    """The store that a party's settings name. Raises `ObjectStoreError` when it cannot be used."""
    store = settings.object_store
    if isinstance(store, DirectoryStoreSettings):
        return DirectoryStore(settings.resolve(store.path))
    # The library takes a third of a second to load, and most homes have a folder.
    from infra.object_store_s3 import S3Store

    return S3Store(store.bucket, store.prefix, endpoint_url=store.endpoint_url, region=store.region)


class DirectoryStore:
    """Objects as files `<root>/<first two digits>/<digest>`. A file appears complete or not at all."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._scratch = self.root / "scratch"
        self._numbers = itertools.count()
        with self._errors("use"):
            self._scratch.mkdir(parents=True, exist_ok=True)
            self._remove_stale()

    def put(self, sha256: bytes, content: bytes) -> None:
        """Store durably: the bytes are on disk before the name is, and the name before this returns."""
        path = self._path(sha256)
        with self._errors("store an object of {size:,} bytes in", len(content)):
            if not path.exists():
                self._write(path, content)

    def put_named(self, name: str, content: bytes) -> None:
        """A file of that name below the root; whole at any time."""
        path = self.root.joinpath(*parts_of(name))
        with self._errors("store a file of {size:,} bytes in", len(content)):
            self._write(path, content)

    def get(self, sha256: bytes) -> bytes:
        """The content."""
        try:
            with self._errors("read from"):
                return self._path(sha256).read_bytes()
        except ObjectStoreError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise ObjectStoreError(
                    f"there is no object {sha256.hex()} in {self.root}: was the folder exchanged or cleaned?"
                ) from None
            raise

    def has(self, sha256: bytes) -> bool:
        """Whether the file is there."""
        with self._errors("look into"):
            return self._path(sha256).exists()

    def _write(self, path: Path, content: bytes) -> None:
        scratch = self._scratch / f"{os.getpid()}-{next(self._numbers)}-{path.name}"[:200]
        try:
            with scratch.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            path.parent.mkdir(parents=True, exist_ok=True)
            scratch.rename(path)
        except OSError:
            scratch.unlink(missing_ok=True)
            raise
        for folder in path.relative_to(self.root).parents:
            _sync_folder(self.root / folder)

    def _path(self, sha256: bytes) -> Path:
        name = sha256.hex()
        return self.root / name[:2] / name

    def _remove_stale(self) -> None:
        for path in self._scratch.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - STALE_SECONDS:
                    path.unlink()

    @contextmanager
    def _errors(self, what: str, size: int = 0) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            advice = ""
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                advice = "; make room there, then try again"
            doing = what.format(size=size)
            raise ObjectStoreError(f"could not {doing} {self.root}: {error.strerror or error}{advice}") from error


def parts_of(name: str) -> list[str]:
    """The parts of a name. In a folder at least one, so that it is no digest's and not the scratch folder's."""
    parts = name.split("/")
    if len(parts) < 2 or len(parts[0]) < 3 or parts[0] == "scratch" or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{name!r} cannot name a file of the object store: use folder/name")
    return parts


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
