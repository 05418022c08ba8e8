"""A party's part in one job, executed once more: what it must have sent, if it kept to the protocol.

Steps are pure, draws are functions of the job's seed, and sealing is deterministic but for the wrapped keys that begin
epochs, which the books hold. So an honest party's envelopes come out to the byte. They are compared by digest with the
party's books, step by step in the order in which they were committed; that the books are what the peers have is shown
by what the auditors signed. Reads no broker and no clock. `revelation.py` is the other side.

    revealed step         where its input comes from
    a peer's record       its bytes, which must have the digest in the books; opened with the stream's secret
    an own stage's        the replay itself: what that stage sent when it was executed again
    a timer               the step in which it was due
    a client's command    its bytes
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from schemas.audit import CrossedEnvelope, EnvelopesCrossed, TakenRecord
from schemas.codec import decode, encode, type_of
from schemas.cohorts import COHORT
from schemas.envelope import SealedRecord
from schemas.revelations import RevealedStep, RevealedStream
from streams.engine.agreement import KEY_BYTES, MARK_BYTES, Agreement
from streams.engine.blobs import SealedBlobs
from streams.engine.chunks import CHUNK_BYTES
from streams.engine.dead_letter import UndeliverableError
from streams.engine.epochs import EPOCH_RECORDS
from streams.engine.intake import Intake
from streams.engine.jobs import Job
from streams.engine.outbox import Outbox
from streams.engine.ports import BlobStore, InputRecord, OutputRecord
from streams.engine.seal import EpochKey, Keyring, Stream
from streams.engine.stepper import Prepare, Stepper
from streams.engine.timers import send_timers
from streams.engine.topics import StageTopics
from streams.machine import Machine, ToStage

#: Partitions say nothing about what is sent: a replay has one.
_PARTITIONS = 1
#: Nothing that a replay seals for itself leaves it.
_OWN_SECRET = bytes(KEY_BYTES)


class Difference(NamedTuple):
    """The first thing that is not as the protocol has it, and the step it was found in, counted from 0."""

    step: int
    stage: str
    detail: str


@dataclass(frozen=True)
class Actor:
    """Whose part is replayed: machines and topics of its stages, a store that is empty, and what loads its table."""

    party: str
    job_id: str
    machines: Mapping[str, Machine]
    topics: Callable[[str], StageTopics]
    blobs: BlobStore
    peers: frozenset[str]
    prepare: Prepare | None = None
    manifests: Sequence[bytes] = ()
    chunk_bytes: int = CHUNK_BYTES
    epoch_records: int = EPOCH_RECORDS


class RevealedKeyring(Keyring):
    """Opens and seals with the secrets of streams that were revealed. Keys of epochs are names of them here."""

    def __init__(self, party: str, peers: frozenset[str], manifests: Sequence[bytes]) -> None:
        # Its own key pair is never asked for anything.
        super().__init__(party, Agreement(bytes([1]) * KEY_BYTES, {}), _OWN_SECRET)
        self._peers = peers
        self._manifests = {manifest[:MARK_BYTES]: manifest for manifest in manifests}
        self._in_force = b""
        self._secrets: dict[tuple[Stream, bytes, int], bytes] = {}
        #: The wrapped keys that the step's records brought along, which cannot be made again.
        self.wrapped: dict[tuple[str, str, str], list[bytes]] = {}

    def learn(self, job_id: str, revealed: RevealedStream) -> None:
        """From now on this stream's epoch can be opened and sealed."""
        stream = Stream(revealed.sender, revealed.receiver, job_id, revealed.origin, revealed.stage)
        self._secrets[stream, revealed.manifest, revealed.epoch] = revealed.secret

    def enter(self, manifest: bytes) -> None:
        """The manifest that was in force in the step that is next."""
        self._in_force = manifest
        self._manifests.setdefault(manifest[:MARK_BYTES], manifest)

    @property
    def peers(self) -> frozenset[str]:
        """Those whose streams may be revealed."""
        return self._peers

    @property
    def current_manifest(self) -> bytes:
        """That of the step."""
        return self._in_force

    def mark_for(self, receiver: str) -> bytes:
        """As in `Keyring`."""
        return b"" if receiver == self.party else self._in_force[:MARK_BYTES]

    def manifest(self, mark: bytes) -> bytes:
        """As in `Keyring`; one that was not revealed leads to records that do not open."""
        return self._manifests.get(mark, mark)

    def stream_secret(self, stream: Stream, mark: bytes, epoch: EpochKey) -> bytes:
        """The revealed one. Another one for a stream that was not revealed: what comes out equals nothing."""
        if stream.sender == stream.receiver == self.party:
            return super().stream_secret(stream, mark, epoch)
        return self._secrets.get((stream, mark, epoch.number), _OWN_SECRET)

    def epoch_key(self, stream: Stream, number: int, mark: bytes) -> bytes:
        """A name: see `stream_secret`."""
        return _OWN_SECRET

    def wrap_epoch_key(self, stream: Stream, epoch: EpochKey, mark: bytes) -> bytes:
        """What the party's books say that it was; a byte that no wrapped key is, where they say none."""
        noted = self.wrapped.get((stream.receiver, stream.origin, stream.stage))
        return noted.pop(0) if noted else b"\0"

    def unwrap_epoch_key(self, envelope: SealedRecord) -> bytes:
        """A name: see `stream_secret`."""
        return _OWN_SECRET


