"""What the signatures of auditors are over. Whoever has a manifest and the record can check them, without a broker."""

from __future__ import annotations

import hashlib

from schemas.audit_statements import AuditContradicted, AuditCountersigned, AuditStatement
from streams.kernels.fields import digest_fields
from streams.kernels.trails import StreamName

_STATEMENT = b"isthmus/audit-statement/1"
_COUNTERSIGNED = b"isthmus/audit-countersigned/1"
_CONTRADICTED = b"isthmus/audit-contradicted/1"

#: What auditors sign.
AuditWord = AuditStatement | AuditCountersigned | AuditContradicted


def stream_name(word: AuditWord) -> StreamName:
    """Which stream it is about."""
    return StreamName(word.sender, word.receiver, word.origin, word.stage)


def signed_bytes(word: AuditWord) -> bytes:
    """What the signature is of: all other fields, under a domain of their own; entries count by their digest."""
    place = (word.job_id, word.party, *stream_name(word), word.manifest)
    match word:
        case AuditStatement():
            entries = hashlib.sha256(word.entries).digest()
            rest = (word.spec, word.start, word.count, word.root, int(word.is_final), entries)
            return digest_fields(_STATEMENT, *place, *rest)
        case AuditCountersigned():
            return digest_fields(_COUNTERSIGNED, *place, word.count, word.root, word.statement)
    record = (word.kind.value, word.sequence, word.chunk_index, word.own_count, word.own_digest, word.peer_digest)
    return digest_fields(_CONTRADICTED, *place, word.count, word.statement, *record)


def statement_digest(statement: AuditStatement) -> bytes:
    """By which the answers name it."""
    return hashlib.sha256(signed_bytes(statement)).digest()
