"""What the engine keeps on a state topic, always inside `SealedState`. Nothing but the engine reads it."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.record import Blob, Record


@dataclass(frozen=True)
class EngineStream(Record):
    """How far the records between one stage of `party` and this process have come, in one direction.

    `next_chunk` counts the chunks of record `next_sequence` that have arrived; 0 in the outgoing direction.
    `epoch` is the one in use between parties, 0 before the first and inside a party. The receiver keeps its key; the
    sender keeps under which manifest it is, and the sequence of its first record.
    """

    party: str
    stage: str
    next_sequence: int
    next_chunk: int
    epoch: int = 0
    epoch_key: bytes = b""
    epoch_manifest: bytes = b""
    epoch_first: int = 0


@dataclass(frozen=True)
class EngineTimer(Record):
    """A timer that a machine set. `is_sent`: its `TimerFired` is in the log, and waits to be read."""

    name: str
    due_at_ms: int
    generation: int
    is_sent: bool


@dataclass(frozen=True)
class EngineJob(Record):
    """All that the engine knows of one job. The machine's state is inside, or a blob when it is large."""

    job_id: str
    machine: bytes
    machine_blob: Blob | None
    received: tuple[EngineStream, ...]
    sent: tuple[EngineStream, ...]
    timers: tuple[EngineTimer, ...]
    #: How often a timer was set so far: the next one's generation. Never starts again.
    next_generation: int
    bytes_sent: int
    bytes_received: int
    records_sent: int
    records_received: int


@dataclass(frozen=True)
class EngineChunk(Record):
    """A piece of a record whose other pieces have not all arrived; deleted when they have."""

    job_id: str
    party: str
    stage: str
    sequence: int
    chunk_index: int
    content: bytes


@dataclass(frozen=True)
class EngineCheckpoint(Record):
    """The position behind the last record of the input partition that the states on this state partition include.

    Written in the transaction that commits the same position for the group; the two never differ, or something tore.
    """

    topic: str
    next_position: int
