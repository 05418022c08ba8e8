"""The shortcuts of the exploration: copies of worlds go on as the originals, and no end is missed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from streams.engine.transaction import Transactor
from tests.simulation.exploration import Explorer
from tests.simulation.fake_broker import Entry
from tests.simulation.fake_log import FakeLog
from tests.simulation.harness import Plan, World, crash_at
from tests.simulation.test_broken_engines import OffsetsBefore, OutputsOutside, trust
from tests.simulation.toy import STAGE, ToyMachine, ToyStart, register_toys


def make_world(engine: type[Transactor] = Transactor) -> World:
    """One round of the toy. Broken engines do not find out by themselves that they are."""
    register_toys()
    plans = [
        Plan("guest", STAGE, lambda: ToyMachine("guest"), plain_commands=frozenset({ToyStart})),
        Plan("host", STAGE, lambda: ToyMachine("host")),
    ]

    def make_transactor(log: FakeLog) -> Transactor:
        return engine(log.make_producer)

    is_broken = engine is not Transactor
    world = World(plans, make_transactor=make_transactor, adjust=trust if is_broken else lambda process: None)
    world.submit("guest", STAGE, ToyStart("job-1", "host", 1, 100))
    return world


def everything(world: World) -> object:
    """All that lies on the broker and in the stores, at its offset, and what was called for."""
    broker = world.broker
    logs = {place: [_describe(entry) for entry in log] for place, log in broker.logs.items()}
    committed = {name: group.committed for name, group in broker.groups.items()}
    return logs, committed, broker.call_names, [store.objects for store in world.stores.values()], world.clock.now_ms()


def _describe(entry: Entry) -> tuple[object, ...]:
    return entry.key, entry.value, entry.is_marker, entry.transaction and entry.transaction.decision


class ComparingExplorer(Explorer):
    """Runs every case again from the beginning, with nothing but its crashes."""

    def __init__(self) -> None:
        super().__init__(lambda world, what: None, uses_shortcut=False)
        self.compared = 0

    def _judge(self, world: World, crashes: tuple[int, ...]) -> None:
        super()._judge(world, crashes)
        again = make_world()
        again.broker.fate_of = crash_at(*crashes)
        again.run()
        assert again.crashes == len(crashes)
        assert everything(again) == everything(world), f"crashes at {crashes}"
        self.compared += 1


def test_copies_go_on_as_runs_from_the_beginning() -> None:
    explorer = ComparingExplorer()
    explorer.explore(make_world())
    calls = explorer.runs[1]
    assert explorer.compared == sum(explorer.runs.values()) > calls * (calls - 1) / 2
    assert ends_of(make_world, uses_shortcut=True) == (explorer.accepted, explorer.compared)
    assert len(explorer.accepted) == 1


def ends_of(make: Callable[[], World], *, uses_shortcut: bool) -> tuple[set[int], int]:
    """All committed logs that crashes can lead to, and the number of runs."""
    explorer = Explorer(lambda world, what: None, uses_shortcut=uses_shortcut)
    explorer.explore(make())
    return explorer.accepted, sum(explorer.runs.values())


@pytest.mark.parametrize("engine", [OffsetsBefore, OutputsOutside])
def test_every_end_of_a_broken_engine_is_found_although_runs_are_cut_short(engine: type[Transactor]) -> None:
    ends, runs = ends_of(lambda: make_world(engine), uses_shortcut=True)
    assert (ends, runs) == ends_of(lambda: make_world(engine), uses_shortcut=False)
    assert len(ends) > 1
