"""Which code runs: the digest that a manifest can name, so that every party runs what all have agreed on."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

#: What decides what a process does; tests, documents and benchmarks do not.
PACKAGES = ("consumers", "infra", "producers", "schemas", "streams")
SUFFIXES = frozenset((".py", ".avsc", ".toml"))


@functools.cache
def code_digest(root: Path | None = None) -> str:
    """SHA-256 over names and contents of all code files, in hexadecimal digits."""
    root = root or Path(__file__).parents[1]
    digest = hashlib.sha256(b"isthmus/code/1\0")
    for package in PACKAGES:
        paths = (path for path in (root / package).rglob("*") if path.suffix in SUFFIXES and path.is_file())
        for path in sorted(paths, key=lambda each: each.relative_to(root).as_posix()):
            content = path.read_bytes()
            name = path.relative_to(root).as_posix().encode()
            digest.update(len(name).to_bytes(4, "big") + name + len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()
