"""What could not be processed, kept for people to look at."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.record import Record


@dataclass(frozen=True)
class DeadLetter(Record):
    """An input that a process set aside, on topic vfl.deadletter.<party>; its offset is committed all the same.

    `topic`, `partition` and `offset` say where the original lies; `value` repeats it up to the size that a record can
    carry, `value_bytes` is its full size. Sealed originals stay sealed.
    """

    party: str
    stage: str
    topic: str
    partition: int
    offset: int
    reason: str
    key: bytes | None
    value: bytes | None
    value_bytes: int
