"""What a process makes of whatever may lie on its topics: told to the machine, passed over, or set aside."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

import pytest

from schemas.codec import encode
from schemas.deadletter import DeadLetter
from schemas.envelope import SealedRecord
from schemas.jobs import CancelJob
from schemas.record import Record
from schemas.tasks import StopTask, TimerFired
from streams.engine.intake import MAX_SEQUENCE
from streams.engine.partitioner import partition_of
from streams.engine.ports import TopicPartition
from streams.engine.seal import Stream
from tests.simulation.harness import Plan, World, make_keyrings, seal_in_epoch
from tests.simulation.toy import STAGE, Bye, Ping, ToyDone, ToyMachine, ToyStart, register_toys

JOB = "job-0"
STREAM = Stream("guest", "host", JOB, STAGE, STAGE)
OWN = Stream("host", "host", JOB, STAGE, STAGE)
ANSWERS = f"vfl.{STAGE}.exchange.guest.v1"
COMMANDS, EXCHANGE, EVENTS = (
    f"vfl.{name}.host.v1" for name in (f"{STAGE}.commands", f"{STAGE}.exchange", "job.events")
)


@pytest.fixture
def world() -> World:
    """The host alone; the test is its guest."""
    register_toys()
    plan = Plan("host", STAGE, functools.partial(ToyMachine, "host"), plain_commands=frozenset({ToyStart}))
    made = World([plan], partitions=3)
    made.keyrings = make_keyrings(("guest", "host", "third"))
    made.broker.add_topic(ANSWERS, 3)
    return made


def put(
    world: World, topic: str, value: bytes | None, key: bytes | None = JOB.encode(), partition: int | None = None
) -> None:
    place = partition_of(key or b"", 3) if partition is None else partition
    world.broker.append(TopicPartition(topic, place), key, value)


def seal(
    world: World, record: Record | bytes, sequence: int = 0, stream: Stream = STREAM, epoch: int = 1
) -> SealedRecord:
    encoding = record if isinstance(record, bytes) else encode(record)
    ring = world.keyrings[stream.sender]
    if stream.sender == stream.receiver:
        return ring.seal(stream, sequence, encoding)
    return seal_in_epoch(ring, stream, sequence, encoding, epoch)


def say(world: World, record: Record | bytes, sequence: int = 0, epoch: int = 1) -> None:
    put(world, EXCHANGE, encode(seal(world, record, sequence, epoch=epoch)))


def letters(world: World) -> list[DeadLetter]:
    found = world.records("vfl.deadletter.host.v1")
    assert all(isinstance(letter, DeadLetter) for letter in found)
    return found  # type: ignore[return-value]


def told(world: World) -> list[str]:
    """What the machine said: its only events are of a job's end, and of faults."""
    return [record.detail for record in world.records(EVENTS) if isinstance(record, ToyDone)]


def is_alive(world: World, sequence: int) -> bool:
    """Whether the next good record is answered."""
    say(world, Ping(JOB, 0, b"payload"), sequence)
    world.run()
    return len(world.broker.written(TopicPartition(ANSWERS, partition_of(JOB.encode(), 3)))) == 1


def changed(**changes: object) -> Callable[[World], bytes]:
    return lambda world: encode(replace(seal(world, Bye(JOB)), **changes))  # type: ignore[arg-type]


def from_stream(**changes: str) -> Callable[[World], bytes]:
    return lambda world: encode(seal(world, Bye(JOB), stream=replace(STREAM, **changes)))


