"""What the engine has in memory for one job. Immutable: a step makes a new one, and only a commit makes it count."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from schemas.audit import CrossedEnvelope
from schemas.envelope import SealedRecord
from schemas.record import Blob, Record
from schemas.tasks import LocalFault
from streams.engine.chunks import Arrival
from streams.engine.epochs import Sending
from streams.engine.seal import EpochKey
from streams.machine import Traffic


class Peer(NamedTuple):
    """The other end of a stream: a party (often the own one) and its stage."""

    party: str
    stage: str


@dataclass(frozen=True)
class Progress:
    """How far an incoming stream has been read: the record that is next, and what is here of it."""

    next_sequence: int = 0
    arrival: Arrival = Arrival()

    @property
    def expected(self) -> tuple[int, int]:
        """(sequence, chunk index) of the next envelope."""
        return self.next_sequence, len(self.arrival.pieces)


@dataclass(frozen=True)
class Timer:
    """A timer that is set. `is_sent`: its `TimerFired` is in the log."""

    due_at_ms: int
    generation: int
    is_sent: bool = False


@dataclass(frozen=True)
class Job:
    """`machine` is the encoding of the machine's state, empty before the first step; `state` the same, decoded."""

    job_id: str
    machine: bytes = b""
    #: Set when the encoding is too large for a state record; `machine` may then be unloaded (empty).
    machine_blob: Blob | None = None
    state: Record | None = field(default=None, compare=False)
    received: Mapping[Peer, Progress] = field(default_factory=dict)
    sent: Mapping[Peer, int] = field(default_factory=dict)
    #: Of streams between parties: the epoch in use at the other end, and the one that this end sends in.
    receiving: Mapping[Peer, EpochKey] = field(default_factory=dict)
    sending: Mapping[Peer, Sending] = field(default_factory=dict)
    timers: Mapping[str, Timer] = field(default_factory=dict)
    next_generation: int = 1
    traffic: Traffic = Traffic()
    #: What crossed since the last transaction began; it is written there, not kept.
    crossed: tuple[CrossedEnvelope, ...] = field(default=(), compare=False)
    #: What the machine was told in this step because something failed here; likewise written there, not kept.
    fault: LocalFault | None = field(default=None, compare=False)

    def with_progress(self, peer: Peer, progress: Progress) -> Job:
        """The incoming stream has come so far."""
        return replace(self, received={**self.received, peer: progress})

    def with_sent(self, peer: Peer, next_sequence: int) -> Job:
        """The outgoing stream has come so far."""
        return replace(self, sent={**self.sent, peer: next_sequence})

    def with_receiving(self, peer: Peer, epoch: EpochKey) -> Job:
        """The incoming stream is in this epoch; the key of the one before is forgotten."""
        if self.receiving.get(peer) == epoch:
            return self
        return replace(self, receiving={**self.receiving, peer: epoch})

    def without_keys(self) -> Job:
        """What peers sealed until now can be opened no more."""
        if not any(epoch.key for epoch in self.receiving.values()):
            return self
        return replace(self, receiving={peer: EpochKey(epoch.number) for peer, epoch in self.receiving.items()})

    def with_sending(self, peer: Peer, epoch: Sending) -> Job:
        """The outgoing stream is in this epoch."""
        return replace(self, sending={**self.sending, peer: epoch})

    def with_received_envelope(self, envelope: SealedRecord, value: bytes) -> Job:
        """An envelope, `value` on the topic, came through the door."""
        t = self.traffic
        counted = replace(t, bytes_received=t.bytes_received + len(value), records_received=t.records_received + 1)
        crossed = _crossed(envelope, envelope.sender, value, is_sent=False)
        return replace(self, traffic=counted, crossed=(*self.crossed, crossed))

    def with_sent_envelope(self, envelope: SealedRecord, value: bytes) -> Job:
        """An envelope, `value` on the topic, leaves through the door."""
        t = self.traffic
        counted = replace(t, bytes_sent=t.bytes_sent + len(value), records_sent=t.records_sent + 1)
        crossed = _crossed(envelope, envelope.receiver, value, is_sent=True)
        return replace(self, traffic=counted, crossed=(*self.crossed, crossed))


def _crossed(envelope: SealedRecord, peer: str, value: bytes, *, is_sent: bool) -> CrossedEnvelope:
    return CrossedEnvelope(
        peer=peer,
        origin=envelope.origin,
        stage=envelope.stage,
        is_sent=is_sent,
        sequence=envelope.sequence,
        chunk_index=envelope.chunk_index,
        digest=hashlib.sha256(value).digest(),
        wrapped_key=envelope.wrapped_key if is_sent else b"",
    )
