"""A party's door: envelopes of a peer that has the keys and keeps no rule, and of somebody who has none."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st

from schemas.codec import DecodeError, decode, encode
from schemas.envelope import SealedMessage, SealedRecord
from schemas.jobs import EndJob, Reason
from schemas.record import Blob, Record
from schemas.tasks import PeerFault, StopTask, TimerFired
from schemas.training import PlainLogits
from schemas.training_states import TrainWaiting
from streams.engine.chunks import MAX_CHUNKS
from streams.engine.dead_letter import UndeliverableError
from streams.engine.intake import Intake, has_blobs
from streams.engine.jobs import Job, Peer, Progress
from streams.engine.messages import MessageSeal
from streams.engine.partitioner import partition_of
from streams.engine.ports import InputRecord
from streams.engine.seal import EpochKey, Keyring, SealError, Stream, join_fields
from streams.engine.slices import Draft, Slice
from streams.engine.state_log import StateLog
from streams.engine.storage_seal import NONCE_BYTES
from streams.machines.train import TrainMachine
from tests.fuzz.encodings import encodings
from tests.fuzz.variation import EDGES, altered
from tests.simulation.harness import Plan, make_keyrings, make_topics, seal_in_epoch

OWN, PEER, STRANGER, JOB = "host", "guest", "third", "job-1"
PARTITIONS = 4
SENDER = Peer(PEER, "train")
#: What no peer may say; not asked of the door itself.
PRIVATE = ("schemas.tasks", "schemas.envelope", "schemas.deadletter", "schemas.engine_states")
#: Among them: honest ones, ones that are private, ones about another job, ones that refer to blobs.
CONTENTS: tuple[Record, ...] = (
    PlainLogits(JOB, 1, 0, bytes(40)),
    EndJob(JOB, Reason.CANCELLED, PEER, "x"),
    StopTask(JOB, None),
    TimerFired(JOB, "patience/guest", 1),
    PlainLogits("job-2", 1, 0, b""),
    TrainWaiting(JOB),
)


@dataclass(frozen=True)
class Letter:
    """An envelope as the peer means it, and what is changed in it after it was sealed."""

    sequence: int = 0
    chunk_index: int = 0
    chunk_count: int = 1
    content: bytes = b""
    #: Of the whole record, if it says so truly.
    true_digest: bool = True
    changed: dict[str, Any] = field(default_factory=dict)
    #: Sent as this instead.
    raw: bytes | None = None


def letters() -> st.SearchStrategy[tuple[Letter, ...]]:
    """Letters of one stream, mostly in order."""
    content = st.one_of(st.sampled_from(CONTENTS).map(encode), encodings(), st.binary(max_size=30))
    numbers = st.one_of(st.integers(0, 3), st.sampled_from([n for n in EDGES if n >= 0]))
    change = st.fixed_dictionaries(
        {},
        optional={
            "sender": st.sampled_from((OWN, PEER, STRANGER, "", "x")),
            "receiver": st.sampled_from((OWN, PEER, "x")),
            "job_id": st.sampled_from(("job-2", "", "a" * 5_000)),
            "origin": st.sampled_from(("job", "", "train\0")),
            "stage": st.sampled_from(("align", "job")),
            "sequence": st.sampled_from(EDGES),
            "chunk_index": st.sampled_from(EDGES),
            "chunk_count": st.sampled_from(EDGES),
            "payload": st.binary(max_size=40),
        },
    )
    nothing: dict[str, Any] = {}
    letter = st.builds(
        Letter,
        st.one_of(st.integers(0, 2), numbers),
        st.one_of(st.integers(0, 2), st.sampled_from([n for n in EDGES if 0 <= n < 2**32])),
        st.one_of(st.integers(1, 3), st.sampled_from((0, -1, MAX_CHUNKS, MAX_CHUNKS + 1, 2**31, -(2**63)))),
        content,
        st.booleans(),
        st.one_of(st.just(nothing), st.just(nothing), st.just(nothing), change),
        st.none(),
    )
    raw = st.one_of(
        encodings(), st.just(encode(honest_letter())).flatmap(lambda data: altered(decode(data)).map(encode))
    )
    return st.lists(st.one_of(letter, letter, raw.map(lambda data: Letter(raw=data))), min_size=1, max_size=8).map(
        tuple
    )


def honest_letter() -> SealedRecord:
    return seal_in_epoch(_keyring(PEER), _stream(), 0, encode(CONTENTS[0]))


def _keyring(party: str) -> Keyring:
    return make_keyrings((OWN, PEER, STRANGER))[party]


def _stream() -> Stream:
    return Stream(PEER, OWN, JOB, "train", "train")


@functools.cache
def _intake() -> tuple[Intake, str, StateLog]:
    topics = make_topics(Plan(OWN, "train", lambda: TrainMachine(OWN, b"s" * 32)))

    def load(blob: Blob) -> bytes:
        raise AssertionError("nothing of a peer's refers to our blobs")

    return (
        Intake(topics, _keyring(OWN), load, lambda topic: PARTITIONS),
        topics.exchange,
        StateLog("state", _keyring(OWN)),
    )


def deliver(sent: Sequence[Letter]) -> None:
    """What cannot be told is set aside; what is told is the peer's or a fault of the peer's; the job can be kept."""
    intake, exchange, log = _intake()
    key, job = JOB.encode(), Job(JOB)
    partition = partition_of(key, PARTITIONS)
    for place, letter in enumerate(sent):
        data, is_true = _post(letter)
        try:
            taken = intake.take(InputRecord(exchange, partition, place, key, data), lambda job_id, job=job: job)  # type: ignore[misc]
        except UndeliverableError:
            continue
        assert taken is not None and is_true, "only what the peer sealed is taken"
        match taken.record:
            case PeerFault(party=party, detail=detail):
                assert (party, taken.sender) == (PEER, OWN) and detail
            case Record():
                assert taken.sender == PEER
                module = type(taken.record).__module__
                assert module not in PRIVATE and not module.endswith("_states") and not has_blobs(taken.record)
                assert getattr(taken.record, "job_id", JOB) == JOB
        is_next = (letter.sequence, letter.chunk_index) == job.received.get(SENDER, Progress()).expected
        if is_next and letter.raw is None and not 1 <= letter.chunk_count <= MAX_CHUNKS:
            assert isinstance(taken.record, PeerFault), f"a record in {letter.chunk_count} chunks is waited for"
        before = Slice(partition, {}, [job])
        draft = Draft(before)
        draft.put(taken.job)
        written = sum(len(change.value or b"") for change in log.changes(draft))
        assert written <= len(data) + 5_000
        job = taken.job


def _post(letter: Letter) -> tuple[bytes, bool]:
    """The bytes, and whether the peer sealed just this for this place."""
    if letter.raw is not None:
        return letter.raw, letter.raw == encode(honest_letter())
    ring, stream = _keyring(PEER), _stream()
    epoch = EpochKey(1, ring.epoch_key(stream, 1, ring.mark_for(OWN)))
    digest = ring.digest(stream, letter.content, epoch=epoch) if letter.true_digest else bytes(32)
    numbers: dict[str, Any] = {"chunk_index": letter.chunk_index, "chunk_count": letter.chunk_count, "digest": digest}
    try:
        envelope = seal_in_epoch(ring, stream, letter.sequence, letter.content, **numbers)
    except OverflowError:
        return b"", False
    changed = replace(envelope, **letter.changed)
    return encode(changed), changed == envelope


# --- messages of online scoring ---


def messages() -> st.SearchStrategy[bytes]:
    """Sealed messages that were altered, and what is none."""
    ring, nonce = _keyring(PEER), bytes(NONCE_BYTES)
    mark = ring.mark_for(OWN)
    header = join_fields(ring.manifest(mark), PEER, OWN, "topic", 1)
    payload = ring.message_cipher(PEER, OWN, "score", mark).encrypt(nonce, encode(CONTENTS[0]), header)
    sealed = SealedMessage(PEER, OWN, nonce, payload, mark)
    return st.one_of(altered(sealed).map(encode), encodings(), st.binary(max_size=60))


def _seal(party: str) -> MessageSeal:
    return MessageSeal(_keyring(party), "score")


def open_message(data: bytes) -> None:
    """It opens to what the peer sealed for this place, or one of two errors says why not."""
    try:
        sender, record = _seal(OWN).open(data, "topic", 1)
    except (SealError, DecodeError):
        return
    assert (sender, record) == (PEER, CONTENTS[0])
    assert isinstance(decode(data), SealedMessage)


# --- JSON ---


def letters_to_json(sent: Sequence[Letter]) -> Any:
    return [
        {
            "sequence": letter.sequence,
            "chunk_index": letter.chunk_index,
            "chunk_count": letter.chunk_count,
            "content": letter.content.hex(),
            "true_digest": letter.true_digest,
            "changed": {
                name: {"hex": value.hex()} if isinstance(value, bytes) else value
                for name, value in letter.changed.items()
            },
            "raw": None if letter.raw is None else letter.raw.hex(),
        }
        for letter in sent
    ]


def letters_from_json(data: Any) -> tuple[Letter, ...]:
    return tuple(
        Letter(
            each["sequence"],
            each["chunk_index"],
            each["chunk_count"],
            bytes.fromhex(each["content"]),
            each["true_digest"],
            {
                name: bytes.fromhex(value["hex"]) if isinstance(value, dict) else value
                for name, value in each["changed"].items()
            },
            None if each["raw"] is None else bytes.fromhex(each["raw"]),
        )
        for each in data
    )
