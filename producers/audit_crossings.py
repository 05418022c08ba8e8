"""What both parties signed of a job's streams, as a party's auditor put it on its own topic."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from infra.settings import PartySettings
from infra.topics import audit_results_topic
from producers.audit_trail import describe_difference
from producers.job_client import JobError
from producers.topic_reader import TopicReader, connection_of
from schemas.audit_statements import (
    INTERVAL,
    AuditContradicted,
    AuditCountersigned,
    AuditStatement,
    DifferenceKind,
)
from streams.kernels.cross_signing import AuditWord, statement_digest, stream_name
from streams.kernels.trails import Difference, Entry, StreamName

#: Later statements can still agree after these.
_SOFT = (DifferenceKind.NOT_TAKEN, DifferenceKind.NOT_SENT)


@dataclass(frozen=True)
class StreamStatus:
    """How far a stream with `peer` is signed, in records from the first one on. `contradictions` stand to this day."""

    stream: StreamName
    peer: str
    signed: int
    countersigned_by_peer: int
    countersigned_by_us: int
    contradictions: tuple[str, ...]


def read_words(settings: PartySettings, job_id: str) -> tuple[AuditWord, ...]:
    """All that the party's auditor said and heard of a job. Raises `BrokerUnavailableError`, `JobError`."""
    reader = TopicReader(connection_of(settings), audit_results_topic(settings.party))
    try:
        found = [entry.record for entry in reader.read_to_end() if entry.key == job_id]
    finally:
        reader.close()
    words = tuple(each for each in found if isinstance(each, AuditStatement | AuditCountersigned | AuditContradicted))
    if not words:
        raise JobError(
            f"the auditor of {settings.party} has signed nothing of a job {job_id} yet: it signs every {INTERVAL} "
            "records of a stream, and at the job's end. Is the id right, and does it run (`isthmus party run`)?"
        )
    return words


def fold_words(own: str, words: Iterable[AuditWord]) -> tuple[StreamStatus, ...]:
    """One status a stream, in order."""
    streams: dict[StreamName, list[AuditWord]] = {}
    for word in words:
        streams.setdefault(stream_name(word), []).append(word)
    return tuple(_status(own, name, streams[name]) for name in sorted(streams))


def _status(own: str, name: StreamName, words: Sequence[AuditWord]) -> StreamStatus:
    peer = name.receiver if name.sender == own else name.sender
    signed = max((word.count for word in words if isinstance(word, AuditStatement) and word.party == own), default=0)
    standing = standing_contradictions(words)
    return StreamStatus(
        name,
        peer,
        signed,
        _countersigned(words, peer),
        _countersigned(words, own),
        tuple(dict.fromkeys(f"{word.party}: {describe_contradiction(word)}" for word in standing)),
    )


def standing_contradictions(words: Sequence[AuditWord]) -> list[AuditContradicted]:
    """Those of one stream that nothing said later has settled: of two lists, one was merely not complete yet."""
    return [
        word
        for word in words
        if isinstance(word, AuditContradicted)
        and not (word.kind in _SOFT and _countersigned(words, word.party) >= max(word.count, word.own_count))
    ]


def _countersigned(words: Sequence[AuditWord], party: str) -> int:
    counts = (word.count for word in words if isinstance(word, AuditCountersigned) and word.party == party)
    return max(counts, default=0)


def describe_contradiction(word: AuditContradicted) -> str:
    """What it says, for people; in the words of `isthmus audit reconcile` where both records are known."""
    name = stream_name(word)
    if word.kind is DifferenceKind.OTHER_SPEC:
        return "the parties approved different specs under this job's id"
    own, peer = (_entry(word, digest) for digest in (word.own_digest, word.peer_digest))
    if word.kind is DifferenceKind.EARLIER or (own is None and peer is None):
        where = f"record {own.place} on" if own is not None else "some earlier record on"
        return f"the lists differ from {where}, before what the statement tells"
    sent, taken = (own, peer) if word.party == name.sender else (peer, own)
    return describe_difference(name, Difference(word.kind, sent, taken), abs(word.own_count - word.count))


def _entry(word: AuditContradicted, digest: bytes) -> Entry | None:
    return Entry(word.sequence, word.chunk_index, digest.hex()) if digest else None


def choose_words(words: Sequence[AuditWord]) -> tuple[AuditWord, ...]:
    """What others have to see: of each stream the newest counter-signed statement of either side, and contradictions.

    A root is of all records from the first on: the newest statement says what all before it said.
    """
    statements = {statement_digest(word): word for word in words if isinstance(word, AuditStatement)}
    streams: dict[StreamName, list[AuditWord]] = {}
    for word in words:
        streams.setdefault(stream_name(word), []).append(word)
    chosen: list[AuditWord] = []
    for name in sorted(streams):
        answers: list[AuditCountersigned | AuditContradicted] = list(standing_contradictions(streams[name]))
        for party in (name.sender, name.receiver):
            own = [w for w in streams[name] if isinstance(w, AuditCountersigned) and w.party == party]
            answers += sorted((w for w in own if w.statement in statements), key=lambda word: word.count)[-1:]
        for answer in answers:
            if answer.statement in statements and statements[answer.statement] not in chosen:
                chosen.append(statements[answer.statement])
            chosen.append(answer)
    return tuple(chosen)
