"""The claims that are tested for every machine. `make_world` makes a world with a job that is about to run."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

from tests.simulation.exploration import Explorer
from tests.simulation.fake_broker import Fate
from tests.simulation.harness import Story, World, crash_at, suffer

MakeWorld = Callable[..., World]


def check_single_crashes(make_world: MakeWorld, numbers: Iterable[int] | None = None) -> None:
    """A crash at any call, or at these, changes nothing."""
    expected, count = run_undisturbed(make_world)
    for number in range(count) if numbers is None else numbers:
        world = make_world()
        world.broker.fate_of = crash_at(number)
        world.run()
        assert world.crashes == 1, f"no crash at call {number}"
        check_story(world, expected, f"crash at call {number}, {world.broker.call_names[number]}")


def check_all_crashes(make_world: Callable[[], World], most_crashes: int = 2) -> int:
    """Every crash, and every pair of crashes, wherever the second may fall, changes nothing: none is left out.

    Gives the number of pairs, or of crashes when there shall be one only.
    """
    expected, count = run_undisturbed(make_world)
    explorer = Explorer(lambda world, what: check_story(world, expected, what), most_crashes)
    explorer.explore(make_world())
    assert explorer.runs[0] == 1 and explorer.runs[1] == count
    # A crash makes calls necessary that the undisturbed run has not.
    assert most_crashes == 1 or explorer.runs[2] > count * (count - 1) / 2
    return explorer.runs[most_crashes]


def check_storms(make_world: MakeWorld, seeds: Iterable[int]) -> None:
    """While calls fail in every way nothing wrong is committed; when they no longer do, everything comes out."""
    expected, count = run_undisturbed(make_world)
    rates = {Fate.CRASH: 0.03, Fate.UNANSWERED: 0.02, Fate.DELAYED: 0.02, Fate.REFUSED: 0.02}
    crashes = 0
    for seed in seeds:
        world = make_world(seed=seed)
        world.broker.fate_of = suffer(seed, 2 * count, rates)
        for _ in range(40):
            world.round()
            if world.random.random() < 0.1:
                world.mirror_again()
        world.run()
        crashes += world.crashes
        check_story(world, expected, f"storm {seed}")
    assert crashes


def check_takeovers(make_world: MakeWorld) -> None:
    """A process that is replaced while it is paused at any call changes nothing when it wakes up."""
    expected, count = run_undisturbed(make_world)
    for number in range(count):
        world = make_world()

        def pause(n: int, name: str, number: int = number, world: World = world) -> Fate:
            if n == number:
                world.replace_current()
            return Fate.NORMAL

        world.broker.fate_of = pause
        world.run()
        assert world.fenced, f"nobody was fenced after the pause at call {number}"
        check_story(world, expected, f"paused at call {number}")


def check_successors(make_world: MakeWorld, seeds: Iterable[int] = range(2)) -> None:
    """Who dies at any call and is never started again leaves its work to another slot of its group."""
    expected, _ = run_undisturbed(make_world)
    _, count = run_undisturbed(functools.partial(make_world, slots=2))
    for seed in seeds:
        for number in range(count):
            world = make_world(slots=2, seed=seed, restarts_after_crash=False)
            world.broker.fate_of = crash_at(number)
            world.run()
            assert world.crashes == 1
            check_story(world, expected, f"seed {seed}: end at call {number}, {world.broker.call_names[number]}")


def run_undisturbed(make_world: MakeWorld) -> tuple[Story, int]:
    """What must always come out, and how many calls it takes."""
    world = make_world().run()
    return world.content(), world.broker.calls


def check_story(world: World, expected: Story, what: str) -> None:
    """The first difference, if there is one."""
    story = world.content()
    world.check_audit()
    for where in sorted(expected.keys() | story.keys()):
        assert story.get(where, ()) == expected.get(where, ()), f"{what}: {where} differs"
