"""One statement of a peer against the own list: agreed, too early to tell, or how they differ first."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.audit_statements import AuditStatement, DifferenceKind
from schemas.audit_states import AuditedStream
from streams.kernels.trails import Difference, Entry, find_difference, grow_packed, packed_root, split_entries
from streams.machines.audit.lists import (
    begin_of,
    count_of,
    entries_of,
    entry_at,
    interval_at,
    root_at,
    start_of,
)


@dataclass(frozen=True)
class Finding:
    """A difference. `own` and `peer` are the record in the two lists, where it is in them and at hand."""

    kind: DifferenceKind
    own: Entry | None = None
    peer: Entry | None = None

    @property
    def place(self) -> tuple[int, int]:
        """Sequence and chunk of the record that is named; (0, 0) where none is at hand."""
        found = [entry for entry in (self.own, self.peer) if entry is not None]
        return min(found)[:2] if found else (0, 0)


#: What is compared agrees; or nothing can be told of it, now or for ever.
AGREED, TOO_EARLY, FORGOTTEN = "agreed", "too early", "forgotten"


def compare(stream: AuditedStream, statement: AuditStatement, own_spec: bytes) -> str | Finding:
    """What comes of a statement that was checked."""
    if statement.spec and own_spec and statement.spec != own_spec:
        return Finding(DifferenceKind.OTHER_SPEC)
    if statement.count > count_of(stream):
        return TOO_EARLY
    own_root = root_at(stream, statement.count)
    if own_root is None:
        return FORGOTTEN
    if own_root == statement.root:
        return AGREED
    return _explain(stream, statement)


def find_shortfall(stream: AuditedStream) -> tuple[bytes, int, Finding] | None:
    """A job that is over, and lists of two lengths: the digest's statement or none, its count, and what is missing."""
    own_count = count_of(stream)
    ahead = next((each for each in stream.waiting if each.count > own_count), None)
    if ahead is not None:
        return b"", ahead.count, _explain(stream, ahead)
    if stream.is_heard_final and stream.heard < own_count:
        kind = DifferenceKind.NOT_TAKEN if stream.is_sent else DifferenceKind.NOT_SENT
        return stream.heard_statement, stream.heard, Finding(kind, own=entry_at(stream, stream.heard))
    return None


def _explain(stream: AuditedStream, statement: AuditStatement) -> Finding:
    """The first entry that differs among those that the statement tells, if what is before them is the same."""
    start, own_count = statement.start, count_of(stream)
    theirs = split_entries(statement.entries)
    if start >= own_count:
        # The own list has nothing there yet.
        return Finding(_shortage(stream), peer=theirs[0] if theirs and start == own_count else None)
    interval = interval_at(stream, start_of(statement.count))
    if interval is None or not theirs:
        return Finding(DifferenceKind.EARLIER, own=entry_at(stream, stream.agreed))
    # Each keeps and tells the entries that it knows both have not signed yet: the later beginning is that of both.
    begin = max(start, begin_of(interval))
    frontier = grow_packed(interval.frontier, begin_of(interval), entries_of(stream, begin_of(interval), begin))
    theirs = theirs[begin - start :]
    if packed_root(grow_packed(frontier, begin, b"".join(entry.leaf for entry in theirs))) != statement.root:
        return Finding(DifferenceKind.EARLIER, own=entry_at(stream, stream.agreed))
    ours = split_entries(entries_of(stream, begin, min(statement.count, own_count)))
    sent, taken = (ours, theirs) if stream.is_sent else (theirs, ours)
    found = find_difference(sent, taken)
    return Finding(DifferenceKind.EARLIER) if found is None else _of_party(stream, found)


def _of_party(stream: AuditedStream, found: Difference) -> Finding:
    own, peer = (found.sent, found.taken) if stream.is_sent else (found.taken, found.sent)
    return Finding(found.kind, own, peer)


def _shortage(stream: AuditedStream) -> DifferenceKind:
    """What it means that the peer's list is the longer one."""
    return DifferenceKind.NOT_SENT if stream.is_sent else DifferenceKind.NOT_TAKEN
