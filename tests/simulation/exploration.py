"""Every crash and every pair of crashes of a run, without running from the beginning and to the end for each.

    begin --turn--turn--turn-------------------------------turn-- end
                    |  \\ crash at call 7                        the committed log is what it must be
                    |   `--turn--turn-- end
                    |             \\ crash at call 12
                    |              `--turn-- a world that was seen before
                     \\ crash at call 8 ...

Before each turn the world is copied, as often as the turn makes calls; in each copy the process dies at another one.
When all crashes have happened, a world's future depends on what it holds only: one that holds the same as another
one whose end is known needs not be run. Both shortcuts are tested against runs without them, in `test_exploration.py`.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from streams.engine.ports import TopicPartition
from streams.engine.process import StageProcess
from streams.engine.slices import Slice
from streams.engine.transaction import Phase
from tests.simulation.copies import copy_world
from tests.simulation.fake_log import FakeLog
from tests.simulation.harness import MAX_ROUNDS, World, crash_at

#: What a world holds, as far as its future can depend on it.
Holding = tuple[object, ...]


@dataclass
class Explorer:
    """Walks through all runs with up to `most_crashes` crashes. `check` is called with every end that is new."""

    check: Callable[[World, str], None]
    most_crashes: int = 2
    uses_shortcut: bool = True
    #: How many runs there were with so many crashes.
    runs: dict[int, int] = field(default_factory=dict)
    #: How many calls these runs made after their last crash: each of them must be the place of one crash more.
    calls: dict[int, int] = field(default_factory=dict)
    #: Hashes of committed logs that `check` has accepted.
    accepted: set[int] = field(default_factory=set)
    #: Worlds that come to an accepted end if nobody dies any more.
    safe: set[int] = field(default_factory=set)

    def explore(self, world: World) -> None:
        """All runs of this world, which is used up. Asserts that none was left out."""
        self._walk(world, ())
        for number in range(self.most_crashes):
            assert self.runs[number + 1] == self.calls[number], "not every call was the last of a process once"

    def _walk(self, world: World, crashes: tuple[int, ...]) -> None:
        assert world.crashes == len(crashes), f"{world.crashes} crashes instead of crashes at calls {crashes}"
        branches = len(crashes) < self.most_crashes
        seen: list[int] = []
        for _ in range(MAX_ROUNDS):
            if self.uses_shortcut and world.cursor == 0 and (holding := holding_of(world)) is not None:
                seen.append(hash(holding))
                if not branches and seen[-1] in self.safe:
                    break
            before = copy_world(world) if branches else None
            first = world.broker.calls
            is_over = not world.advance()
            if before is not None:
                self._branch(before, range(first, world.broker.calls), crashes)
            if is_over:
                self._judge(world, crashes)
                break
        else:
            raise AssertionError(f"the processes do not come to rest after crashes at calls {crashes}")
        self.safe.update(seen)
        made = world.broker.calls - (crashes[-1] + 1 if crashes else 0)
        self.runs[len(crashes)] = self.runs.get(len(crashes), 0) + 1
        self.calls[len(crashes)] = self.calls.get(len(crashes), 0) + made

    def _branch(self, before: World, numbers: range, crashes: tuple[int, ...]) -> None:
        """Let the turn that follows `before` end at each of its calls."""
        for number in numbers:
            # The original serves as the last copy.
            world = before if number == numbers[-1] else copy_world(before)
            world.broker.fate_of = crash_at(number)
            world.advance()
            self._walk(world, (*crashes, number))

    def _judge(self, world: World, crashes: tuple[int, ...]) -> None:
        world.check_rest()
        log = committed_log(world)
        if log not in self.accepted:
            where = ", ".join(f"{number} ({world.broker.call_names[number]})" for number in crashes)
            self.check(world, f"crashes at calls {where}" if crashes else "no crash")
            self.accepted.add(log)


def committed_log(world: World) -> int:
    """A hash of all that engines committed to topics but states, record by record in order."""
    places = (place for place in world.broker.logs if ".state." not in place.topic)
    return hash(tuple((place, tuple(world.broker.written(place))) for place in places))


def holding_of(world: World) -> Holding | None:
    """Everything on which the world's future without faults depends; None while a transaction or a start is under way.

    Positions are counted in committed records: aborted ones and markers move offsets, and nothing else. State topics
    are left out, because they are read after a crash or a move only, and so is which blobs a process knows to be
    stored: storing one again has no effect.
    """
    broker = world.broker
    if broker.undecided or broker.held_back or world.zombies or world.seed is not None:
        return None
    visible: dict[TopicPartition, list[int]] = {}
    logs: list[object] = []
    for place in broker.logs:
        if ".state." not in place.topic:
            records = broker.read_committed(place, 0, broker.high_watermark(place))
            visible[place] = [offset for offset, _ in records]
            logs.append((place, tuple((entry.key, entry.value, entry.transaction is None) for _, entry in records)))
    processes = []
    for each in world.running:
        if each.process is None or (held := _process(each.process, visible)) is None:
            return None
        processes.append(held)
    groups = tuple((name, group.topics, _counted(group.committed, visible)) for name, group in broker.groups.items())
    stores = tuple((party, frozenset(store.objects)) for party, store in world.stores.items())
    return tuple(logs), groups, stores, tuple(processes), world.clock.now_ms(), world.cursor, world.is_busy


def _process(process: StageProcess, visible: Mapping[TopicPartition, list[int]]) -> Holding | None:
    loop, log = process.loop, process._log
    assert isinstance(log, FakeLog)
    if (
        not loop.is_whole
        or not loop._slices
        or log._lost
        or log._gained
        or process._transactor.phase is not Phase.READY
    ):
        return None
    if log.generation != log.group.generation:
        return None
    slices = tuple(_slice(each, visible) for _, each in sorted(loop._slices.items()))
    return slices, _counted(log._positions, visible), process._transactor.failures


def _slice(part: Slice, visible: Mapping[TopicPartition, list[int]]) -> Holding:
    jobs = []
    for _, job in sorted(part.jobs.items()):
        blob = None if job.machine_blob is None else job.machine_blob.sha256
        streams = (tuple(sorted(job.received.items())), tuple(sorted(job.sent.items())))
        timers = (tuple(sorted(job.timers.items())), job.next_generation)
        jobs.append((job.job_id, job.machine, blob, streams, timers, job.traffic))
    return part.partition, _counted(part.positions, visible), tuple(jobs)


def _counted(
    positions: Mapping[TopicPartition, int | None], visible: Mapping[TopicPartition, list[int]]
) -> tuple[tuple[TopicPartition, int], ...]:
    """How many committed records lie before each position."""
    return tuple((place, bisect.bisect_left(visible[place], at or 0)) for place, at in sorted(positions.items()))
