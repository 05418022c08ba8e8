"""Large objects in a bucket of an S3 server; see `object_store.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from infra.object_store import ObjectStoreError, parts_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 60
#: Of one request, with growing pauses (botocore's standard mode); some 10 s of an unreachable server in all.
MAX_ATTEMPTS = 5
#: Two conditional puts of one object at once: the loser is told to try again.
CONFLICT_ATTEMPTS = 5


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
        key = self.prefix + "/".join(parts_of(name))
        try:
            self._client.put_object(Bucket=self.bucket, Key=key, Body=content)
        except (BotoCoreError, ClientError) as error:
            raise self._error(f"store a file of {len(content):,} bytes in", error) from error

    def _key(self, sha256: bytes) -> str:
        return self.prefix + sha256.hex()

    def _error(self, what: str, error: Exception) -> ObjectStoreError:
        return ObjectStoreError(f"could not {what} {self.place}: {error}")


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
