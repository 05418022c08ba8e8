"""One party's list of one stream, as its auditor keeps it: the open end with entries, the rest as hashes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from schemas.audit_statements import ENTRY_BYTES, INTERVAL
from schemas.audit_states import AuditedStream, AuditInterval
from streams.kernels.merkle import tree_root
from streams.kernels.trails import Entry, StreamName, grow_packed, packed_root, split_entries

#: Full intervals whose entries are kept until both have signed them: 90 kB a stream at most.
MOST_OPEN = 16


def open_stream(peer: str, *, is_sent: bool, origin: str, stage: str) -> AuditedStream:
    """A stream of which nothing is written down yet."""
    return AuditedStream(peer, is_sent, origin, stage, (AuditInterval(0, 0, b"", b""),))


def name_of(own: str, stream: AuditedStream) -> StreamName:
    """As both parties call it."""
    ends = (own, stream.peer) if stream.is_sent else (stream.peer, own)
    return StreamName(*ends, stream.origin, stream.stage)


def count_of(stream: AuditedStream) -> int:
    """How many entries the list has."""
    return stream.intervals[-1].end


def append(stream: AuditedStream, leaves: bytes) -> AuditedStream:
    """The list after further entries, `ENTRY_BYTES` each."""
    intervals = list(stream.intervals)
    while leaves:
        last = intervals[-1]
        if last.end - last.start == INTERVAL:
            frontier = grow_packed(last.frontier, begin_of(last), last.entries)
            intervals.append(AuditInterval(last.end, last.end, frontier, b""))
            _forget_entries(intervals)
            continue
        taken = leaves[: (INTERVAL - (last.end - last.start)) * ENTRY_BYTES]
        end = last.end + len(taken) // ENTRY_BYTES
        intervals[-1] = replace(last, end=end, entries=last.entries + taken)
        leaves = leaves[len(taken) :]
    return replace(stream, intervals=tuple(intervals))


def _forget_entries(intervals: list[AuditInterval]) -> None:
    """Where too many are open, what came last becomes a hash: the first difference is sought among the oldest."""
    if sum(1 for interval in intervals[:-1] if interval.entries) <= MOST_OPEN:
        return
    full, last = intervals[-2:]
    thin = AuditInterval(full.start, full.end, full.frontier, b"", packed_root(last.frontier))
    before = intervals[-3]
    if before.root:
        thin = replace(thin, start=before.start, frontier=before.frontier)
        del intervals[-3]
    intervals[-2] = thin


def root_at(stream: AuditedStream, count: int) -> bytes | None:
    """The root of the first `count` entries; None where the list is shorter, or what it would take was forgotten."""
    if count == 0:
        return tree_root(())
    if count == stream.agreed and stream.agreed_root:
        return stream.agreed_root
    for interval in stream.intervals:
        if interval.start < count <= interval.end:
            if interval.root:
                return interval.root if count == interval.end else None
            begin = begin_of(interval)
            if count < begin:
                return None
            told = interval.entries[: (count - begin) * ENTRY_BYTES]
            return packed_root(grow_packed(interval.frontier, begin, told))
    return None


def entries_of(stream: AuditedStream, start: int, count: int) -> bytes:
    """Entries `start` to `count`, of one interval; empty where they were forgotten, or are not there."""
    for interval in stream.intervals:
        begin = begin_of(interval)
        if begin <= start < count <= interval.end:
            return interval.entries[(start - begin) * ENTRY_BYTES : (count - begin) * ENTRY_BYTES]
    return b""


def interval_at(stream: AuditedStream, start: int) -> AuditInterval | None:
    """The interval that starts there; None where it was forgotten."""
    return next((each for each in stream.intervals if each.start == start and not each.root), None)


def begin_of(interval: AuditInterval) -> int:
    """Where its entries begin."""
    return interval.end - len(interval.entries) // ENTRY_BYTES


def entry_at(stream: AuditedStream, index: int) -> Entry | None:
    """The entry with this index, if it is at hand."""
    found = split_entries(entries_of(stream, index, index + 1))
    return found[0] if found else None


def forget_signed(stream: AuditedStream) -> AuditedStream:
    """Without what both have signed."""
    signed = min(stream.agreed, stream.confirmed)
    kept = tuple(interval for interval in stream.intervals[:-1] if interval.end > signed)
    last = stream.intervals[-1]
    if last.end <= signed:
        last = replace(last, frontier=grow_packed(last.frontier, begin_of(last), last.entries), entries=b"")
    return replace(stream, intervals=(*kept, last))


def cuts_to_say(stream: AuditedStream, *, is_over: bool) -> Iterator[int]:
    """Where statements are due: at every multiple of `INTERVAL`, and at the end when the job is over."""
    count = count_of(stream)
    first = (stream.said // INTERVAL + 1) * INTERVAL
    yield from range(first, count + 1, INTERVAL)
    if is_over and count and (count > stream.said or not stream.is_said_final) and (count % INTERVAL or count < first):
        yield count


def start_of(count: int) -> int:
    """Where the interval begins that a cut ends."""
    return (count - 1) // INTERVAL * INTERVAL
