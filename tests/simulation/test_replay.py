"""A party's part in a whole job, executed again: to the byte if it was honest, else named at the record."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import pytest

from schemas.audit import CrossedEnvelope, EnvelopesCrossed, TakenRecord
from schemas.codec import decode
from schemas.jobs import PIPELINE, Stage
from schemas.record import Record
from schemas.revelations import RevealedStep, RevealedStream
from streams.dataset import Dataset
from streams.engine.intake import describe_source
from streams.engine.ports import InputRecord
from streams.engine.replay import Actor, Difference, Replay
from streams.engine.revelation import gather_steps, reveal_steps
from streams.kernels.entropy import reveal_secret
from streams.machine import Event, Machine, Step
from streams.machines.align import AlignMachine
from streams.machines.evaluate import EvaluateMachine
from streams.machines.job import JobMachine
from streams.machines.register import RegisterMachine
from streams.machines.train import TrainMachine
from tests.machines.parties import JOB_ID, secret_of
from tests.simulation import test_pipeline as pipeline
from tests.simulation.fake_broker import Fate
from tests.simulation.harness import World, make_topics

STAGES = (Stage.JOB, *PIPELINE)
CHUNK_BYTES = 4_000
PEERS = {party: frozenset(pipeline.PARTIES) - {party} for party in pipeline.PARTIES}


class Store:
    """Blobs of a replay."""

    def __init__(self) -> None:
        self.objects: dict[bytes, bytes] = {}

    def put(self, sha256: bytes, content: bytes) -> None:
        self.objects[sha256] = content

    def get(self, sha256: bytes) -> bytes:
        return self.objects[sha256]

    def has(self, sha256: bytes) -> bool:
        return sha256 in self.objects


def machines_of(party: str) -> dict[str, Machine]:
    """As an auditor makes them: from what is revealed of one job."""
    secret, bits = reveal_secret(secret_of(party), JOB_ID), pipeline.KEY_BITS
    peers = frozenset(pipeline.PARTIES) - {party}
    return {
        Stage.JOB: JobMachine(party, pipeline.POLICY, peers=peers, least_key_bits=bits),
        Stage.ALIGN: AlignMachine(party, secret, 16),
        Stage.TRAIN: TrainMachine(party, secret, bits, 10),
        Stage.EVALUATE: EvaluateMachine(party, 4),
        Stage.REGISTER: RegisterMachine(party, "test"),
    }


def books_of(world: World, party: str) -> list[EnvelopesCrossed]:
    records = world.records(f"vfl.job.audit.{party}.v1")
    return [record for record in records if isinstance(record, EnvelopesCrossed)]


def fetch_from(world: World) -> Callable[[EnvelopesCrossed, TakenRecord], bytes]:
    lying: dict[TakenRecord, bytes] = {}
    for place in world.broker.logs:
        for _, entry in world.broker.read_committed(place, 0, world.broker.last_stable_offset(place)):
            if entry.value is not None:
                raw = InputRecord(place.topic, 0, 0, entry.key, entry.value)
                lying[describe_source(raw, decode(entry.value))] = entry.value
    return lambda step, taken: lying[taken]


def reveal(world: World, party: str) -> list[RevealedStream | RevealedStep]:
    steps = gather_steps(books_of(world, party))
    return list(reveal_steps(world.keyrings[party], JOB_ID, steps, fetch_from(world)))


def replay(
    party: str, revealed: list[RevealedStream | RevealedStep], datasets: Mapping[str, Dataset] = pipeline.DATASETS
) -> tuple[Replay, Difference | None]:
    def prepare(record: Record) -> Dataset | None:
        return datasets[party] if pipeline.prepare(party, record) is not None else None

    topics = {stage: make_topics(pipeline.make_plan(party, stage)) for stage in STAGES}
    actor = Actor(
        party,
        JOB_ID,
        machines_of(party),
        lambda stage: topics[Stage(stage)],
        Store(),
        PEERS[party],
        prepare,
        (),
        CHUNK_BYTES,
        epoch_records=2,
    )
    again = Replay(actor)
    for each in revealed:
        if isinstance(each, RevealedStream):
            again.learn(each)
        elif (difference := again.take(each)) is not None:
            return again, difference
    return again, None


@pytest.fixture(scope="module")
def world() -> World:
    return pipeline.make_world().run()


@pytest.mark.parametrize("party", pipeline.PARTIES)
def test_an_honest_party_comes_out_to_the_byte(world: World, party: str) -> None:
    again, difference = replay(party, reveal(world, party))
    assert difference is None
    sent = [each for book in books_of(world, party) for each in book.crossed if each.is_sent]
    assert sum(again.equal.values()) == len(sent) > 20
    assert {each.origin for each in sent} == set(STAGES)
    assert sum(bool(each.wrapped_key) for each in sent) > 7, "several epochs a stream"


def test_after_crashes_it_comes_out_just_as_well() -> None:
    """Every thirtieth call of the broker kills somebody, in between steps and in the middle of commits."""
    made = pipeline.make_world()
    made.broker.fate_of = lambda number, name: Fate.CRASH if number % 30 == 0 else Fate.NORMAL
    made.run()
    assert made.crashes > 20
    for party in pipeline.PARTIES:
        assert replay(party, reveal(made, party))[1] is None


@dataclass
class Forger:
    """An honest machine, which takes its step `number` with another seed."""

    stage: str
    honest: Machine
    forged: Machine
    number: int
    steps: int = 0

    def initial(self, key: str) -> Record:
        return self.honest.initial(key)

    def step(self, state: Record, event: Event) -> Step:
        self.steps += 1
        return (self.forged if self.steps == self.number else self.honest).step(state, event)


OTHER_SECRET = b"another secret of the guest"
FORGED: dict[Stage, Machine] = {
    Stage.ALIGN: AlignMachine("guest", OTHER_SECRET, 16),
    Stage.TRAIN: TrainMachine("guest", OTHER_SECRET, pipeline.KEY_BITS, 10),
}


def sent_by_guest(world: World, stage: Stage) -> list[tuple[int, bytes]]:
    """What left the guest's stage, without what only comes of other bytes from the host."""
    books = [each for book in books_of(world, "guest") for each in book.crossed]
    return [(each.sequence, each.digest) for each in books if each.is_sent and each.origin == stage]


