"""What the joiner keeps between two records: one delta for each transaction, on its compacted state topic."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.record import Record
from schemas.scoring import RoutedScore, ScoreAnswer


@dataclass(frozen=True)
class HeldAnswer(Record):
    """An answer that waits for the others of its request, or for the request itself."""

    host: str
    answer: ScoreAnswer
    received_at_us: int


@dataclass(frozen=True)
class FinishedScores(Record):
    """Requests that have their outcomes, by their keys; kept for as long as copies of them may still come.

    A key is `PURPOSE/REQUEST_ID`. Forgotten when the partition `request_partition` of the request topic was taken up
    beyond `forget_at_ms`, by the broker's clock.
    """

    request_partition: int
    forget_at_ms: int
    keys: tuple[str, ...]


@dataclass(frozen=True)
class RequestMark(Record):
    """How far a partition of the request topic was taken up: the highest offset, and the latest time of appending."""

    request_partition: int
    request_offset: int
    appended_at_ms: int


@dataclass(frozen=True)
class JoinPosition(Record):
    """What the group's position in an input topic is once the delta's transaction is committed."""

    topic: str
    next_position: int


@dataclass(frozen=True)
class JoinDelta(Record):
    """What one transaction changed. All deltas that are there, by their sequence, are the joiner's state.

    `positions` and `marks` are complete in each delta; those of the last one count. A large change is several deltas.
    """

    sequence: int
    positions: tuple[JoinPosition, ...]
    marks: tuple[RequestMark, ...]
    waiting: tuple[RoutedScore, ...]
    #: Keys whose early answers are held no longer; told before `held`.
    released: tuple[str, ...]
    held: tuple[HeldAnswer, ...]
    finished: tuple[FinishedScores, ...]
