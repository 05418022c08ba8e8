"""The claims that are tested for every machine. `make_world` makes a world with a job that is about to run."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

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


def check_double_crashes(make_world: MakeWorld, samples: int, seed: int = 1) -> None:
    """Crashes at any two calls, drawn from the seed, change nothing."""
    expected, count = run_undisturbed(make_world)
    chance = random.Random(seed)
    doubles = 0
    for _ in range(samples):
        first, second = sorted(chance.sample(range(count), 2))
        world = make_world()
        world.broker.fate_of = crash_at(first, second)
        world.run()
        doubles += world.crashes == 2
        check_story(world, expected, f"crashes at calls {first} and {second}")
    # After the first one records may meet in fewer transactions, so that the run has fewer calls.
    assert doubles > samples * 0.8


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


def check_takeovers(make_world: MakeWorld, seed: int = 1) -> None:
    """A process that is replaced while it is paused at any call changes nothing when it wakes up."""
    expected, count = run_undisturbed(make_world)
    for number in random.Random(seed).sample(range(count), min(count, 40)):
        world = make_world()

        def pause(n: int, name: str, number: int = number, world: World = world) -> Fate:
            if n == number:
                world.replace_current()
            return Fate.NORMAL

        world.broker.fate_of = pause
        world.run()
        check_story(world, expected, f"paused at call {number}")


def run_undisturbed(make_world: MakeWorld) -> tuple[Story, int]:
    """What must always come out, and how many calls it takes."""
    world = make_world().run()
    return world.content(), world.broker.calls


def check_story(world: World, expected: Story, what: str) -> None:
    """The first difference, if there is one."""
    story = world.content()
    for where in sorted(expected.keys() | story.keys()):
        assert story.get(where, ()) == expected.get(where, ()), f"{what}: {where} differs"
