"""The state topic of a stage: what is written to it in each transaction, and a slice read back from it.

For input partition p, on partition p of the state topic, each value a `SealedState`:

    job/<job id>                                             EngineJob
    chunk/<sequence>/<index>/<party>/<stage>/<job id>        EngineChunk, deleted when the record is complete
    position/<input topic>                                   EngineCheckpoint
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from schemas.codec import DecodeError, decode, encode
from schemas.conversion import blob_walker
from schemas.engine_states import EngineCheckpoint, EngineChunk, EngineJob, EngineStream, EngineTimer
from schemas.record import Blob, Record
from streams.engine.blobs import SealedBlobs
from streams.engine.chunks import Arrival
from streams.engine.epochs import Sending
from streams.engine.errors import TornTransactionError, UnreadableStateError
from streams.engine.jobs import Job, Peer, Progress, Timer
from streams.engine.ports import OutputRecord, TopicPartition
from streams.engine.seal import NO_EPOCH, EpochKey, Keyring, SealError
from streams.engine.slices import Draft, Slice
from streams.machine import Traffic

#: The largest machine state that is kept in the log itself. With the job's own fields it stays below Kafka's limit.
INLINE_BYTES = 900_000


class StateLog:
    """Writes and reads one stage's state topic."""

    def __init__(self, topic: str, keyring: Keyring) -> None:
        self.topic = topic
        self._keyring = keyring

    # --- writing ---

    def changes(self, draft: Draft) -> Iterator[OutputRecord]:
        """The records that turn the slice's state in the log into the draft's."""
        partition = draft.base.partition
        for job in draft.jobs.values():
            old = draft.base.jobs.get(job.job_id, Job(job.job_id))
            if old.received is not job.received:
                yield from self._chunk_changes(partition, old, job)
            if job != old:
                yield self._write(partition, job_key(job.job_id), _to_record(job))
        for place, position in draft.positions.items():
            yield self._write(partition, position_key(place.topic), EngineCheckpoint(place.topic, position))

    def _chunk_changes(self, partition: int, old: Job, new: Job) -> Iterator[OutputRecord]:
        for peer, progress in new.received.items():
            before = old.received.get(peer, Progress())
            kept = len(before.arrival.pieces)
            if before.next_sequence != progress.next_sequence:
                for index in range(kept):
                    key = chunk_key(new.job_id, peer, before.next_sequence, index)
                    yield OutputRecord(self.topic, partition, key, None)
                kept = 0
            for index, piece in enumerate(progress.arrival.pieces[kept:], start=kept):
                key = chunk_key(new.job_id, peer, progress.next_sequence, index)
                chunk = EngineChunk(new.job_id, peer.party, peer.stage, progress.next_sequence, index, piece)
                yield self._write(partition, key, chunk)

    def _write(self, partition: int, key: bytes, record: Record) -> OutputRecord:
        sealed = self._keyring.seal_state(self.topic, partition, key, encode(record))
        return OutputRecord(self.topic, partition, key, sealed)

    # --- reading ---

    def restore(
        self,
        partition: int,
        entries: Iterable[tuple[bytes, bytes | None]],
        committed: Mapping[TopicPartition, int | None],
    ) -> Slice:
        """The slice that the log's records, oldest first, leave. `committed` is what the group's positions are.

        Raises `UnreadableStateError`, and `TornTransactionError` when the two are not of the same transaction:
        librdkafka does not implement KIP-890 (its issue 5423), and a late request of an aborted transaction has been
        seen to join a later one.
        """
        latest = dict(entries)
        stale: dict[bytes, bytes] = {}
        jobs: dict[str, EngineJob] = {}
        chunks: dict[bytes, bytes] = {}
        checkpoints: dict[str, int] = {}
        for key, value in latest.items():
            if value is None:
                continue
            match self._read(partition, key, value, stale):
                case EngineJob() as job:
                    jobs[job.job_id] = job
                case EngineChunk() as chunk:
                    chunks[key] = chunk.content
                case EngineCheckpoint() as checkpoint:
                    checkpoints[checkpoint.topic] = checkpoint.next_position
                case other:
                    raise UnreadableStateError(f"{self._where(partition, key)} holds a {type(other).__name__}")
        for place, position in committed.items():
            if checkpoints.get(place.topic) != position:
                raise TornTransactionError(self._tear(place, position, checkpoints.get(place.topic)))
        found = Slice(partition, committed, (self._to_job(partition, job, chunks) for job in jobs.values()))
        found.stale = stale
        return found

    def reseal(self, base: Slice, blobs: SealedBlobs) -> Draft:
        """What brings all that is stale under the newest generation of the storage key; blobs are stored at once.

        Nothing of the state changes: the draft is for a transaction of its own. Raises `StorageError`.
        """
        draft = Draft(base)
        draft.is_resealing = True
        for key, plaintext in base.stale.items():
            record = decode(plaintext, blobs.load)
            if isinstance(record, EngineJob):
                blobs.put_all(_all_blobs(record, blobs))
            sealed = self._keyring.seal_state(self.topic, base.partition, key, plaintext)
            draft.outputs.append(OutputRecord(self.topic, base.partition, key, sealed))
        return draft

    def _read(self, partition: int, key: bytes, value: bytes, stale: dict[bytes, bytes]) -> Record:
        try:
            plaintext, is_newest = self._keyring.unseal_state(self.topic, partition, key, value)
            if not is_newest:
                stale[key] = plaintext
            return decode(plaintext)
        except (SealError, DecodeError) as error:
            raise UnreadableStateError(f"{self._where(partition, key)}: {error}") from error

    def _to_job(self, partition: int, record: EngineJob, chunks: Mapping[bytes, bytes]) -> Job:
        received: dict[Peer, Progress] = {}
        for stream in record.received:
            peer = Peer(stream.party, stream.stage)
            keys = [chunk_key(record.job_id, peer, stream.next_sequence, index) for index in range(stream.next_chunk)]
            try:
                pieces = tuple(chunks[key] for key in keys)
            except KeyError as error:
                raise UnreadableStateError(f"{self._where(partition, error.args[0])} is missing") from error
            received[peer] = Progress(stream.next_sequence, Arrival(pieces))
        return Job(
            job_id=record.job_id,
            machine=record.machine,
            machine_blob=record.machine_blob,
            received=received,
            sent={Peer(stream.party, stream.stage): stream.next_sequence for stream in record.sent},
            receiving={
                Peer(stream.party, stream.stage): EpochKey(stream.epoch, stream.epoch_key)
                for stream in record.received
                if stream.epoch
            },
            sending={
                Peer(stream.party, stream.stage): Sending(stream.epoch, stream.epoch_manifest, stream.epoch_first)
                for stream in record.sent
                if stream.epoch
            },
            timers={timer.name: Timer(timer.due_at_ms, timer.generation, timer.is_sent) for timer in record.timers},
            next_generation=record.next_generation,
            traffic=Traffic(record.bytes_sent, record.bytes_received, record.records_sent, record.records_received),
        )

    def _where(self, partition: int, key: bytes) -> str:
        return f"{self.topic}[{partition}], key {key.decode(errors='replace')!r}"

    def _tear(self, place: TopicPartition, committed: int | None, checkpoint: int | None) -> str:
        return (
            f"{place.topic}[{place.partition}]: the group's committed offset is {committed}, but the state in"
            f" {self.topic}[{place.partition}] includes the input up to {checkpoint}. They are written in one"
            " transaction and must be equal. If offsets were reset or expired, set them to the state's value with"
            " kafka-consumer-groups --reset-offsets --to-offset; if not, a transaction was torn, and what was sent"
            " cannot be trusted: keep all topics for an investigation and end the open jobs"
        )


