"""From what a machine wants to send to records of the log: addressed, numbered, sealed, cut in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

from schemas.audit import EnvelopesCrossed, TakenRecord
from schemas.codec import encode
from schemas.conversion import blob_walker
from schemas.record import Record
from streams.engine.chunks import CHUNK_BYTES, seal_chunks
from streams.engine.epochs import EPOCH_RECORDS, Sending, key_for_sending
from streams.engine.jobs import Job, Peer
from streams.engine.partitioner import partition_of
from streams.engine.ports import OutputRecord
from streams.engine.seal import NO_EPOCH, Keyring, SealError, Stream
from streams.engine.timers import cancel_timer, set_timer
from streams.engine.topics import StageTopics
from streams.machine import CancelTimer, Output, SetTimer, ToEvents, ToPeer, ToRegistry, ToResults, ToStage

#: Envelopes that one record of the audit tells of: some 100 bytes each.
MOST_CROSSED = 1_000


class UnreachableError(Exception):
    """There is no way to a party or stage: no key, or no topic. The text says what is missing."""


class OutputError(Exception):
    """A machine wants to send what must not or cannot be sent: a bug in it."""


class Place(NamedTuple):
    """Where a sealed record goes: the topic, and under which key the receiver's stage keeps it."""

    topic: str
    receiver: str
    stage: str
    key: str


class Outbox:
    """Makes the output records of one stage at one party."""

    def __init__(
        self,
        topics: StageTopics,
        keyring: Keyring,
        partition_count: Callable[[str], int],
        now_ms: Callable[[], int],
        chunk_bytes: int = CHUNK_BYTES,
        epoch_records: int = EPOCH_RECORDS,
    ) -> None:
        self._topics = topics
        self._keyring = keyring
        self._partition_count = partition_count
        self._now_ms = now_ms
        self._chunk_bytes = chunk_bytes
        # Where no order is kept the receiver may never have seen an earlier record: each brings its own key.
        self._epoch_records = epoch_records if topics.is_ordered else 1

    def send(
        self, job: Job, outputs: Iterable[Output], *, skip_unreachable: bool = False
    ) -> tuple[Job, list[OutputRecord]]:
        """The job after sending, and the records, in order.

        Raises `OutputError`, `EncodeError`, and `UnreachableError` unless what is unreachable shall be left out, as
        always where records stand for themselves: they are said again.
        """
        records: list[OutputRecord] = []
        for output in outputs:
            try:
                job = self._send_one(job, output, records)
            except UnreachableError:
                if not skip_unreachable and self._topics.is_ordered:
                    raise
        return job, records

    def _send_one(self, job: Job, output: Output, records: list[OutputRecord]) -> Job:
        match output:
            case ToPeer(party, record):
                if party == self._topics.party:
                    raise OutputError(f"a {type(record).__name__} to the own party as a peer; use ToStage")
                _check_shareable(record)
                place = Place(self._topics.exchange_of(party), party, self._topics.stage, job.job_id)
                return self._seal(job, place, record, records)
            case ToStage(stage, record, key):
                place = Place(self._topics.commands_of(stage), self._topics.party, stage, key or job.job_id)
                return self._seal(job, place, record, records)
            case ToEvents(record):
                records.append(self._plain(self._topics.events, job.job_id, record))
            case ToRegistry(key, record):
                records.append(self._plain(self._topics.registry, key, record))
            case ToResults(record):
                records.append(self._plain(self._topics.results, job.job_id, record))
            case SetTimer(name, delay_ms):
                return set_timer(job, name, self._now_ms() + delay_ms)
            case CancelTimer(name):
                return cancel_timer(job, name)
        return job

    def _seal(self, job: Job, place: Place, record: Record, records: list[OutputRecord]) -> Job:
        topic, receiver, stage, to_key = place
        peer, origin = Peer(receiver, stage), self._topics.stage
        if to_key != job.job_id:
            # Many keys may have streams from stage to stage: either side knows the other by stage and key.
            peer, origin = Peer(receiver, name_end(stage, to_key)), name_end(origin, job.job_id)
        sequence = job.sent.get(peer, 0)
        stream = Stream(self._topics.party, receiver, to_key, origin, stage)
        key = to_key.encode()
        try:
            partition = partition_of(key, self._partition_count(topic))
            epoch, wrapped_key = NO_EPOCH, b""
            if receiver != self._topics.party:
                before = job.sending.get(peer, Sending())
                sending, epoch, wrapped_key = key_for_sending(
                    self._keyring, stream, sequence, before, self._epoch_records
                )
                job = job.with_sending(peer, sending)
            envelopes = seal_chunks(
                self._keyring, stream, sequence, encode(record), self._chunk_bytes, epoch=epoch, wrapped_key=wrapped_key
            )
        except (SealError, LookupError) as error:
            raise UnreachableError(str(error.args[0])) from error
        for envelope in envelopes:
            value = encode(envelope)
            records.append(OutputRecord(topic, partition, key, value))
            if receiver != self._topics.party:
                job = job.with_sent_envelope(envelope, value)
        return job.with_sent(peer, sequence + 1)

    def audit(
        self, job: Job, taken: TakenRecord | None = None, due: tuple[str, ...] = ()
    ) -> tuple[Job, list[OutputRecord]]:
        """The job without, and the records with what it sent to peers and took from them in a step, and what that was.

        `taken` is the step's input, `due` names the timers that were. Nothing is written down by stages that
        never speak to peers about jobs.
        """
        topics, crossed = self._topics, job.crossed
        after = replace(job, crossed=(), fault=None) if crossed or job.fault is not None else job
        if topics.follows_audit or not topics.exchange:
            return after, []
        manifest = self._keyring.current_manifest
        told = [
            EnvelopesCrossed(job.job_id, topics.party, topics.stage, manifest, crossed[start : start + MOST_CROSSED])
            for start in range(0, len(crossed) or 1, MOST_CROSSED)
        ]
        told[0] = replace(told[0], taken=taken, due=due, fault=job.fault)
        return after, [self._plain(topics.audit, job.job_id, each) for each in told]

    def _plain(self, topic: str, key: str, record: Record) -> OutputRecord:
        value = encode(record)
        if len(value) > CHUNK_BYTES:
            raise OutputError(f"a {type(record).__name__} of {len(value):,} bytes; plain records have {CHUNK_BYTES:,}")
        return OutputRecord(topic, partition_of(key.encode(), self._partition_count(topic)), key.encode(), value)


def name_end(stage: str, key: str) -> str:
    """How the end of a stream is known to the other end, when that is kept under another key."""
    return f"{stage}:{key}"


def _check_shareable(record: Record) -> None:
    walk = blob_walker(type(record))
    if walk is not None and any(True for _ in walk(record)):
        raise OutputError(f"a {type(record).__name__} to a peer refers to a blob: parties do not share stores")
