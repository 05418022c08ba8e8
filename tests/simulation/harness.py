"""Runs the processes of several parties and stages in one thread on a fake broker, and crashes them as it is told.

A new machine needs its `Plan`s and a `World.submit`; see `test_toy.py`. What a run comes to is `World.story()`: all
that was committed to topics, by stream. It must be the same whatever happened on the way.
"""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from schemas.audit import EnvelopesCrossed
from schemas.audit_statements import AUDIT
from schemas.codec import blobs_of, decode, encode
from schemas.cohorts import COHORT
from schemas.conversion import blob_walker
from schemas.deadletter import DeadLetter
from schemas.envelope import SealedRecord
from schemas.jobs import PIPELINE
from schemas.record import Record
from schemas.tasks import TaskProgressed, TaskSucceeded
from streams import kem
from streams.engine.agreement import Agreement
from streams.engine.chunks import seal_chunks
from streams.engine.epochs import Opener
from streams.engine.errors import SlotTakenError
from streams.engine.partitioner import partition_of
from streams.engine.ports import TopicPartition
from streams.engine.process import StageProcess
from streams.engine.seal import NO_EPOCH, EpochKey, Keyring, Stream, stream_of
from streams.engine.stepper import Prepare
from streams.engine.topics import StageTopics
from streams.engine.transaction import Transactor
from streams.machine import Event, Machine, Step
from tests.simulation.fake_broker import Crash, FakeBroker, Fate
from tests.simulation.fake_log import FakeBlobStore, FakeClock, FakeLog, InlineWorker

#: More than any run here needs; a run that reaches it does not come to rest.
MAX_ROUNDS = 20_000
SMALL_CHUNK_BYTES = 400

#: (topic, key, author) -> the records that this author committed there, in order.
Story = dict[tuple[str, str, str], tuple[bytes, ...]]


@dataclass(frozen=True)
class Plan:
    """One process that shall run. Several slots of one party and stage share the partitions."""

    party: str
    stage: str
    make_machine: Callable[[], Machine]
    slot: int = 0
    prepare: Prepare | None = None
    plain_commands: frozenset[type[Record]] = frozenset()
    plain_events: frozenset[type[Record]] = frozenset()

    @property
    def name(self) -> str:
        return f"{self.party}.{self.stage}.{self.slot}"


@dataclass
class Running:
    """A plan and the process that carries it out now, if one lives."""

    plan: Plan
    process: StageProcess | None = None
    #: False: who died here stays dead, and the group notices.
    restarts: bool = True


