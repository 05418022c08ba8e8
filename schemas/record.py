"""What a record is: a frozen dataclass that has an Avro schema of the same name under `schemas/avro/`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field


class Record:
    """Base of every record.

    A subclass is a `@dataclass(frozen=True)` whose fields are of these types only: `str`, `int`, `float`, `bool`,
    `bytes`, a `StrEnum`, another `Record`, `Blob`, `tuple[X, ...]` of one of these, or `X | None`.
    The name of the class is the name of the Avro record.
    """


@dataclass(frozen=True)
class Blob:
    """Bytes too large or too static to be repeated in a record: the record holds the digest, the blob store the bytes.

    In Avro a blob is the record `Blob {sha256: bytes, size: long}`. Two blobs are equal when their digests are. A blob
    that was decoded from a record fetches its content through the loader that the decoder was given, and keeps it until
    it is released.
    """

    sha256: bytes
    size: int
    _load: Callable[[Blob], bytes] | None = field(default=None, compare=False, repr=False)
    _content: list[bytes] = field(default_factory=list, compare=False, repr=False)

    @classmethod
    def of(cls, content: bytes) -> Blob:
        """The blob of these bytes."""
        return cls(hashlib.sha256(content).digest(), len(content), None, [content])

    @property
    def content(self) -> bytes:
        """The bytes. Raises `LookupError` when the blob has neither content nor a loader."""
        for content in self._content:
            return content
        if self._load is None:
            raise LookupError(f"blob {self.sha256.hex()} has no content and no loader")
        content = self._load(self)
        self._content.append(content)
        return content

    def release(self, load: Callable[[Blob], bytes]) -> None:
        """Let go of the bytes, which rest elsewhere; whoever needs them again gets them through `load`."""
        object.__setattr__(self, "_load", load)
        self._content.clear()

    @property
    def is_loaded(self) -> bool:
        """Whether the bytes are in memory."""
        return bool(self._content)
