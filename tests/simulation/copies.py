"""A second world with the same past as a first one, and a future of its own."""

from __future__ import annotations

import copy

from streams.engine.process import StageProcess
from streams.engine.slices import Slice
from tests.simulation.fake_broker import Entry, FakeBroker, Group, Member, Transaction, TransactionalId
from tests.simulation.fake_log import FakeLog
from tests.simulation.harness import Running, World


def copy_world(world: World) -> World:
    """A world of its own with the same past and, with the same faults, the same future. Not for seeded worlds."""
    assert world.seed is None and not world.zombies and not world.broker.held_back
    copied = copy.copy(world)
    memo: dict[int, object] = {id(world): copied}
    for shared in (world.keyrings, *world.keyrings.values(), world.random, *world.plans):
        memo[id(shared)] = shared
    copied.clock = copy.deepcopy(world.clock, memo)
    copied.broker = _copy_broker(world.broker, copied, memo)
    copied.stores = {}
    for party, store in world.stores.items():
        kept = copied.stores[party] = copy.copy(store)
        memo[id(store)] = kept
        kept._broker, kept.objects = copied.broker, dict(store.objects)
    for group in world.broker.groups.values():
        for member in group.members.values():
            assert isinstance(member.session, FakeLog)
            _copy_log(member.session, copied.broker, memo)
    copied.running = [Running(each.plan, _copy_process(each.process, memo), each.restarts) for each in world.running]
    copied.broker.groups = {name: _copy_group(group, memo) for name, group in world.broker.groups.items()}
    copied.current = copied.running[world.running.index(world.current)]
    copied.zombies = []
    return copied


def _copy_broker(broker: FakeBroker, world: World, memo: dict[int, object]) -> FakeBroker:
    """Entries and transactions that are over do not change any more and are shared."""
    copied = copy.copy(broker)
    memo[id(broker)] = copied
    copied.now_ms = world.clock.now_ms
    copied.topics, copied.call_names = dict(broker.topics), list(broker.call_names)
    copied.held_back = []
    copied.undecided = []
    for transaction in broker.undecided:
        twin = copy.copy(transaction)
        twin.places, twin.waiting = dict(transaction.places), dict(transaction.waiting)
        twin.positions = {group: dict(positions) for group, positions in transaction.positions.items()}
        memo[id(transaction)] = twin
        copied.undecided.append(twin)
    copied.logs = {}
    for place, log in broker.logs.items():
        is_open = any(place in transaction.places for transaction in broker.undecided)
        copied.logs[place] = [_copy_entry(entry, memo) for entry in log] if is_open else list(log)
    copied.ids = {name: TransactionalId(each.epoch, _twin(each.transaction, memo)) for name, each in broker.ids.items()}
    return copied


def _copy_entry(entry: Entry, memo: dict[int, object]) -> Entry:
    twin = _twin(entry.transaction, memo)
    return entry if twin is entry.transaction else Entry(entry.key, entry.value, twin, entry.is_marker)


def _twin(transaction: Transaction | None, memo: dict[int, object]) -> Transaction | None:
    twin = memo.get(id(transaction), transaction)
    assert twin is None or isinstance(twin, Transaction)
    return twin


def _copy_group(group: Group, memo: dict[int, object]) -> Group:
    members = {name: Member(memo[id(each.session)], each.places) for name, each in group.members.items()}
    pending = [twin for each in group.pending if (twin := _twin(each, memo)) is not None]
    return Group(
        group.topics, group.generation, members, dict(group.committed), dict(group.newest), group.writes, pending
    )


def _copy_log(log: FakeLog, broker: FakeBroker, memo: dict[int, object]) -> None:
    copied = copy.copy(log)
    memo[id(log)] = copied
    copied.broker = broker
    copied._positions = dict(log._positions)
    copied._lost, copied._gained = set(log._lost), set(log._gained)


def _copy_process(process: StageProcess | None, memo: dict[int, object]) -> StageProcess | None:
    """Whatever the engine keeps is copied; only what never changes (jobs, topics, machines) is shared."""
    if process is None:
        return None
    parts = process.loop._parts
    assert isinstance(parts.log, FakeLog)
    if id(parts.log) not in memo:  # It has not joined yet.
        broker = memo[id(parts.log.broker)]
        assert isinstance(broker, FakeBroker)
        _copy_log(parts.log, broker, memo)
    memo[id(parts.topics)] = parts.topics
    memo[id(parts.stepper._machine)] = parts.stepper._machine
    memo[id(process.loop._owned)] = set(process.loop._owned)
    for each in process.loop._slices.values():
        memo[id(each)] = _copy_slice(each)
    return copy.deepcopy(process, memo)


def _copy_slice(old: Slice) -> Slice:
    new = copy.copy(old)
    new.positions, new.jobs, new._due_at_ms = dict(old.positions), dict(old.jobs), dict(old._due_at_ms)
    return new