@dataclass
class World:
    """Everything. `seed` makes markers travel late and polls bring few records, in a way that the seed repeats."""

    plans: Sequence[Plan]
    partitions: int = 1
    seed: int | None = None
    poll_records: int = 500
    chunk_bytes: int = SMALL_CHUNK_BYTES
    #: Few, so that jobs go through several epochs.
    epoch_records: int = 2
    #: For engines that do it wrong.
    make_transactor: Callable[[FakeLog], Transactor] = lambda log: Transactor(log.make_producer)
    make_log: Callable[..., FakeLog] = FakeLog
    adjust: Callable[[StageProcess], None] = lambda process: None
    restarts_after_crash: bool = True
    #: What the rest of the world does at the end of a round; True when it did something.
    respond: Callable[[World], bool] = lambda world: False
    #: Whose turn in this round is next, and whether anybody before had something to do.
    cursor: int = field(default=0, init=False)
    is_busy: bool = field(default=False, init=False)
    crashes: int = field(default=0, init=False)
    fenced: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.clock = FakeClock()
        self.parties = sorted({plan.party for plan in self.plans})
        self.keyrings = dict(make_keyrings(tuple(self.parties)))
        counts: dict[str, int] = {}
        for plan in self.plans:
            topics = make_topics(plan)
            for topic in (*topics.inputs, topics.state, topics.events, topics.registry, topics.audit):
                counts[topic] = self.partitions
            counts[topics.dead_letter] = 1
            if topics.results:
                counts[topics.results] = self.partitions
            # Stages hand over to others, whether these run here or not.
            counts.update({topics.commands_of(stage): self.partitions for stage in (*PIPELINE, COHORT)})
        self.broker = FakeBroker(counts, self.clock.now_ms, self.seed)
        self.stores = {party: FakeBlobStore(self.broker) for party in self.parties}
        self.running = [Running(plan) for plan in self.plans]
        self.current = self.running[0]
        #: Processes that were replaced while they were paused, and believe that they are alive.
        self.zombies: list[tuple[Running, StageProcess]] = []

    # --- input ---

    def submit(self, party: str, stage: str, record: Record) -> None:
        """What a client does: a plain record on the party's command topic."""
        self.publish(commands_topic(stage, party), record)

    def publish(self, topic: str, record: Record) -> None:
        """A plain record of somebody who is not run here."""
        key = record.job_id.encode()  # type: ignore[attr-defined]
        self.broker.append(TopicPartition(topic, partition_of(key, self.partitions)), key, encode(record))

    def hand_over(self, party: str, origin: str, stage: str, job_id: str, *records: Record) -> None:
        """What another stage of the party would have put on this one's command topic before."""
        keyring, key = self.keyrings[party], job_id.encode()
        stream = Stream(party, party, job_id, origin, stage)
        place = TopicPartition(commands_topic(stage, party), partition_of(key, self.partitions))
        for sequence, record in enumerate(records):
            for blob in blobs_of(record):
                stored = keyring.seal_blob(blob.sha256, blob.content)
                self.stores[party].objects[keyring.blob_name(blob.sha256)] = stored
            for envelope in seal_chunks(keyring, stream, sequence, encode(record), self.chunk_bytes):
                self.broker.append(place, key, encode(envelope))

    # --- running ---

    def run(self) -> World:
        """Until nothing is left to do."""
        for _ in range(MAX_ROUNDS):
            if not self.round() and not self._wait():
                return self
        raise AssertionError("the processes do not come to rest")

    def round(self) -> bool:
        """One turn of every process. False when none had anything to do and nothing is under way."""
        while self.cursor < len(self.running):
            self.turn_next()
        return self.end_round()

    def turn_next(self) -> None:
        """The next process's turn."""
        each = self.running[self.cursor]
        self.cursor += 1
        self.is_busy |= self._turn(each)

    def end_round(self) -> bool:
        """What is not a process's turn. False when the whole round was idle."""
        busy = [self.is_busy, *(self._turn_zombie(place, zombie) for place, zombie in list(self.zombies))]
        self.cursor, self.is_busy = 0, False
        return any((self.respond(self), self.broker.tick(), *busy))

    def advance(self) -> bool:
        """The smallest part of `run`; False when nothing is left to do."""
        if self.cursor < len(self.running):
            self.turn_next()
            return True
        return self.end_round() or self._wait()

    def _turn(self, each: Running) -> bool:
        process = each.process
        if process is None and not each.restarts:
            self.broker.expire(f"vfl.{each.plan.party}.{each.plan.stage}.v1", f"vfl.{each.plan.name}")
            return False
        self.current = each
        try:
            if process is None:
                # Known before it starts: it may be killed or paused in the middle of that.
                process = each.process = self._make(each.plan)
                process.start()
                return True
            return process.loop.turn(0)
        except Crash:
            self.crashes += 1
            self._bury(each, process)
            each.restarts = self.restarts_after_crash
        except SlotTakenError:
            self.fenced += 1
            self._bury(each, process)
        return True

    def _turn_zombie(self, place: Running, zombie: StageProcess) -> bool:
        self.current = place
        try:
            return zombie.loop.turn(0)
        except SlotTakenError:
            self.fenced += 1
            self._bury(place, zombie)
        return True

    def _bury(self, each: Running, process: StageProcess | None) -> None:
        if each.process is process:
            each.process = None
        self.zombies = [(place, zombie) for place, zombie in self.zombies if zombie is not process]

    def replace_current(self) -> None:
        """Call it from within a call of a process: that one is paused there, and another is started in its place."""
        place = self.current
        zombie = place.process
        assert zombie is not None
        place.process = None
        # The round that this call is part of goes on afterwards; the others live whole rounds in the meantime.
        cursor, self.cursor = self.cursor, 0
        self.run()
        self.cursor, self.current = cursor, place
        self.zombies.append((place, zombie))

    def _make(self, plan: Plan) -> StageProcess:
        return self._assemble(plan, f"vfl.{plan.name}", self.make_log)

    def make_twin(self, plan: Plan, instance: str) -> StageProcess:
        """One more process of the plan's group, which the world does not run."""
        return self._assemble(plan, instance, FakeLog)

    def _assemble(self, plan: Plan, instance: str, make_log: Callable[..., FakeLog]) -> StageProcess:
        topics = make_topics(plan)
        limit = None if self.seed is None else lambda: self.random.randint(1, 4)
        log = make_log(self.broker, f"vfl.{plan.party}.{plan.stage}.v1", instance, topics.inputs, max_records=limit)
        process = StageProcess(
            plan.make_machine(),
            plan.party,
            log,
            self.keyrings[plan.party],
            self.stores[plan.party],
            plan.prepare,
            self.clock,
            topics,
            worker=InlineWorker(),
            transactor=self.make_transactor(log),
            poll_records=self.poll_records,
            chunk_bytes=self.chunk_bytes,
            epoch_records=self.epoch_records,
        )
        self.adjust(process)
        return process

    def _wait(self) -> bool:
        """Nothing to do now: go to the time at which there is."""
        alive = [each.process for each in self.running if each.process is not None]
        times = [due for process in alive if (due := process.loop.next_due_ms()) is not None]
        if (timeout := self.broker.next_timeout_ms()) is not None:
            times.append(timeout)
        if not times:
            return False
        self.clock.advance_to(max(min(times), self.clock.now_ms()))
        return True

    # --- the result ---

    def check_rest(self) -> None:
        """Everybody lives and has all that is theirs, and no transaction is left open."""
        assert all(each.process is not None and each.process.loop.is_whole for each in self.running)
        assert self.broker.undecided == [], "an open transaction"
        assert not any(group.pending for group in self.broker.groups.values()), "undecided positions"
        assert self.broker.held_back == []

    def story(self) -> Story:
        """What was committed, but for states: whose offsets and times may differ."""
        found: dict[tuple[str, str, str], list[bytes]] = {}
        for place in self.broker.logs:
            if ".state." in place.topic:
                continue
            for key, value in self.broker.written(place):
                assert key is not None and value is not None
                author, told = _describe(value)
                found.setdefault((place.topic, key.decode(), author), []).append(told)
        return {where: tuple(values) for where, values in found.items()}

    def content(self) -> Story:
        """As `story`, for machines whose steps depend on which of two parties was heard first: in no order, opened.

        A record that is there twice or not at all still shows. How far things were when (progress, traffic) does not.
        """
        found: dict[tuple[str, str, str], list[bytes]] = {}
        pieces: dict[Stream, list[bytes]] = {}
        openers = {party: Opener(keyring) for party, keyring in self.keyrings.items()}
        for place in self.broker.logs:
            for key, value in [] if ".state." in place.topic else self.broker.written(place):
                assert key is not None and value is not None
                record = decode(value)
                author, told = _describe(value)
                if isinstance(record, SealedRecord):
                    stream = stream_of(record)
                    pieces.setdefault(stream, []).append(openers[record.receiver].open(record))
                    if len(pieces[stream]) < record.chunk_count:
                        continue
                    told = b"".join(pieces.pop(stream))
                if (kept := _forget_progress(told, record)) is not None:
                    found.setdefault((place.topic, key.decode(), author), []).append(kept)
        assert not pieces
        return {where: tuple(sorted(values)) for where, values in found.items()}

    def check_audit(self) -> None:
        """Both ends of each stream have written down what crossed, once, in its order, and nothing else."""
        crossed: dict[tuple[str, ...], list[tuple[int, int, bytes]]] = {}
        for place in self.broker.logs:
            for _, value in self.broker.written(place) if ".exchange." in place.topic else []:
                envelope = decode(value or b"")
                assert isinstance(envelope, SealedRecord)
                stream = (envelope.sender, envelope.receiver, envelope.job_id, envelope.origin, envelope.stage)
                digest = hashlib.sha256(value or b"").digest()
                crossed.setdefault(stream, []).append((envelope.sequence, envelope.chunk_index, digest))
        for party in self.parties:
            told: dict[tuple[str, ...], list[tuple[int, int, bytes]]] = {}
            for record in self.records(f"vfl.job.audit.{party}.v1"):
                assert isinstance(record, EnvelopesCrossed)
                for each in record.crossed:
                    ends = (party, each.peer) if each.is_sent else (each.peer, party)
                    stream = (*ends, record.job_id, each.origin, each.stage)
                    told.setdefault(stream, []).append((each.sequence, each.chunk_index, each.digest))
            assert told == {stream: entries for stream, entries in crossed.items() if party in stream[:2]}

    def records(self, topic: str) -> list[Record]:
        """The plain records that the engines committed to a topic."""
        places = [place for place in self.broker.logs if place.topic == topic]
        return [decode(value) for place in places for _, value in self.broker.written(place) if value is not None]

    def mirror_again(self, count: int = 1) -> None:
        """Append copies of what lies on exchange topics already, as a mirror does after a crash of its own."""
        places = [p for p in self.broker.logs if ".exchange." in p.topic]
        for place in self.random.sample(places, min(count, len(places))):
            visible = self.broker.read_committed(place, 0, self.broker.last_stable_offset(place))
            if visible:
                start = self.random.randrange(len(visible))
                for _, entry in visible[start:]:
                    self.broker.append(place, entry.key, entry.value)


