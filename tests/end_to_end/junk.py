"""Records that do not belong where somebody writes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from confluent_kafka import KafkaError, Message, Producer

from consumers.party import open_party
from infra.topics import PARTITIONS
from schemas.codec import encode
from schemas.envelope import SealedRecord
from schemas.jobs import Stage, SubmitJob
from streams.engine.agreement import Agreement
from streams.engine.partitioner import partition_of
from streams.engine.seal import Keyring, Stream
from tests.end_to_end.world import House, World
from tests.simulation.harness import seal_in_epoch


@dataclass(frozen=True)
class Junk:
    """A record that does not belong, and what its dead letter has to say."""

    value: bytes | None
    words: str
    key: str | None
    partition: int = -1


@dataclass(frozen=True)
class Place:
    """Where the broker put a record."""

    topic: str
    partition: int
    offset: int


def make_junk(world: World, house: House, stage: Stage, topic: str, job_id: str) -> list[Junk]:
    peer = next(other for other in world.houses if other is not house).party
    submission = encode(SubmitJob(job_id, world.spec()))
    odd = bytearray(submission)
    odd[submission.index(b"logistic_regression") + len(b"logistic_regression")] = 126
    # Sealed by the book, for this very stage and job, by somebody who has not the peer's key.
    secrets = open_party(house.home).secrets
    manifest = secrets.versions[0].manifest.digest
    theirs = {house.party: secrets.pair.public_key}, manifest, b"\7" * 32, {house.party: secrets.pair.kem_key}
    stranger = Keyring(peer, Agreement(b"\7" * 32, *theirs), b"\1" * 32)
    # Of an epoch that is to come: those of a stage that is over are passed over unopened.
    stream = Stream(peer, house.party, job_id, str(stage), str(stage))
    forged = encode(seal_in_epoch(stranger, stream, 0, submission, number=9))
    outsider = SealedRecord("mallory", house.party, job_id, str(stage), str(stage), 0, 0, 1, b"", b"x" * 32)
    is_door = topic.startswith(f"vfl.{stage}.exchange.")
    takes_plain = stage is Stage.JOB and not is_door
    plain = "a plain SubmitJob is not accepted on"
    wrong = (partition_of(job_id.encode(), PARTITIONS) + 1) % PARTITIONS
    return [
        Junk(None, "without a value", job_id),
        Junk(b"", "not Avro single-object encoding: 0 bytes", job_id),
        Junk(b"GET / HTTP/1.1\r\n\r\n", "not Avro single-object encoding", job_id),
        Junk(b"\xc3\x01" + b"\xab" * 8 + submission[10:], "unknown schema fingerprint abababababababab", job_id),
        # At the door nothing but an envelope is looked into.
        Junk(submission[:-20], plain if is_door else "truncated SubmitJob (schema version 1)", job_id),
        Junk(submission + b"\0", plain if is_door else "1 trailing bytes after SubmitJob", job_id),
        Junk(bytes(odd), plain if is_door else "malformed SubmitJob", job_id),
        Junk(forged[:-20], "truncated SealedRecord", job_id),
        Junk(forged, f"from '{peer}' does not open" if is_door else f"of '{peer}' is not accepted on {topic}", job_id),
        Junk(encode(outsider), f"a sealed record of 'mallory' is not accepted on {topic}", job_id),
        Junk(forged if is_door else submission, "without a key; the key is the job id", None),
        Junk(forged if is_door else submission, f"'{job_id}' belongs in partition", job_id, wrong),
        Junk(submission, "about another job" if takes_plain else plain, "another"),
        *([] if takes_plain else [Junk(submission, f"{plain} {topic}", job_id)]),
    ]


def write_all(bootstrap: str, junk: list[tuple[str, Junk]]) -> dict[Place, Junk]:
    """Write it all; where it lies."""
    producer = Producer({"bootstrap.servers": bootstrap})
    placed: dict[Place, Junk] = {}

    def note(one: Junk) -> Callable[[KafkaError | None, Message], None]:
        def delivered(error: KafkaError | None, message: Message) -> None:
            assert error is None, error
            placed[Place(str(message.topic()), message.partition() or 0, message.offset() or 0)] = one

        return delivered

    for topic, one in junk:
        producer.produce(topic, one.value, one.key, one.partition, on_delivery=note(one))
    assert producer.flush(60) == 0
    return placed