@dataclass
class _Part:
    """One stage of the party."""

    intake: Intake
    stepper: Stepper
    outbox: Outbox
    job: Job


@dataclass
class Replay:
    """Takes the revealed steps in their order. Of what it compared, `equal` counts the envelopes to each peer."""

    actor: Actor
    equal: Counter[str] = field(default_factory=Counter)
    steps: int = 0

    def __post_init__(self) -> None:
        self._keyring = RevealedKeyring(self.actor.party, self.actor.peers, self.actor.manifests)
        self._parts: dict[str, _Part] = {}
        #: What the stages said to each other, by topic, origin, sequence and chunk; and the events that they told.
        self._said: dict[tuple[str, str, int, int], bytes] = {}
        self._told: Counter[bytes] = Counter()

    def learn(self, revealed: RevealedStream) -> None:
        """Take the secret of a stream's epoch."""
        self._keyring.learn(self.actor.job_id, revealed)

    def take(self, revealed: RevealedStep) -> Difference | None:
        """Execute one step; None when it let cross what the books say. After a difference nothing more is of use."""
        told = revealed.step
        number, self.steps = self.steps, self.steps + 1
        if told.stage not in self.actor.machines:
            return Difference(number, told.stage, "no stage of this name takes part in jobs")
        try:
            sent, outputs = self._execute(told, revealed.value)
        except _UntrueError as error:
            return Difference(number, told.stage, str(error))
        for output in outputs:
            self._note(output)
        detail = self._compare(told, sent)
        return Difference(number, told.stage, detail) if detail else None

    def _execute(self, told: EnvelopesCrossed, value: bytes) -> tuple[list[CrossedEnvelope], list[OutputRecord]]:
        part = self._part(told.stage)
        self._keyring.enter(told.manifest)
        self._keyring.wrapped.clear()
        for each in told.crossed:
            if each.wrapped_key:
                place = (each.peer, each.origin, each.stage)
                self._keyring.wrapped.setdefault(place, []).append(each.wrapped_key)
        if told.taken is None:
            job, outputs = self._fire(part, told)
        else:
            job, outputs = self._take(part, told, self._find_input(told, told.taken, value))
        part.job = replace(job, crossed=(), fault=None)
        return [each for each in job.crossed if each.is_sent], outputs

    def _fire(self, part: _Part, told: EnvelopesCrossed) -> tuple[Job, list[OutputRecord]]:
        unknown = [name for name in told.due if name not in part.job.timers]
        if unknown or not told.due:
            raise _UntrueError(f"timers are said to be due that were not set: {', '.join(unknown) or 'none at all'}")
        job, fired = send_timers(part.job, told.due)
        return part.outbox.send(job, [ToStage(told.stage, each) for each in fired])

    def _take(self, part: _Part, told: EnvelopesCrossed, raw: InputRecord) -> tuple[Job, list[OutputRecord]]:
        assert told.taken is not None
        what = _text(told.taken.sequence, told.taken.chunk_index)
        try:
            taken = part.intake.take(raw, lambda _: part.job)
        except UndeliverableError as error:
            raise _UntrueError(f"the record {what} from {told.taken.sender} is not one to take: {error}") from error
        if taken is None:
            raise _UntrueError(f"a record of {raw.topic} was taken that says nothing to the stage")
        record = told.fault or taken.record
        if record is None:
            return taken.job, []
        try:
            return part.stepper.step(taken.job, record, self.actor.party if told.fault else taken.sender)
        except UndeliverableError:
            return taken.job, []

    def _find_input(self, told: EnvelopesCrossed, taken: TakenRecord, value: bytes) -> InputRecord:
        party, what = self.actor.party, _text(taken.sequence, taken.chunk_index)
        if taken.sender == party and taken.origin.partition(":")[0] == COHORT:
            stream = Stream(party, party, self.actor.job_id, taken.origin, told.stage)
            value = encode(self._keyring.seal(stream, taken.sequence, value))
        elif taken.sender == party:
            place = (taken.topic, taken.origin, taken.sequence, taken.chunk_index)
            if place not in self._said:
                raise _UntrueError(f"the record {what} from the own stage {taken.origin} was taken and not sent by it")
            value = self._said.pop(place)
        elif taken.sender:
            digest = next((each.digest for each in told.crossed if not each.is_sent), b"")
            if hashlib.sha256(value).digest() != digest:
                raise _UntrueError(f"what is revealed of the record {what} from {taken.sender} is not what came")
        else:
            self._check_plain(told, taken, value)
        return InputRecord(taken.topic, 0, self.steps, self.actor.job_id.encode(), value)

    def _check_plain(self, told: EnvelopesCrossed, taken: TakenRecord, value: bytes) -> None:
        digest = hashlib.sha256(value).digest()
        if digest != taken.digest:
            raise _UntrueError(f"what is revealed of a record of {taken.topic} is not what was taken")
        if taken.topic == self.actor.topics(told.stage).events:
            if not self._told[digest]:
                raise _UntrueError(f"a {type_of(value).__name__} was taken that no stage of {self.actor.party} told")
            self._told[digest] -= 1

    def _note(self, output: OutputRecord) -> None:
        """What later steps of the own stages take."""
        assert output.value is not None
        if type_of(output.value) is not SealedRecord:
            self._told[hashlib.sha256(output.value).digest()] += 1
            return
        envelope = decode(output.value)
        assert isinstance(envelope, SealedRecord)
        if envelope.receiver == self.actor.party:
            place = (output.topic, envelope.origin, envelope.sequence, envelope.chunk_index)
            self._said[place] = output.value

    def _compare(self, told: EnvelopesCrossed, sent: Sequence[CrossedEnvelope]) -> str:
        noted = [each for each in told.crossed if each.is_sent]
        for mine, theirs in zip(sent, noted, strict=False):
            if _place(mine) != _place(theirs):
                return f"{_name(theirs)} was sent where the protocol sends {_name(mine)}"
            if mine.digest != theirs.digest:
                return f"{_name(theirs)} is not what the protocol sends"
            self.equal[mine.peer] += 1
        if len(sent) > len(noted):
            return f"{_name(sent[len(noted)])} was not sent"
        if len(noted) > len(sent):
            return f"{_name(noted[len(sent)])} was sent, and the protocol sends nothing there"
        return ""

    def _part(self, stage: str) -> _Part:
        if stage not in self._parts:
            actor, topics = self.actor, self.actor.topics(stage)
            blobs = SealedBlobs(actor.blobs, self._keyring)
            outbox = Outbox(
                topics, self._keyring, lambda topic: _PARTITIONS, lambda: 0, actor.chunk_bytes, actor.epoch_records
            )
            intake = Intake(topics, self._keyring, blobs.load, lambda topic: _PARTITIONS)
            stepper = Stepper(actor.machines[stage], actor.party, blobs, outbox, actor.prepare)
            self._parts[stage] = _Part(intake, stepper, outbox, Job(actor.job_id))
        return self._parts[stage]


class _UntrueError(Exception):
    """The books say what cannot be. The text says what."""


def _place(crossed: CrossedEnvelope) -> tuple[str, str, int, int]:
    return crossed.peer, crossed.stage, crossed.sequence, crossed.chunk_index


def _text(sequence: int, chunk_index: int) -> str:
    return f"{sequence}.{chunk_index}"


def _name(crossed: CrossedEnvelope) -> str:
    return f"the record {_text(crossed.sequence, crossed.chunk_index)} to {crossed.peer}'s stage {crossed.stage}"
