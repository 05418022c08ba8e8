"""What the engine needs of the world: a log, a blob store, a clock, and somewhere to compute. Tests bring fakes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol, TypeVar

_T = TypeVar("_T")


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class InputRecord:
    """A committed record as it lies in the log."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None

    @property
    def place(self) -> TopicPartition:
        """The partition it lies in."""
        return TopicPartition(self.topic, self.partition)


@dataclass(frozen=True, slots=True)
class OutputRecord:
    """A record to be written. `value` None deletes the key in a compacted topic."""

    topic: str
    partition: int
    key: bytes
    value: bytes | None


@dataclass(frozen=True)
class Polled:
    """What came of one poll. A partition in both `lost` and `gained` was lost first: its state must be read again."""

    records: tuple[InputRecord, ...] = ()
    gained: frozenset[TopicPartition] = frozenset()
    lost: frozenset[TopicPartition] = frozenset()


class NotYetError(Exception):
    """A transaction of a predecessor is undecided where we must read: poll the group and ask again."""


class StorageError(Exception):
    """The blob store failed, or does not have what it should have."""


class ClientErrorKind(StrEnum):
    """What a failed call of a transactional producer means for the transaction."""

    #: The transaction cannot be committed.
    ABORTABLE = "abortable"
    #: Another producer has the transactional id, or the broker aborted the transaction for its age.
    FENCED = "fenced"
    #: No answer: the call may or may not have taken effect.
    TIMED_OUT = "timed_out"
    #: It will not work however often it is tried, such as a missing permission.
    FATAL = "fatal"


class ClientError(Exception):
    """A call of a transactional producer failed."""

    def __init__(self, kind: ClientErrorKind, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail


class Producer(Protocol):
    """One instance of a transactional producer. Every call but `close` may raise `ClientError`."""

    def init(self) -> None:
        """Take the transactional id: end what a predecessor left open and fence it. Returns when that is done."""
        ...

    def begin(self) -> None:
        """Begin a transaction."""
        ...

    def produce(self, record: OutputRecord) -> None:
        """Write within the transaction; may return before the broker has it, `commit` waits for that."""
        ...

    def send_offsets(self, positions: Mapping[TopicPartition, int]) -> None:
        """Commit the group's positions with the transaction. Fails for a member that the group no longer counts in."""
        ...

    def commit(self) -> None:
        """Make all of it visible, or none."""
        ...

    def close(self) -> None:
        """Let go of it without a word to the broker. Never raises."""
        ...


class Log(Protocol):
    """The group member and the readers of one process. One thread calls it, but for `read_state`."""

    def join(self) -> None:
        """Become a member of the group. Call it after the producer's `init`."""
        ...

    def poll(self, timeout_ms: int, max_records: int) -> Polled:
        """Committed records of started partitions, in order within each; serves the group. Raises `EngineError`."""
        ...

    def keep_alive(self) -> None:
        """Serve the group while a step computes; fetches nothing. Losses are told by `lost` and the next `poll`."""
        ...

    def lost(self) -> frozenset[TopicPartition]:
        """The partitions that were taken from us since the last `poll`, even if given back."""
        ...

    def committed(self, places: Collection[TopicPartition]) -> dict[TopicPartition, int | None]:
        """The group's committed positions, once no transaction is about to change them. Raises `NotYetError`."""
        ...

    def read_state(self, place: TopicPartition) -> list[tuple[bytes, bytes | None]]:
        """All committed records (key, value) up to the partition's high watermark as of the call, oldest first.

        Not up to the last stable offset: a predecessor's transaction can be decided while its marker is still on its
        way to this partition. Raises `NotYetError` when the marker takes long. Any thread may call it.
        """
        ...

    def start(self, positions: Mapping[TopicPartition, int | None]) -> None:
        """Fetch from these positions on (None: from the first record there is). Leaves out what is no longer ours."""
        ...

    def partition_count(self, topic: str) -> int:
        """How many partitions the topic has. Raises `LookupError` when there is none. Any thread may call it."""
        ...

    def make_producer(self, number: int = 0) -> Producer:
        """A new producer with the process's transactional id of this number; `init` has not been called."""
        ...

    def close(self) -> None:
        """Leave. Nothing is committed by it."""
        ...


class BlobStore(Protocol):
    """Immutable objects under 32-byte names. Any exception counts as a failure of the store."""

    def put(self, sha256: bytes, content: bytes) -> None:
        """Store durably under this name; does nothing when it is there."""
        ...

    def get(self, sha256: bytes) -> bytes:
        """The content."""
        ...

    def has(self, sha256: bytes) -> bool:
        """Whether the name is there."""
        ...


class Clock(Protocol):
    """The time of day, for timers only; it may jump."""

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        ...


class Worker(Protocol):
    """Where steps are computed."""

    def run(self, work: Callable[[], _T], keep_alive: Callable[[], None]) -> _T:
        """The result of `work`; calls `keep_alive` now and then while it runs. Raises what `work` raises."""
        ...
