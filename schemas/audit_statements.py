"""What two parties' auditors say to each other of what crossed in a job, and how it is kept: signed.

A stream is all that one stage of one party sent to one stage of another about the job. Everything here is about its
first `count` entries, in their order. A cut is such a count: every `INTERVAL` entries, and where a stream ends with its
job. `root` is the Merkle root (RFC 6962) of these entries. Signatures are Ed25519, over everything but themselves
(`streams.kernels.cross_signing`).

Between parties sealed, topic vfl.audit.exchange.<party>; at each of the two in plain Avro, topic
vfl.audit.results.<party>, key job id.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from schemas.record import Record

#: Stands in topic names where jobs have a stage.
AUDIT = "audit"
#: Entries between two cuts: both ends cut at its multiples.
INTERVAL = 128
#: An entry as its stream's tree has it: sequence (8 bytes), chunk (4), SHA-256 of the envelope (32).
ENTRY_BYTES = 44


class DifferenceKind(StrEnum):
    """How two lists of one stream differ first."""

    #: The receiver's list ends before the sender's.
    NOT_TAKEN = "not_taken"
    #: The receiver's list goes on where the sender's ends.
    NOT_SENT = "not_sent"
    #: The receiver lacks a record, and has later ones.
    SKIPPED = "skipped"
    #: The receiver has a record that the sender lacks, among others that both have.
    INSERTED = "inserted"
    #: Different bytes under one number.
    ALTERED = "altered"
    #: Somewhere before the entries that the statement tells.
    EARLIER = "earlier"
    #: The parties approved different specs under one job id.
    OTHER_SPEC = "other_spec"


@dataclass(frozen=True)
class AuditStatement(Record):
    """What `party` wrote down of a stream up to a cut.

    `entries` are those from `start` on, in the interval that the cut ends, `ENTRY_BYTES` each; or none where the party
    does not have them at hand.
    `manifest` is the digest of the one in force at the party; `spec` that of the spec it accepted, empty when its
    auditor did not hear of it. `is_final`: the job is over at the party, and this is all there is so far.
    """

    job_id: str
    party: str
    sender: str
    receiver: str
    origin: str
    stage: str
    manifest: bytes
    spec: bytes
    start: int
    count: int
    root: bytes
    is_final: bool
    entries: bytes
    signature: bytes


@dataclass(frozen=True)
class AuditCountersigned(Record):
    """`party` wrote down the same as the statement with this digest says."""

    job_id: str
    party: str
    sender: str
    receiver: str
    origin: str
    stage: str
    manifest: bytes
    count: int
    root: bytes
    #: SHA-256 of what the statement's signature is over.
    statement: bytes
    signature: bytes


@dataclass(frozen=True)
class AuditContradicted(Record):
    """`party` wrote down something else than the statement with this digest says; the first record that differs.

    `own_digest` and `peer_digest` are that record's in the list of `party` and of who made the statement; empty: none.
    """

    job_id: str
    party: str
    sender: str
    receiver: str
    origin: str
    stage: str
    manifest: bytes
    count: int
    statement: bytes
    kind: DifferenceKind
    sequence: int
    chunk_index: int
    own_count: int
    own_digest: bytes
    peer_digest: bytes
    signature: bytes
