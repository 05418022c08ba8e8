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
from typing import TYPE_CHECKING, Protocol

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from infra.settings import DirectoryStoreSettings, PartySettings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: What a killed process left in the scratch folder is nobody's after a day.
STALE_SECONDS = 86_400
CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 60
#: Of one request, with growing pauses (botocore's standard mode); some 10 s of an unreachable server in all.
MAX_ATTEMPTS = 5
#: Two conditional puts of one object at once: the loser is told to try again.
CONFLICT_ATTEMPTS = 5


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
        path = self.root.joinpath(*_parts(name))
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


class S3Store:
    """Objects `<prefix><digest>` in a bucket of a server that knows conditional puts (`If-None-Match: *`)."""

    def __init__(
        self, bucket: str, prefix: str = "", *, endpoint_url: str | None = None, region: str | None = None
    ) -> None:
        self.bucket = bucket
        self.prefix = prefix
        config = Config(
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            read_timeout=READ_TIMEOUT_SECONDS,
            retries={"mode": "standard", "total_max_attempts": MAX_ATTEMPTS},
            # Servers other than Amazon's have no host name for each bucket, and few know the newer checksums.
            s3={"addressing_style": "path" if endpoint_url else "auto"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        self.place = f"{endpoint_url or 's3:/'}/{bucket}/{prefix}"
        try:
            # A session of its own: boto3's default one is not made for several threads.
            self._client: S3Client = boto3.session.Session().client(
                "s3", endpoint_url=endpoint_url, region_name=region or "us-east-1", config=config
            )
        except (BotoCoreError, ValueError) as error:
            raise ObjectStoreError(f"could not set up {self.place}: {error}") from error

    def put(self, sha256: bytes, content: bytes) -> None:
        """Store; the server decides atomically whether the object is new."""
        for attempt in range(1, CONFLICT_ATTEMPTS + 1):
            try:
                self._client.put_object(Bucket=self.bucket, Key=self._key(sha256), Body=content, IfNoneMatch="*")
                return
            except ClientError as error:
                code = _status(error)
                if code == 412:
                    return
                if code == 409 and attempt < CONFLICT_ATTEMPTS:
                    continue
                raise self._error(f"store an object of {len(content):,} bytes in", error) from error
            except BotoCoreError as error:
                raise self._error(f"store an object of {len(content):,} bytes in", error) from error

    def get(self, sha256: bytes) -> bytes:
        """The content."""
        try:
            return self._client.get_object(Bucket=self.bucket, Key=self._key(sha256))["Body"].read()
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "NoSuchKey":
                raise ObjectStoreError(
                    f"there is no object {sha256.hex()} in {self.place}: was the bucket exchanged or cleaned?"
                ) from None
            raise self._error("read from", error) from error
        except BotoCoreError as error:
            raise self._error("read from", error) from error

    def has(self, sha256: bytes) -> bool:
        """Whether the object is there."""
        try:
            self._client.head_object(Bucket=self.bucket, Key=self._key(sha256))
        except ClientError as error:
            if _status(error) == 404:
                return False
            raise self._error("look into", error) from error
        except BotoCoreError as error:
            raise self._error("look into", error) from error
        return True

    def put_named(self, name: str, content: bytes) -> None:
        """An object with that key after the prefix."""
        key = self.prefix + "/".join(_parts(name))
        try:
            self._client.put_object(Bucket=self.bucket, Key=key, Body=content)
        except (BotoCoreError, ClientError) as error:
            raise self._error(f"store a file of {len(content):,} bytes in", error) from error

    def _key(self, sha256: bytes) -> str:
        return self.prefix + sha256.hex()

    def _error(self, what: str, error: Exception) -> ObjectStoreError:
        return ObjectStoreError(f"could not {what} {self.place}: {error}")


def _parts(name: str) -> list[str]:
    """The parts of a name. In a folder at least one, so that it is no digest's and not the scratch folder's."""
    parts = name.split("/")
    if len(parts) < 2 or len(parts[0]) < 3 or parts[0] == "scratch" or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{name!r} cannot name a file of the object store: use folder/name")
    return parts


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
