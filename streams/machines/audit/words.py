"""What a party says, signed: statements of its own lists, and answers to those of its peers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

from schemas.audit_statements import AuditContradicted, AuditCountersigned, AuditStatement
from schemas.audit_states import AuditedStream
from streams.kernels.cross_signing import AuditWord, signed_bytes, statement_digest
from streams.machines.audit.checks import Signer
from streams.machines.audit.comparison import Finding
from streams.machines.audit.lists import begin_of, count_of, entries_of, interval_at, name_of, root_at, start_of

_Word = TypeVar("_Word", AuditStatement, AuditCountersigned, AuditContradicted)


@dataclass(frozen=True)
class Speaker:
    """A party with its key, under the manifest in force."""

    party: str
    signer: Signer
    manifest: bytes

    def state(
        self, job_id: str, spec: bytes, stream: AuditedStream, count: int, *, is_over: bool
    ) -> AuditStatement | None:
        """What the party wrote down up to this cut; None where that was forgotten."""
        root = root_at(stream, count)
        if root is None:
            return None
        start = self._begin(stream, count)
        entries = entries_of(stream, start, count)
        is_final = is_over and count == count_of(stream)
        name, manifest = name_of(self.party, stream), self.manifest
        bare = AuditStatement(
            job_id, self.party, *name, manifest, spec, start, count, root, is_final, entries, signature=b""
        )
        return self._sign(bare)

    def _begin(self, stream: AuditedStream, count: int) -> int:
        """Where the entries begin that are told: those of the last interval that both have not signed yet."""
        start = start_of(count)
        interval = interval_at(stream, start)
        begin = start if interval is None else max(start, begin_of(interval))
        return begin if begin < count else start

    def countersign(self, statement: AuditStatement) -> AuditCountersigned:
        """The own list is the same."""
        name = (statement.sender, statement.receiver, statement.origin, statement.stage)
        digest = statement_digest(statement)
        bare = AuditCountersigned(
            statement.job_id, self.party, *name, self.manifest, statement.count, statement.root, digest, signature=b""
        )
        return self._sign(bare)

    def contradict(
        self, job_id: str, stream: AuditedStream, count: int, statement: bytes, found: Finding
    ) -> AuditContradicted:
        """The own list is another one. `statement` is the digest of what is contradicted, which speaks of `count`."""
        sequence, chunk_index = found.place
        return self._sign(
            AuditContradicted(
                job_id=job_id,
                party=self.party,
                **name_of(self.party, stream)._asdict(),
                manifest=self.manifest,
                count=count,
                statement=statement,
                kind=found.kind,
                sequence=sequence,
                chunk_index=chunk_index,
                own_count=count_of(stream),
                own_digest=b"" if found.own is None else bytes.fromhex(found.own.digest),
                peer_digest=b"" if found.peer is None else bytes.fromhex(found.peer.digest),
                signature=b"",
            )
        )

    def _sign(self, word: _Word) -> _Word:
        return replace(word, signature=self.signer.sign(signed_bytes(word)))


__all__ = ["AuditWord", "Speaker"]
