"""Digests over several fields that no other fields give."""

from __future__ import annotations

import hashlib


def digest_fields(domain: bytes, *fields: str | bytes | int) -> bytes:
    """SHA-256 over the domain and the fields, each with its length in front; numbers as decimal digits."""
    running = hashlib.sha256(domain)
    for field in fields:
        data = field if isinstance(field, bytes) else str(field).encode()
        running.update(len(data).to_bytes(4, "big") + data)
    return running.digest()
