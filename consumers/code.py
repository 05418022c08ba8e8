"""Which code made a model: a digest of everything that decides one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import schemas
import streams

#: What decides a model: programs, schemas and link tables.
SUFFIXES = frozenset({".py", ".avsc", ".npz"})


def fingerprint_code() -> str:
    """SHA-256 in hex over the names and contents of the packages `schemas` and `streams`, in sorted order."""
    digest = hashlib.sha256()
    for package in (schemas, streams):
        root = Path(str(package.__file__)).parent
        for path in sorted(path for path in root.rglob("*") if path.suffix in SUFFIXES):
            content = path.read_bytes()
            name = path.relative_to(root.parent).as_posix()
            digest.update(f"{len(name)}:{name}:{len(content)}:".encode())
            digest.update(content)
    return digest.hexdigest()