def _describe(value: bytes) -> tuple[str, bytes]:
    """Who wrote the record, and what of it must not differ between runs."""
    record = decode(value)
    match record:
        case SealedRecord():
            return f"{record.sender}/{record.origin}", value
        case DeadLetter():
            return f"{record.topic}/{record.reason}", record.value or b""
    return f"{getattr(record, 'party', '')}/{getattr(record, 'stage', '')}", value


def _forget_progress(told: bytes, record: Record) -> bytes | None:
    match record:
        case TaskProgressed() | EnvelopesCrossed():
            # What it says of envelopes is compared with these: see `check_audit`.
            return None
        case TaskSucceeded():
            return encode(replace(record, bytes_sent=0, bytes_received=0, records_sent=0, records_received=0))
    return told


# --- the parties' things ---


def commands_topic(stage: str, party: str) -> str:
    return f"vfl.{stage}.commands.{party}.v1"


def exchange_topic(stage: str, party: str) -> str:
    return f"vfl.{stage}.exchange.{party}.v1"


def events_topic(party: str) -> str:
    return f"vfl.job.events.{party}.v1"


def make_topics(plan: Plan) -> StageTopics:
    return StageTopics(
        party=plan.party,
        stage=plan.stage,
        commands=commands_topic(plan.stage, plan.party),
        exchange="" if plan.stage == COHORT else exchange_topic(plan.stage, plan.party),
        state=f"vfl.{plan.stage}.state.{plan.party}.v1",
        events=events_topic(plan.party),
        registry=f"vfl.model.registry.{plan.party}.v1",
        dead_letter=f"vfl.deadletter.{plan.party}.v1",
        audit=f"vfl.job.audit.{plan.party}.v1",
        exchange_of=lambda peer: exchange_topic(plan.stage, peer),
        commands_of=lambda stage: commands_topic(stage, plan.party),
        plain_commands=plan.plain_commands,
        plain_events=plan.plain_events,
        follows_audit=plan.stage == AUDIT,
        results=f"vfl.{AUDIT}.results.{plan.party}.v1" if plan.stage == AUDIT else "",
        is_ordered=plan.stage != AUDIT,
    )


