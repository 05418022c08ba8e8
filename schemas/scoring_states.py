"""What the joiner keeps between two records: one delta for each transaction, on its compacted state topic."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.record import Record
from schemas.scoring import Purpose, RoutedScore, ScoreAnswer


@dataclass(frozen=True)
class HeldAnswer(Record):
    """An answer that waits for the others of its request, or for the request itself."""

    host: str
    answer: ScoreAnswer
    received_at_us: int


@dataclass(frozen=True)
class FinishedScore(Record):
    """A request that has its outcome; kept for as long as a copy of it may still come."""

    request_id: str
    purpose: Purpose
    forget_at_ms: int


@dataclass(frozen=True)
class JoinDelta(Record):
    """What one transaction changed. All deltas that are there, oldest first, are the joiner's state.

    `forget_at_ms`: when everything in it has lost its meaning, and the delta is deleted.
    """

    sequence: int
    waiting: tuple[RoutedScore, ...]
    held: tuple[HeldAnswer, ...]
    finished: tuple[FinishedScore, ...]
    forget_at_ms: int
