"""What an at-least-once process is made of, as the relay loop sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from streams.engine.ports import InputRecord, OutputRecord


@dataclass(frozen=True, slots=True)
class StampedRecord(InputRecord):
    """A record and its time in the log, in milliseconds since 1970."""

    timestamp_ms: int = 0


@dataclass(frozen=True, slots=True)
class Later:
    """Work that may take long, for the thread of this name: it must not hold up what comes after it.

    Works of one lane are done one after the other.
    """

    lane: str
    work: Callable[[], Sequence[OutputRecord]]


class RelayHandler(Protocol):
    """What the process does with its records. One thread calls it, but for the works that it leaves for later."""

    def open(self, record: StampedRecord) -> Any:
        """What is in the record. Raises `UndeliverableError`: the record becomes a dead letter."""
        ...

    def handle(self, items: Sequence[Any]) -> Iterator[Sequence[OutputRecord] | Later]:
        """What follows from opened records, in steps; each is on its way before the next is computed.

        It may be called again with the same items, after a crash or an exception: what it does must bear that.
        """
        ...


@dataclass(frozen=True)
class RelayPlaces:
    """Where a relay reads and writes."""

    party: str
    #: The process's name in dead letters and logs.
    process: str
    bootstrap_servers: str
    input: str
    dead_letter: str
    group_id: str
    #: The member's `group.instance.id`: no two processes may have the same at one time.
    instance_id: str
    #: Outputs that nobody waits for: the broker gets what comes in so long at once, at a fraction of the work.
    patient: frozenset[str] = frozenset()
    patience_ms: int = 0
    #: librdkafka's properties for every client, such as TLS settings.
    properties: Mapping[str, Any] = field(default_factory=dict)
