"""A stream of what crossed between two parties, as a list of entries: how two lists of one stream differ first."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from schemas.audit_statements import ENTRY_BYTES, DifferenceKind
from streams.kernels.merkle import frontier_root, grow

HASH_BYTES = 32


class Entry(NamedTuple):
    """One sealed record: its place in its stream, and SHA-256 of its bytes in hexadecimal digits."""

    sequence: int
    chunk_index: int
    digest: str

    @property
    def place(self) -> str:
        """For texts."""
        return f"{self.sequence}.{self.chunk_index}"

    @property
    def written(self) -> tuple[int, int, str]:
        """As in a file."""
        return self.sequence, self.chunk_index, self.digest

    @property
    def leaf(self) -> bytes:
        """What stands in the Merkle tree: `ENTRY_BYTES`."""
        return self.sequence.to_bytes(8, "big") + self.chunk_index.to_bytes(4, "big") + bytes.fromhex(self.digest)


class StreamName(NamedTuple):
    """Who sent, who received, and the stages at both ends."""

    sender: str
    receiver: str
    origin: str
    stage: str

    def __str__(self) -> str:
        return f"{self.origin} of {self.sender} to {self.stage} of {self.receiver}"


class Difference(NamedTuple):
    """The first entry in which two lists differ. `sent` and `taken` are None where a list lacks it."""

    kind: DifferenceKind
    sent: Entry | None
    taken: Entry | None

    @property
    def first(self) -> Entry:
        """The one that is named."""
        return min(entry for entry in (self.sent, self.taken) if entry is not None)


def find_difference(sent: Sequence[Entry], taken: Sequence[Entry]) -> Difference | None:
    """How the sender's and the receiver's list, or equal stretches of them, differ first; None where they do not."""
    for ours, theirs in itertools.zip_longest(sent, taken):
        if ours == theirs:
            continue
        if theirs is None:
            return Difference(DifferenceKind.NOT_TAKEN, ours, None)
        if ours is None:
            return Difference(DifferenceKind.NOT_SENT, None, theirs)
        if ours.place == theirs.place:
            return Difference(DifferenceKind.ALTERED, ours, theirs)
        if ours < theirs:
            return Difference(DifferenceKind.SKIPPED, ours, None)
        return Difference(DifferenceKind.INSERTED, None, theirs)
    return None


def split_entries(data: bytes) -> tuple[Entry, ...]:
    """Leaves, one after the other, as entries. Raises `ValueError` when the last one is not whole."""
    if len(data) % ENTRY_BYTES:
        raise ValueError(f"{len(data)} bytes are not whole entries of {ENTRY_BYTES}")
    leaves = (data[at : at + ENTRY_BYTES] for at in range(0, len(data), ENTRY_BYTES))
    return tuple(Entry(int.from_bytes(e[:8], "big"), int.from_bytes(e[8:12], "big"), e[12:].hex()) for e in leaves)


def grow_packed(frontier: bytes, size: int, entries: bytes) -> bytes:
    """The frontier (`streams.kernels.merkle`, packed) of `size` entries after these further ones."""
    hashes = tuple(frontier[at : at + HASH_BYTES] for at in range(0, len(frontier), HASH_BYTES))
    for at in range(0, len(entries), ENTRY_BYTES):
        hashes = grow(hashes, size, entries[at : at + ENTRY_BYTES])
        size += 1
    return b"".join(hashes)


def packed_root(frontier: bytes) -> bytes:
    """The root of the tree with this packed frontier."""
    return frontier_root([frontier[at : at + HASH_BYTES] for at in range(0, len(frontier), HASH_BYTES)])
