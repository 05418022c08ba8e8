"""What crossed between two parties, as each wrote it down: the digests of all sealed records; and how it came about."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.record import Record
from schemas.tasks import LocalFault


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
    #: Of what was sent: the wrapped key that it carries, if it begins an epoch. It cannot be made again.
    wrapped_key: bytes = b""


@dataclass(frozen=True)
class TakenRecord(Record):
    """An input of a step: which one of those with the job's id on the topic it was.

    Not its offset, which depends on what was written in vain before it.
    """

    topic: str
    #: As in `SealedRecord`; of a plain record empty and -1.
    sender: str
    origin: str
    sequence: int
    chunk_index: int
    #: SHA-256 of a plain record's bytes.
    digest: bytes = b""


@dataclass(frozen=True)
class EnvelopesCrossed(Record):
    """What one step of `party` took from a peer and sent to peers, in this order; and what the step was about.

    Written in the transaction that commits the step, so that the list is as complete as what it tells of. `manifest` is
    the digest of the federation's manifest in force at `party`. A step that lets very much cross has several of these;
    the first says what it was about: the input that was taken, or the timers that were due. With that an auditor can
    execute all steps of a job again.
    """

    job_id: str
    party: str
    stage: str
    manifest: bytes
    crossed: tuple[CrossedEnvelope, ...]
    #: None when no input was taken.
    taken: TakenRecord | None = None
    #: The timers that were due, earliest first: their records were written to the stage's own command topic.
    due: tuple[str, ...] = ()
    #: What failed at this party, so that the machine was told this and not the record.
    fault: LocalFault | None = None