@functools.cache
def make_keyrings(parties: tuple[str, ...]) -> dict[str, Keyring]:
    """Keys that are the same in every run, so that sealed records can be compared."""
    private = {party: hashlib.sha256(f"key of {party}".encode()).digest() for party in parties}
    public = {p: X25519PrivateKey.from_private_bytes(k).public_key().public_bytes_raw() for p, k in private.items()}
    seeds = {party: hashlib.sha256(f"seed of {party}".encode()).digest() for party in parties}
    kem_keys = {party: kem.public_key_of(seed) for party, seed in seeds.items()}
    return {
        party: MemoKeyring(
            party,
            Agreement(
                key,
                {peer: public[peer] for peer in public if peer != party},
                b"manifest" * 4,
                seeds[party],
                {peer: kem_keys[peer] for peer in public if peer != party},
            ),
            hashlib.sha256(f"storage of {party}".encode()).digest(),
        )
        for party, key in private.items()
    }


def seal_in_epoch(
    keyring: Keyring, stream: Stream, sequence: int, plaintext: bytes, number: int = 1, **chunk: Any
) -> SealedRecord:
    """As a peer that keeps the rules, but brings its epoch's key along with each first chunk."""
    mark = keyring.mark_for(stream.receiver)
    epoch = EpochKey(number, keyring.epoch_key(stream, number, mark))
    wrapped_key = b"" if chunk.get("chunk_index") else keyring.wrap_epoch_key(stream, epoch, mark)
    if "digest" not in chunk and "chunk_count" not in chunk:
        chunk["digest"] = keyring.digest(stream, plaintext, epoch=epoch)
    return keyring.seal(stream, sequence, plaintext, epoch=epoch, wrapped_key=wrapped_key, **chunk)