@pytest.mark.parametrize("stage", FORGED)
def test_a_step_with_another_seed_is_named_at_the_record_that_it_sent(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, world: World
) -> None:
    found = 0
    for number in range(1, 13):
        forger = Forger(stage, pipeline.machines_of("guest")[stage](), FORGED[stage], number)

        def make(party: str, at: Stage, forger: Machine = forger) -> Machine:
            return forger if (party, at) == ("guest", stage) else pipeline.machines_of(party)[at]()

        monkeypatch.setattr(pipeline, "make_machine", make)
        made = pipeline.make_world().run()
        assert replay("host", reveal(made, "host"))[1] is None, "the other party kept to the protocol"
        _, difference = replay("guest", reveal(made, "guest"))
        if sent_by_guest(made, stage) == sent_by_guest(world, stage):
            assert difference is None, "a step that draws nothing is the same with any seed"
        else:
            assert difference is not None and difference.stage == stage, number
            assert difference.detail.endswith(f"to host's stage {stage} is not what the protocol sends")
            found += 1
    assert found >= 2


def test_other_rows_than_were_used_are_named(world: World) -> None:
    table = pipeline.DATASETS["guest"]
    values = table.values.copy()
    values[3, 1] += 0.5
    _, difference = replay("guest", reveal(world, "guest"), {"guest": replace(table, values=values)})
    assert difference is not None
    assert difference.stage == Stage.TRAIN and difference.detail.endswith("is not what the protocol sends")


