"""From a record of the log to what the machine is told: who said it, is it new, is it whole, may it be said here.

| what came | what follows |
|---|---|
| not Avro, not ours, not for us, does not open, in the wrong place | a dead letter (`UndeliverableError`) |
| an envelope that was taken before; that says so, of an epoch that is over; of a stage that is over | nothing |
| a chunk that is not the last | it is kept |
| an authentic envelope that leaves a gap, or has unusable content | `PeerFault` with blame, `LocalFault` if our own |
| a `TimerFired` of an older generation | nothing |
| an authentic envelope, where records stand for themselves | the record, in whatever order it comes |
| anything else | the record |
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from schemas.audit import TakenRecord
from schemas.codec import DecodeError, decode, type_of
from schemas.conversion import blob_walker
from schemas.envelope import SealedRecord
from schemas.footprint import check_footprint
from schemas.jobs import Reason
from schemas.record import Blob, Record
from schemas.tasks import LocalFault, PeerFault, TimerFired
from streams.engine.chunks import Arrival, ChunkError, add_chunk
from streams.engine.dead_letter import UndeliverableError
from streams.engine.epochs import is_over, key_for_opening
from streams.engine.jobs import Job, Peer, Progress
from streams.engine.partitioner import partition_of
from streams.engine.ports import InputRecord
from streams.engine.seal import NO_EPOCH, Keyring, SealError
from streams.engine.timers import accept_fired
from streams.engine.topics import StageTopics

#: Above this no honest counter comes; it leaves room to count on in an Avro long.
MAX_SEQUENCE = 2**62
#: Characters of a job id that a peer may choose; the coordinator takes shorter ones.
MOST_ID = 200
#: Records of these modules are between processes of one party: a peer that sends one pretends to be us.
PRIVATE_MODULES = (
    "schemas.tasks",
    "schemas.cohorts",
    "schemas.deadletter",
    "schemas.envelope",
    "schemas.revelations",
)


@dataclass(frozen=True)
class Taken:
    """The job with its streams moved on, and what its machine is told, if anything."""

    job: Job
    record: Record | None = None
    #: The authenticated sender of `record`; the own party for faults.
    sender: str = ""
    #: Which input it was.
    source: TakenRecord | None = None


class Intake:
    """Takes the records of one stage's input topics."""

    def __init__(
        self,
        topics: StageTopics,
        keyring: Keyring,
        load_blob: Callable[[Blob], bytes],
        partition_count: Callable[[str], int],
    ) -> None:
        self._topics = topics
        self._keyring = keyring
        self._load_blob = load_blob
        self._partition_count = partition_count

    def take(self, raw: InputRecord, find_job: Callable[[str], Job]) -> Taken | None:
        """Decide about one record; None when it concerns no job of ours. Raises `UndeliverableError`."""
        record = self._decode(raw)
        job_id = self._job_id(raw)
        if isinstance(record, SealedRecord):
            self._check_address(raw, record, job_id)
            taken: Taken | None = self._take_sealed(raw, record, find_job(job_id))
        else:
            taken = self._take_plain(raw, record, job_id, find_job)
        return None if taken is None else replace(taken, source=describe_source(raw, record))

    def _decode(self, raw: InputRecord) -> Record:
        if raw.value is None:
            raise UndeliverableError("a record without a value")
        try:
            # On the exchange topic others write: nothing but an envelope is decoded before it is known who did.
            cls = type_of(raw.value)
            if raw.topic == self._topics.exchange and cls is not SealedRecord:
                raise UndeliverableError(f"a plain {cls.__name__} is not accepted on {raw.topic}")
            return decode(raw.value, self._load_blob)
        except DecodeError as error:
            raise UndeliverableError(f"cannot be decoded: {error}") from error

    def _job_id(self, raw: InputRecord) -> str:
        try:
            job_id = (raw.key or b"").decode()
        except UnicodeDecodeError as error:
            raise UndeliverableError("the key is not a job id: not UTF-8") from error
        if not raw.key:
            raise UndeliverableError("a record without a key; the key is the job id")
        expected = partition_of(raw.key, self._partition_count(raw.topic))
        if raw.partition != expected:
            raise UndeliverableError(
                f"key {job_id!r} belongs in partition {expected}, CRC-32 of the key modulo the number of partitions:"
                " set the client's partitioner to that of librdkafka"
            )
        return job_id

    # --- plain records ---

    def _take_plain(
        self, raw: InputRecord, record: Record, job_id: str, find_job: Callable[[str], Job]
    ) -> Taken | None:
        name = type(record).__name__
        if raw.topic == self._topics.events:
            if type(record) not in self._topics.plain_events:
                return None
        elif not self._topics.accepts_plain(raw.topic, type(record)):
            raise UndeliverableError(f"a plain {name} is not accepted on {raw.topic}")
        if getattr(record, "job_id", None) != job_id:
            raise UndeliverableError(f"the key is {job_id!r}, but the {name} is about another job")
        return Taken(find_job(job_id), record, self._topics.party)

    # --- sealed records ---

    def _check_address(self, raw: InputRecord, envelope: SealedRecord, job_id: str) -> None:
        own = self._topics.party
        if raw.topic == self._topics.commands:
            is_allowed = envelope.sender == own
        elif raw.topic == self._topics.exchange:
            is_allowed = envelope.sender != own and envelope.sender in self._keyring.peers
        else:
            is_allowed = False
        if not is_allowed:
            raise UndeliverableError(f"a sealed record of {envelope.sender!r} is not accepted on {raw.topic}")
        if raw.topic == self._topics.exchange and (len(job_id) > MOST_ID or envelope.origin != self._topics.stage):
            # Between parties a stage speaks to the same stage. What the engine keeps of streams and tells of them holds
            # these names: a peer must not choose how long they are, or how many.
            origin, about = envelope.origin[:MOST_ID], job_id[:MOST_ID]
            raise UndeliverableError(
                f"a sealed record of {envelope.sender!r} from stage {origin!r} about job {about!r}"
            )
        addressed = (envelope.receiver, envelope.stage, envelope.job_id)
        if addressed != (own, self._topics.stage, job_id):
            raise UndeliverableError(
                f"addressed to {envelope.receiver!r}, stage {envelope.stage!r}, job {envelope.job_id!r};"
                f" found at {own!r}, stage {self._topics.stage!r}, key {job_id!r}"
            )

    def _take_sealed(self, raw: InputRecord, envelope: SealedRecord, job: Job) -> Taken:
        peer = Peer(envelope.sender, envelope.origin)
        progress = job.received.get(peer, Progress())
        position = (envelope.sequence, envelope.chunk_index)
        is_own, epoch = envelope.sender == self._topics.party, job.receiving.get(peer, NO_EPOCH)
        # Where no order is kept every record brings its own key.
        is_unordered = not is_own and not self._topics.is_ordered
        if is_unordered and envelope.chunk_count != 1:
            raise UndeliverableError(f"{envelope.sender!r} sent a record in {envelope.chunk_count} chunks: too large")
        if not is_own and is_over(epoch, envelope, is_old=position < progress.expected):
            return Taken(job)
        try:
            if not is_own:
                epoch = key_for_opening(self._keyring, envelope, epoch)
            piece = self._keyring.open(envelope, epoch)
        except SealError as error:
            who, text = repr(envelope.sender), str(error)
            raise UndeliverableError(text if who in text else f"a record of {who}, {text}") from error
        if not envelope.sequence < MAX_SEQUENCE:
            raise UndeliverableError(f"sequence {envelope.sequence} is out of range")
        if is_unordered:
            return self._take_whole(job, envelope, piece)
        if position < progress.expected:
            return Taken(job)
        if not is_own:
            job = job.with_receiving(peer, epoch).with_received_envelope(envelope, raw.value or b"")
        after = Progress(envelope.sequence + 1)
        if position > progress.expected:
            detail = f"record {position} of stage {envelope.origin} came where {progress.expected} was expected"
            return self._fault(job.with_progress(peer, after), envelope.sender, detail)
        try:
            arrival, whole = add_chunk(self._keyring, progress.arrival, envelope, piece, epoch)
        except ChunkError as error:
            return self._fault(job.with_progress(peer, after), envelope.sender, str(error))
        if whole is None:
            return Taken(job.with_progress(peer, Progress(envelope.sequence, Arrival(arrival.pieces))))
        return self._take_whole(job.with_progress(peer, after), envelope, whole)

    def _take_whole(self, job: Job, envelope: SealedRecord, whole: bytes) -> Taken:
        is_own = envelope.sender == self._topics.party
        try:
            if not is_own and (problem := find_private(check_footprint(whole))):
                return self._fault(job, envelope.sender, problem)
            record = decode(whole, self._load_blob)
        except DecodeError as error:
            return self._fault(job, envelope.sender, f"a record that cannot be decoded: {error}")
        if not is_own and has_blobs(record):
            problem = f"a {type(record).__name__} that refers to a blob: parties do not share stores"
            return self._fault(job, envelope.sender, problem)
        if getattr(record, "job_id", job.job_id) != job.job_id:
            return self._fault(job, envelope.sender, f"a {type(record).__name__} about another job")
        if isinstance(record, TimerFired):
            accepted = accept_fired(job, record)
            return Taken(job) if accepted is None else Taken(accepted, record, self._topics.party)
        return Taken(job, record, envelope.sender)

    def _fault(self, job: Job, sender: str, detail: str) -> Taken:
        own = self._topics.party
        if sender == own:
            return Taken(job, LocalFault(job.job_id, Reason.INTERNAL_ERROR, f"our own stages: {detail}"), own)
        return Taken(job, PeerFault(job.job_id, sender, Reason.PROTOCOL_VIOLATION, detail), own)


def describe_source(raw: InputRecord, record: Record) -> TakenRecord:
    """How the books name an input that was decoded."""
    if isinstance(record, SealedRecord):
        return TakenRecord(raw.topic, record.sender, record.origin, record.sequence, record.chunk_index)
    return TakenRecord(raw.topic, "", "", -1, -1, hashlib.sha256(raw.value or b"").digest())


def find_private(cls: type[Record]) -> str:
    """Why a peer may not send records of this class, or nothing."""
    if cls.__module__ in PRIVATE_MODULES or cls.__module__.endswith("_states"):
        return f"a {cls.__name__}, which is private to a party"
    return ""


def has_blobs(record: Record) -> bool:
    """Whether the record refers to a blob."""
    walk = blob_walker(type(record))
    return walk is not None and any(True for _ in walk(record))
