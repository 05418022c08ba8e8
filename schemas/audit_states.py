"""What a party's auditor remembers of a job. Private to a party, and rests sealed only."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.audit_statements import AuditStatement
from schemas.record import Record


@dataclass(frozen=True)
class AuditInterval(Record):
    """Entries `start` to `end` of a stream, and of them in `entries` the last ones: those that are still needed.

    `frontier` is that of all before these, 32 bytes a hash. Where there were too many to keep there is `root` instead,
    that of the first `end` entries.
    """

    start: int
    end: int
    frontier: bytes
    entries: bytes
    root: bytes = b""


@dataclass(frozen=True)
class AuditedStream(Record):
    """One stream between this party and `peer`. Counts are of entries from the first one on."""

    peer: str
    is_sent: bool
    origin: str
    stage: str
    #: Not signed by both yet, in order; the last one is being filled.
    intervals: tuple[AuditInterval, ...]
    #: What this party said, its newest statement's digest, and whether that was final.
    said: int = 0
    said_statement: bytes = b""
    is_said_final: bool = False
    #: How far the peer has counter-signed that.
    confirmed: int = 0
    #: What the peer said, its newest statement's digest, and whether that was final.
    heard: int = 0
    heard_statement: bytes = b""
    is_heard_final: bool = False
    #: How far this party agreed, with which root, and the digest of the statement that it counter-signed.
    agreed: int = 0
    agreed_root: bytes = b""
    agreed_statement: bytes = b""
    #: Statements of the peer that wait to be compared.
    waiting: tuple[AuditStatement, ...] = ()
    #: This party contradicted the peer: nothing of the stream can agree any more.
    is_contradicted: bool = False
    #: The statement's count for which the peer was told that one of the lists is too short.
    short_at: int = 0
    #: How often the peer contradicted this party.
    disputes: int = 0


@dataclass(frozen=True)
class AuditedJob(Record):
    """All streams of a job. `spec` is the digest of what was accepted, `is_over` that the job ended at this party."""

    job_id: str
    spec: bytes = b""
    is_over: bool = False
    #: A timer to speak is set.
    is_due: bool = False
    #: How often statements without an answer were repeated.
    repeats: int = 0
    streams: tuple[AuditedStream, ...] = ()
