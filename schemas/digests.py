"""The digest of a record: what parties compare when they must mean the same thing."""

from __future__ import annotations

import hashlib

from schemas.codec import encode
from schemas.record import Record


def digest_of(record: Record) -> bytes:
    """SHA-256 of the record's single-object encoding. The spec digest is this of the `JobSpec`."""
    return hashlib.sha256(encode(record)).digest()