class MemoKeyring(Keyring):
    """Seals and opens equal bytes once: it is a function, too."""

    def __init__(
        self, party: str, current: Agreement, storage_secret: bytes, storage: Mapping[int, bytes] | None = None
    ) -> None:
        super().__init__(party, current, storage_secret, storage=storage)
        self._sealed: dict[tuple[object, ...], SealedRecord] = {}
        self._opened: dict[tuple[SealedRecord, EpochKey], bytes] = {}
        self._unwrapped: dict[SealedRecord, bytes] = {}
        self._wrapped: dict[tuple[object, ...], bytes] = {}
        self._states: dict[tuple[object, ...], bytes] = {}

    def seal(
        self,
        stream: Stream,
        sequence: int,
        plaintext: bytes,
        *,
        chunk_index: int = 0,
        chunk_count: int = 1,
        digest: bytes = b"",
        epoch: EpochKey = NO_EPOCH,
        wrapped_key: bytes = b"",
    ) -> SealedRecord:
        key = (stream, sequence, plaintext, chunk_index, chunk_count, digest, epoch, wrapped_key)
        if key not in self._sealed:
            self._sealed[key] = super().seal(
                stream,
                sequence,
                plaintext,
                chunk_index=chunk_index,
                chunk_count=chunk_count,
                digest=digest,
                epoch=epoch,
                wrapped_key=wrapped_key,
            )
        return self._sealed[key]

    def open(self, envelope: SealedRecord, epoch: EpochKey = NO_EPOCH) -> bytes:
        if (envelope, epoch) not in self._opened:
            self._opened[envelope, epoch] = super().open(envelope, epoch)
        return self._opened[envelope, epoch]

    def unwrap_epoch_key(self, envelope: SealedRecord) -> bytes:
        if envelope not in self._unwrapped:
            self._unwrapped[envelope] = super().unwrap_epoch_key(envelope)
        return self._unwrapped[envelope]

    def wrap_epoch_key(self, stream: Stream, epoch: EpochKey, mark: bytes) -> bytes:
        """Once: the real one is different each time, and what is sent could not be compared between runs."""
        key = (stream, epoch, mark)
        if key not in self._wrapped:
            self._wrapped[key] = super().wrap_epoch_key(stream, epoch, mark)
        return self._wrapped[key]

    def seal_state(self, topic: str, partition: int, key: bytes, plaintext: bytes) -> bytes:
        memo_key = (topic, partition, key, plaintext)
        if memo_key not in self._states:
            self._states[memo_key] = super().seal_state(topic, partition, key, plaintext)
        return self._states[memo_key]