UNDELIVERABLE: dict[str, tuple[str, Callable[[World], bytes], str]] = {
    "rubbish": (EXCHANGE, lambda world: b"rubbish", "cannot be decoded: not Avro"),
    "nothing": (EXCHANGE, lambda world: b"", "cannot be decoded: not Avro"),
    "a plain record from outside": (EXCHANGE, lambda world: encode(Bye(JOB)), "a plain Bye is not accepted"),
    "a plain timer": (
        COMMANDS,
        lambda world: encode(TimerFired(JOB, "finish", 1)),
        "a plain TimerFired is not accepted",
    ),
    "a command of another stage": (
        COMMANDS,
        lambda world: encode(CancelJob(JOB, "")),
        "a plain CancelJob is not accep",
    ),
    "a plain record of another job": (
        COMMANDS,
        lambda world: encode(ToyStart("x", "guest", 1, 1)),
        "about another job",
    ),
    "an envelope on the wrong topic": (COMMANDS, from_stream(), "of 'guest' is not accepted on"),
    "an envelope to somebody else": (EXCHANGE, from_stream(receiver="third"), "addressed to 'third'"),
    "an envelope to another stage": (EXCHANGE, from_stream(stage="train"), "stage 'train'"),
    "an envelope from another stage": (EXCHANGE, from_stream(origin="train"), "from stage 'train' about job 'job-0'"),
    "an envelope from a stage without end": (EXCHANGE, from_stream(origin="x" * 300_000), f"stage '{'x' * 200}' about"),
    "an envelope of another job": (EXCHANGE, from_stream(job_id="job-1"), "job 'job-1'; found at 'host'"),
    "an envelope that was changed": (EXCHANGE, changed(payload=b"x" * 30), "does not open"),
    "an envelope that was moved up": (EXCHANGE, changed(sequence=1), "does not open"),
    "an envelope without an epoch": (EXCHANGE, changed(epoch=0), "of 'guest' without an epoch"),
    "an envelope whose epoch was changed": (
        EXCHANGE,
        changed(epoch=2),
        "the key of epoch 2 from 'guest' does not open",
    ),
    "an epoch without its key": (EXCHANGE, changed(wrapped_key=b""), "of epoch 1, whose key never came; 0 is in use"),
    "an epoch with half a key": (EXCHANGE, changed(wrapped_key=b"x" * 600), "the key of epoch 1 from 'guest' does not"),
    "an epoch with the key of another job": (
        EXCHANGE,
        lambda world: changed(wrapped_key=seal(world, Bye(JOB), stream=replace(STREAM, job_id="job-1")).wrapped_key)(
            world
        ),
        "the key of epoch 1 from 'guest' does not open",
    ),
    "an epoch that begins within a record": (
        EXCHANGE,
        lambda world: encode(replace(seal(world, Bye(JOB)), chunk_index=1, chunk_count=2)),
        "of epoch 1, whose key never came; 0 is in use",
    ),
    "an envelope of a stranger": (EXCHANGE, changed(sender="nobody"), "of 'nobody' is not accepted"),
    "an envelope in another's name": (EXCHANGE, changed(sender="third"), "does not open"),
    "our own envelope from outside": (
        EXCHANGE,
        lambda w: encode(seal(w, Bye(JOB), stream=OWN)),
        "of 'host' is not acc",
    ),
}


@pytest.mark.parametrize("case", UNDELIVERABLE)
def test_what_cannot_be_told_to_the_machine_is_set_aside_with_its_place_and_reason(world: World, case: str) -> None:
    topic, make, reason = UNDELIVERABLE[case]
    value = make(world)
    put(world, topic, value)
    world.run()
    [letter] = letters(world)
    assert reason in letter.reason
    assert (letter.party, letter.stage, letter.topic, letter.offset) == ("host", STAGE, topic, 0)
    assert (letter.key, letter.value, letter.value_bytes) == (JOB.encode(), value, len(value))
    assert told(world) == []
    assert is_alive(world, 0)
    assert len(letters(world)) == 1


def test_records_without_value_or_key_or_in_a_foreign_partition_are_set_aside(world: World) -> None:
    good = encode(seal(world, Bye(JOB)))
    put(world, EXCHANGE, None)
    put(world, EXCHANGE, good, None)
    put(world, EXCHANGE, good, b"\xff\xfe")
    put(world, EXCHANGE, good, partition=(partition_of(JOB.encode(), 3) + 1) % 3)
    world.run()
    reasons = sorted(letter.reason for letter in letters(world))
    assert [reason[:24] for reason in reasons] == [
        "a record without a key; ",
        "a record without a value",
        "key 'job-0' belongs in p",
        "the key is not a job id:",
    ]
    assert told(world) == []


def test_a_job_id_without_end_is_set_aside(world: World) -> None:
    key = "j" * 300_000
    value = encode(seal(world, Bye(JOB), stream=replace(STREAM, job_id=key)))
    put(world, EXCHANGE, value, key.encode())
    world.run()
    (letter,) = letters(world)
    assert f"about job '{'j' * 200}'" in letter.reason
    assert is_alive(world, 0)


def test_a_letter_keeps_the_head_of_what_is_too_long_for_it(world: World) -> None:
    put(world, EXCHANGE, b"x" * 1_000_000)
    world.run()
    [letter] = letters(world)
    assert (len(letter.value or b""), letter.value_bytes) == (900_000, 1_000_000)
    assert len(encode(letter)) < 1_000_000


def test_an_envelope_that_comes_again_changes_nothing(world: World) -> None:
    for _ in range(3):
        say(world, Bye(JOB))
    world.run()
    assert len(told(world)) == 1
    say(world, Bye(JOB))
    world.run()
    assert len(told(world)) == 1 and letters(world) == []


def test_a_gap_is_blamed_on_the_sender_and_what_follows_is_heard(world: World) -> None:
    say(world, Bye(JOB))
    say(world, Bye(JOB), 2)
    say(world, Bye(JOB), 1)
    world.run()
    [_, fault] = told(world)
    assert fault.startswith("PeerFault(job_id='job-0', party='guest', reason=<Reason.PROTOCOL_VIOLATION")
    assert "record (2, 0) of stage align came where (1, 0) was expected" in fault
    assert is_alive(world, 3)


