"""What a peer's word must fulfil before it is compared. Each text names the peer, and nothing that it may choose."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from schemas.audit_statements import ENTRY_BYTES, INTERVAL, AuditContradicted, AuditStatement
from schemas.jobs import Stage
from streams.kernels.cross_signing import AuditWord, signed_bytes
from streams.kernels.trails import HASH_BYTES
from streams.machine import RefusedError
from streams.machines.audit.lists import start_of

#: No list is longer; it leaves room to count on in an Avro long.
MOST_ENTRIES = 2**62
SIGNATURE_BYTES = 64
_STAGES = frozenset(Stage)


class Signer(Protocol):
    """The party's signing key, and the peers' by the manifests in force."""

    def sign(self, message: bytes) -> bytes:
        """Ed25519; equal messages give equal signatures."""
        ...

    def has_signed(self, peer: str, message: bytes, signature: bytes) -> bool:
        """Whether it is the peer's."""
        ...


def check_word(own: str, peer: str, word: AuditWord, signer: Signer, manifests: Collection[bytes]) -> None:
    """Raises `RefusedError`."""
    if word.party != peer:
        raise RefusedError(f"{peer} sent a word that is not its own")
    if {word.sender, word.receiver} != {own, peer}:
        raise RefusedError(f"{peer} speaks of a stream in which {own} and {peer} are not the two ends")
    if word.origin not in _STAGES or word.stage != word.origin:
        raise RefusedError(f"{peer} speaks of a stream between stages that do not speak to each other")
    if word.manifest not in manifests:
        raise RefusedError(
            f"{peer} signed under the manifest {word.manifest[:8].hex() or '(none)'}, and {own} knows "
            f"{', '.join(sorted(each[:8].hex() for each in manifests))}: compare `isthmus federation show`"
        )
    if not 0 < word.count < MOST_ENTRIES:
        raise RefusedError(f"{peer} speaks of a count of records that cannot be")
    if problem := _find_flaw(word):
        raise RefusedError(f"{peer} sent what is no {type(word).__name__}: {problem}")
    if not signer.has_signed(peer, signed_bytes(word), word.signature):
        raise RefusedError(f"the signature under a word of {peer} is not {peer}'s")


def _find_flaw(word: AuditWord) -> str:
    """A field that is longer than such fields are, or does not fit the others."""
    if len(word.signature) != SIGNATURE_BYTES:
        return "its signature has another length"
    if isinstance(word, AuditContradicted):
        digests = (word.statement, word.own_digest, word.peer_digest)
        if not all(len(each) in (0, HASH_BYTES) for each in digests):
            return "its digests have another length"
        numbers = (word.sequence, word.chunk_index, word.own_count)
        return "" if all(0 <= each < MOST_ENTRIES for each in numbers) else "its numbers cannot be"
    if len(word.root) != HASH_BYTES:
        return "its root has another length"
    if not isinstance(word, AuditStatement):
        return "" if len(word.statement) == HASH_BYTES else "the digest of the statement has another length"
    if len(word.spec) not in (0, HASH_BYTES):
        return "the digest of the spec has another length"
    if not start_of(word.count) <= word.start < word.count:
        return f"it is not about one interval of {INTERVAL} records"
    if len(word.entries) not in (0, (word.count - word.start) * ENTRY_BYTES):
        return "its entries are not as many as it says"
    return ""