@dataclass
class Memory:
    """The steps that were taken, by machine, state, sender, resource and record."""

    steps: dict[tuple[object, ...], Step] = field(default_factory=dict)
    #: Those that were taken again from a state that came out of the log, with an equal result.
    retaken: set[tuple[object, ...]] = field(default_factory=set)
    #: What the states in `steps` are in bytes, by their identity: they live as long as this does.
    encodings: dict[int, bytes] = field(default_factory=dict)


class MemoMachine:
    """Takes each step once and repeats its result: steps are pure, and simulations take the same ones again and again.

    Once it was taken from a state in memory, it is taken once more from a state that was restored: no other result may
    come out. The memory is shared between the runs of a test; `name` says what makes the machine (class, party, keys).
    """

    def __init__(self, machine: Machine, name: str, memory: Memory) -> None:
        self.stage = machine.stage
        self._machine = machine
        self._name = name
        self._memory = memory

    def initial(self, key: str) -> Record:
        return self._machine.initial(key)

    def step(self, state: Record, event: Event) -> Step:
        # Fetched at first use, blobs would make the first run differ from the others in calls of the store.
        _fetch_blobs(state)
        _fetch_blobs(event.record)
        memory = self._memory
        before = memory.encodings.get(id(state))
        is_restored = before is None
        if before is None:
            before = encode(state)
        key = (self._name, before, event.sender, event.traffic, event.resource is None, encode(event.record))
        if key not in memory.steps:
            memory.steps[key] = self._take(state, event)
        elif is_restored and key not in memory.retaken:
            again, first = self._machine.step(state, event), memory.steps[key]
            assert again.outputs == first.outputs and encode(again.state) == encode(first.state), self._name
            memory.retaken.add(key)
        return memory.steps[key]

    def _take(self, state: Record, event: Event) -> Step:
        step = self._machine.step(state, event)
        self._memory.encodings[id(step.state)] = encode(step.state)
        return step


def _fetch_blobs(record: Record) -> None:
    walk = blob_walker(type(record))
    for blob in walk(record) if walk is not None else ():
        assert blob.content is not None


# --- what can go wrong ---


def crash_at(*numbers: int) -> Callable[[int, str], Fate]:
    """The process that makes these calls dies at them."""
    return lambda number, name: Fate.CRASH if number in numbers else Fate.NORMAL


def suffer(seed: int, calls: int, rates: Mapping[Fate, float]) -> Callable[[int, str], Fate]:
    """Faults at random for the first `calls` calls; then the weather is fine."""
    chance = random.Random(seed)
    fates, weights = list(rates), list(rates.values())

    def decide(number: int, name: str) -> Fate:
        if number >= calls:
            return Fate.NORMAL
        fate = chance.choices([Fate.NORMAL, *fates], [1 - sum(weights), *weights])[0]
        if name == "put_blob" and fate is not Fate.CRASH:
            return Fate.NORMAL
        return fate

    return decide