@pytest.mark.parametrize("digest", [b"", b"d" * 32], ids=["none", "another"])
def test_a_record_whose_digest_does_not_commit_to_it_is_blamed_on_its_sender(world: World, digest: bytes) -> None:
    """Such an envelope could open to something else with another key, for an auditor."""
    put(world, EXCHANGE, encode(seal_in_epoch(world.keyrings["guest"], STREAM, 0, encode(Bye(JOB)), digest=digest)))
    world.run()
    [fault] = told(world)
    assert "PeerFault" in fault and "does not have the digest that the last one names" in fault


FAULTS: dict[str, tuple[Record | bytes, str]] = {
    "rubbish": (b"rubbish", "a record that cannot be decoded"),
    "a record that only our own processes send": (StopTask(JOB, None), "a StopTask, which is private to a party"),
    "a timer of ours": (TimerFired(JOB, "finish", 1), "a TimerFired, which is private to a party"),
    "a record of another job": (Bye("job-1"), "a Bye about another job"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_an_authentic_record_that_may_not_be_said_is_blamed_on_its_sender(world: World, case: str) -> None:
    record, detail = FAULTS[case]
    say(world, record)
    world.run()
    [fault] = told(world)
    assert fault.startswith("PeerFault(") and detail in fault and "party='guest'" in fault
    assert letters(world) == []
    assert is_alive(world, 1)


def test_a_key_is_used_for_one_epoch_and_then_forgotten(world: World) -> None:
    """The key that a record brings replaces the one before it in the state, of which no trace is left."""
    ring = world.keyrings["guest"]
    keys = {number: ring.epoch_key(STREAM, number, ring.mark_for("host")) for number in (1, 2, 4)}
    place = TopicPartition(f"vfl.{STAGE}.state.host.v1", partition_of(JOB.encode(), 3))

    def state() -> bytes:
        """All that the latest states hold, opened."""
        latest = {key: value for key, value in world.broker.written(place) if value is not None and key is not None}
        host = world.keyrings["host"]
        return b"".join(host.open_state(place.topic, place.partition, key, value) for key, value in latest.items())

    for sequence, epoch in enumerate((1, 1, 2, 4)):
        say(world, Ping(JOB, sequence, b"payload"), sequence, epoch)
        world.run()
        assert {number for number, key in keys.items() if key in state()} == {epoch}
    assert letters(world) == [] and told(world) == []


def test_a_stale_epoch_is_named_unless_it_only_says_what_was_said(world: World) -> None:
    say(world, Bye(JOB), 0, 1)
    say(world, Bye(JOB), 1, 3)
    say(world, Bye(JOB), 0, 1)
    world.run()
    assert letters(world) == [], "a mirror repeats"
    say(world, Bye(JOB), 2, 2)
    world.run()
    [letter] = letters(world)
    assert "a record of 'guest' of the stale epoch 2, whose key is erased: 3 is in use" in letter.reason
    # Nobody is blamed for what anybody may have played back, and the stream goes on.
    say(world, Bye(JOB), 2, 3)
    world.run()
    assert len(told(world)) == 3 and not any("Fault" in text for text in told(world))


def test_a_counter_that_no_honest_sender_reaches_is_set_aside(world: World) -> None:
    """It would overflow what counts it in our state, and with it every later step of the job."""
    say(world, Bye(JOB), MAX_SEQUENCE)
    world.run()
    assert "out of range" in letters(world)[0].reason
    assert is_alive(world, 0)


def test_a_chunk_that_is_missing_is_blamed_and_the_rest_of_its_record_is_passed_over(world: World) -> None:
    ring = world.keyrings["guest"]
    pieces = [
        seal_in_epoch(ring, STREAM, 0, b"x", chunk_index=index, chunk_count=4, digest=b"d" * 32) for index in range(4)
    ]
    for index in (0, 2, 3):
        put(world, EXCHANGE, encode(pieces[index]))
    world.run()
    [fault] = told(world)
    assert "record (0, 2) of stage align came where (0, 1) was expected" in fault
    assert is_alive(world, 1)


def test_a_gap_in_our_own_streams_is_not_blamed_on_a_peer(world: World) -> None:
    put(world, COMMANDS, encode(seal(world, Bye(JOB), 4, OWN)))
    world.run()
    [fault] = told(world)
    assert fault.startswith("LocalFault(") and "our own stages" in fault


def test_records_of_two_of_our_stages_are_counted_apart(world: World) -> None:
    for origin in ("job", "train"):
        put(world, COMMANDS, encode(seal(world, Bye(JOB), 0, replace(OWN, origin=origin))))
    world.run()
    assert len(told(world)) == 2 and letters(world) == []
