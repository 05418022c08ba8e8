"""What crossed between two parties, as each wrote it down: the digests of all sealed records, in their order."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.record import Record


@dataclass(frozen=True)
class CrossedEnvelope(Record):
    """One sealed record that left for `peer`, or that came from it and was taken.

    Sender and receiver write down the same but for `peer` and `is_sent`: sequence and chunk as in `SealedRecord`.
    """

    peer: str
    #: The stage whose process sealed it, and the stage that it was sealed for.
    origin: str
    stage: str
    is_sent: bool
    sequence: int
    chunk_index: int
    #: SHA-256 of the envelope's bytes, as they lie on the topic.
    digest: bytes


@dataclass(frozen=True)
class EnvelopesCrossed(Record):
    """What one step of `party` took from a peer and sent to peers, in this order.

    Written in the transaction that commits the step, so that the list is as complete as what it tells of. `manifest` is
    the digest of the federation's manifest in force at `party`.
    """

    job_id: str
    party: str
    stage: str
    manifest: bytes
    crossed: tuple[CrossedEnvelope, ...]