@pytest.mark.parametrize("party", pipeline.PARTIES)
def test_whatever_the_books_say_otherwise_is_named(world: World, party: str) -> None:
    """Each tenth record that was sent: with another digest, left out, and a second time."""
    revealed = reveal(world, party)
    steps = [(n, each) for n, each in enumerate(revealed) if isinstance(each, RevealedStep)]
    told = [(n, each, k) for n, each in steps for k, crossed in enumerate(each.step.crossed) if crossed.is_sent]
    for n, each, k in told[::10]:
        crossed = each.step.crossed
        where = f"the record {crossed[k].sequence}.{crossed[k].chunk_index} to "
        changed = (*crossed[:k], replace(crossed[k], digest=bytes(32)), *crossed[k + 1 :])
        repeated = (*crossed, replace(crossed[k], sequence=crossed[k].sequence + 9))
        for other, said in ((changed, "is not what the"), (crossed[:k], "was not sent"), (repeated, "sends nothing")):
            altered = [*revealed]
            altered[n] = replace(each, step=replace(each.step, crossed=other))
            _, difference = replay(party, altered)
            assert difference is not None and difference.stage == each.step.stage
            assert said in difference.detail
            assert where in difference.detail or other is repeated


def test_inputs_that_did_not_come_are_named(world: World) -> None:
    revealed = reveal(world, "host")

    def find(wanted: Callable[[EnvelopesCrossed], bool]) -> tuple[int, RevealedStep]:
        return next(
            (n, each) for n, each in enumerate(revealed) if isinstance(each, RevealedStep) and wanted(each.step)
        )

    def swap(n: int, each: RevealedStep) -> str:
        _, difference = replay("host", [*revealed[:n], each, *revealed[n + 1 :]])
        assert difference is not None
        return difference.detail

    n, peers = find(lambda step: step.taken is not None and step.taken.sender == "guest")
    assert swap(n, replace(peers, value=peers.value[:-1] + b"x")).endswith("from guest is not what came")
    n, events = find(lambda step: step.taken is not None and not step.taken.sender)
    assert events.step.taken is not None
    assert swap(n, replace(events, value=peers.value)).endswith("is not what was taken")
    invented = replace(events.step.taken, digest=hashlib.sha256(peers.value).digest())
    lie = replace(events, value=peers.value, step=replace(events.step, taken=invented))
    assert swap(n, lie) == "a SealedRecord was taken that no stage of host told"
    n, own = find(lambda step: step.taken is not None and step.taken.sender == "host" and step.stage == Stage.TRAIN)
    assert own.step.taken is not None
    later = replace(own, step=replace(own.step, taken=replace(own.step.taken, sequence=7)))
    assert swap(n, later) == f"the record 7.0 from the own stage {own.step.taken.origin} was taken and not sent by it"
    n, timer = find(lambda step: step.taken is not None)
    unset = replace(timer, step=replace(timer.step, taken=None, due=("patience",)))
    assert swap(n, unset) == "timers are said to be due that were not set: patience"


def test_without_the_secret_of_a_stream_nothing_of_it_is_taken(world: World) -> None:
    revealed = reveal(world, "host")
    withheld = [each for each in revealed if not isinstance(each, RevealedStream) or each.sender == "host"]
    _, difference = replay("host", withheld)
    assert difference is not None and "from guest is not one to take" in difference.detail


def test_steps_that_told_in_pieces_are_whole_again() -> None:
    def entry(stage: str, taken: TakenRecord | None, *sequences: int) -> EnvelopesCrossed:
        sent = tuple(CrossedEnvelope("host", stage, stage, True, each, 0, b"") for each in sequences)
        return EnvelopesCrossed(JOB_ID, "guest", stage, b"", sent, taken)

    taken = TakenRecord("topic", "host", "train", 0, 0)
    books = [entry("train", taken, 0, 1), entry("align", taken, 5), entry("train", None, 2), entry("train", taken, 3)]
    assert gather_steps(books) == [entry("train", taken, 0, 1, 2), entry("align", taken, 5), entry("train", taken, 3)]
