"""Joiners of one party on the fake broker: processes that are crashed and started again, and what they wrote."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from schemas.codec import decode
from schemas.deadletter import DeadLetter
from schemas.record import Record
from schemas.scoring import (
    AnswerLate,
    RoutedScore,
    ScoreAnswer,
    ScoreAudited,
    ScoreJoined,
    ScoresAnswered,
    ScoresRouted,
)
from streams.engine.errors import SlotTakenError
from streams.engine.join_process import PRODUCERS, SEAL_PURPOSE, JoinProcess
from streams.engine.join_slices import JoinStateLog, JoinTopics
from streams.engine.messages import MessageSeal
from streams.engine.partitioner import partition_of
from streams.engine.ports import TopicPartition
from streams.engine.seal import Keyring
from streams.engine.transaction import Transactor
from streams.machines.score.ledger import JoinRules
from tests.simulation.fake_broker import Crash, FakeBroker, Fate
from tests.simulation.fake_log import FakeClock, FakeLog, InlineWorker
from tests.simulation.harness import MAX_ROUNDS, make_keyrings

GUEST, HOST = "guest", "host"
TOPICS = JoinTopics(GUEST, "score-joiner", "routed", "answers", "state", "results", "audit", "dead")
GROUP = "joiners"
_KEYRINGS = make_keyrings((GUEST, HOST))


class MicroFakeClock(FakeClock):
    """As its base, in microseconds as well."""

    def now_us(self) -> int:
        return self.now_ms() * 1000


@dataclass
class Told:
    """What the joiners committed. The times of writing are left out."""

    joined: Counter[str]
    audited: Counter[str]
    late: Counter[str]
    letters: Counter[str]


@dataclass
class JoinWorld:
    """`seed` makes markers travel late and polls bring few records; `slots` joiners share the partitions."""

    partitions: int = 1
    slots: int = 1
    seed: int | None = None
    poll_records: int = 100
    most_outcomes: int = 1_000
    rules: JoinRules = field(default_factory=lambda: JoinRules(GUEST))
    make_transactor: Callable[[FakeLog], Transactor] = lambda log: Transactor(log.make_producer, PRODUCERS)
    make_state_log: Callable[[Keyring], JoinStateLog] | None = None
    restarts_after_crash: bool = True
    crashes: int = field(default=0, init=False)
    fenced: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.clock = MicroFakeClock()
        self.random = random.Random(self.seed)
        counts = dict.fromkeys((*TOPICS.inputs, TOPICS.state, TOPICS.results, TOPICS.audit), self.partitions)
        self.broker = FakeBroker({**counts, TOPICS.dead_letter: 1}, self.clock.now_ms, self.seed)
        self.processes: list[JoinProcess | None] = [None] * self.slots
        self.is_gone = [False] * self.slots
        self.current = 0
        #: Processes that were replaced while they were paused, and believe that they are alive.
        self.zombies: list[JoinProcess] = []

    # --- what the router and the host write ---

    def route(self, *items: RoutedScore) -> None:
        """Each partition's items as one record."""
        for partition in range(self.partitions):
            own = tuple(item for item in items if self.partition_of(item.request_id) == partition)
            if own:
                seal = MessageSeal(_KEYRINGS[GUEST], SEAL_PURPOSE)
                self.write(TOPICS.routed, partition, seal.seal(ScoresRouted(own), GUEST, TOPICS.routed, partition))

    def answer(self, *answers: ScoreAnswer) -> None:
        """Each partition's answers as one record."""
        for partition in range(self.partitions):
            own = tuple(answer for answer in answers if self.partition_of(answer.request_id) == partition)
            if own:
                seal = MessageSeal(_KEYRINGS[HOST], SEAL_PURPOSE)
                self.write(TOPICS.answers, partition, seal.seal(ScoresAnswered(own), GUEST, TOPICS.answers, partition))

    def write(self, topic: str, partition: int, value: bytes) -> None:
        self.broker.append(TopicPartition(topic, partition), None, value)

    def partition_of(self, request_id: str) -> int:
        return partition_of(request_id.encode(), self.partitions)

    # --- running ---

    def run(self) -> JoinWorld:
        """Until nothing is left to do."""
        for _ in range(MAX_ROUNDS):
            if not self.round() and not self._wait():
                return self
        raise AssertionError("the joiners do not come to rest")

    def round(self) -> bool:
        """One turn of every process. False when none had anything to do and nothing is under way."""
        busy = [self._turn(slot) for slot in range(self.slots)]
        busy += [self._turn_zombie(zombie) for zombie in list(self.zombies)]
        return self.broker.tick() or any(busy)

    def replace_current(self) -> None:
        """Call it from within a call of a process: that one is paused there, and another is started in its place."""
        slot, zombie = self.current, self.processes[self.current]
        assert zombie is not None
        self.processes[slot] = None
        self.run()
        self.current = slot
        self.zombies.append(zombie)

    def _turn(self, slot: int) -> bool:
        process = self.processes[slot]
        if process is None and self.is_gone[slot]:
            self.broker.expire(GROUP, self._instance(slot))
            return False
        self.current = slot
        try:
            if process is None:
                process = self.processes[slot] = self.make(slot)
                process.start()
                return True
            return process.loop.turn(0)
        except Crash:
            self.crashes += 1
            self._bury(slot, process)
            self.is_gone[slot] = not self.restarts_after_crash
        except SlotTakenError:
            self.fenced += 1
            self._bury(slot, process)
        return True

    def _turn_zombie(self, zombie: JoinProcess) -> bool:
        try:
            return zombie.loop.turn(0)
        except SlotTakenError:
            self.fenced += 1
            self.zombies.remove(zombie)
        return True

    def _bury(self, slot: int, process: JoinProcess | None) -> None:
        if self.processes[slot] is process:
            self.processes[slot] = None
        self.zombies = [zombie for zombie in self.zombies if zombie is not process]

    def make(self, slot: int) -> JoinProcess:
        limit = None if self.seed is None else lambda: self.random.randint(1, 4)
        log = FakeLog(self.broker, GROUP, self._instance(slot), TOPICS.inputs, max_records=limit)
        return JoinProcess(
            TOPICS,
            self.rules,
            log,
            _KEYRINGS[GUEST],
            clock=self.clock,
            worker=InlineWorker(),
            transactor=self.make_transactor(log),
            state_log=None if self.make_state_log is None else self.make_state_log(_KEYRINGS[GUEST]),
            poll_records=self.poll_records,
            most_outcomes=self.most_outcomes,
        )

    def _instance(self, slot: int) -> str:
        return f"joiner.{slot}"

    def _wait(self) -> bool:
        """Nothing to do now: go to the time at which there is."""
        times = [
            due for process in self.processes if process is not None and (due := process.loop.next_due_ms()) is not None
        ]
        if (timeout := self.broker.next_timeout_ms()) is not None:
            times.append(timeout)
        if not times:
            return False
        self.clock.advance_to(max(min(times), self.clock.now_ms()))
        return True

    # --- the result ---

    def told(self) -> Told:
        """What was committed to results, audit and dead letters, and a check that nothing is left open."""
        assert self.broker.undecided == [], "an open transaction"
        assert not any(group.pending for group in self.broker.groups.values()), "undecided positions"
        assert all(process.loop.is_whole for process in self.processes if process is not None)
        audit = self.records(TOPICS.audit)
        return Told(
            joined=Counter(_line(each) for each in self.records(TOPICS.results)),
            audited=Counter(_line(each) for each in audit if isinstance(each, ScoreAudited)),
            late=Counter(_line(each) for each in audit if isinstance(each, AnswerLate)),
            letters=Counter(_line(each) for each in self.records(TOPICS.dead_letter)),
        )

    def records(self, topic: str) -> list[Record]:
        places = [place for place in self.broker.logs if place.topic == topic]
        return [decode(value) for place in places for _, value in self.broker.written(place) if value is not None]


def _line(record: Record) -> str:
    match record:
        case ScoreJoined() | ScoreAudited():
            return f"{record.request_id} {record.purpose} {record.outcome} {record.reason} {record.points}"
        case AnswerLate():
            return f"{record.request_id} {record.purpose} {record.host} {record.version} {record.value}"
        case DeadLetter():
            return f"{record.topic} {record.offset} {record.reason}"
    raise AssertionError(f"a {type(record).__name__} is not the joiner's")


def pause_at(world: JoinWorld, number: int) -> None:
    """The process that makes this call is paused there and replaced."""

    def decide(n: int, name: str) -> Fate:
        if n == number:
            world.replace_current()
        return Fate.NORMAL

    world.broker.fate_of = decide