def job_key(job_id: str) -> bytes:
    """The key of a job's record."""
    return f"job/{job_id}".encode()


def chunk_key(job_id: str, peer: Peer, sequence: int, index: int) -> bytes:
    """The key of a chunk. The job id comes last: it is the one part that may contain a slash."""
    return f"chunk/{sequence}/{index}/{peer.party}/{peer.stage}/{job_id}".encode()


def position_key(topic: str) -> bytes:
    """The key of an input topic's checkpoint."""
    return f"position/{topic}".encode()


def _all_blobs(job: EngineJob, blobs: SealedBlobs) -> Iterator[Blob]:
    """Those that the job's state refers to, and the one that it is in itself."""
    encoding = job.machine
    if job.machine_blob is not None:
        yield job.machine_blob
        encoding = job.machine_blob.content
    state = decode(encoding, blobs.load) if encoding else job
    if (walk := blob_walker(type(state))) is not None:
        yield from walk(state)


def _received(peer: Peer, progress: Progress, epoch: EpochKey) -> EngineStream:
    pieces = len(progress.arrival.pieces)
    return EngineStream(peer.party, peer.stage, progress.next_sequence, pieces, epoch=epoch.number, epoch_key=epoch.key)


def _sent(peer: Peer, sequence: int, epoch: Sending) -> EngineStream:
    return EngineStream(
        peer.party,
        peer.stage,
        sequence,
        0,
        epoch=epoch.number,
        epoch_manifest=epoch.mark,
        epoch_first=epoch.first,
    )


def _to_record(job: Job) -> EngineJob:
    t = job.traffic
    return EngineJob(
        job_id=job.job_id,
        machine=b"" if job.machine_blob is not None else job.machine,
        machine_blob=job.machine_blob,
        received=tuple(
            _received(peer, progress, job.receiving.get(peer, NO_EPOCH))
            for peer, progress in sorted(job.received.items())
        ),
        sent=tuple(
            _sent(peer, sequence, job.sending.get(peer, Sending())) for peer, sequence in sorted(job.sent.items())
        ),
        timers=tuple(
            EngineTimer(name, timer.due_at_ms, timer.generation, timer.is_sent)
            for name, timer in sorted(job.timers.items())
        ),
        next_generation=job.next_generation,
        bytes_sent=t.bytes_sent,
        bytes_received=t.bytes_received,
        records_sent=t.records_sent,
        records_received=t.records_received,
    )
