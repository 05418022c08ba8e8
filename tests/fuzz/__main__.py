"""A longer campaign than tests have time for: fresh cases, other ones each time, until the time is up.

    python -m tests.fuzz --seconds 600 [--seed N] [TARGET ...]

What breaks a promise is shrunk, written to the corpus, where every test run finds it again, and told at the end.
"""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from pathlib import Path

import click

from tests.fuzz.targets import TARGETS

#: Cases between two looks at the clock.
ROUND = 200


@click.command()
@click.option("--seconds", type=click.IntRange(min=1), default=60, show_default=True, help="For how long.")
@click.option("--seed", type=int, default=None, help="Where to begin; told at the start, to repeat a campaign.")
@click.argument("targets", nargs=-1, type=click.Choice(sorted(TARGETS)))
def main(seconds: int, seed: int | None, targets: tuple[str, ...]) -> None:
    """Fuzz all targets, or those that are named, one after the other and over again."""
    first = random.randrange(2**31) if seed is None else seed
    names = targets or tuple(TARGETS)
    click.echo(f"seed {first}, {len(names)} targets, {seconds} s")
    end, rounds = time.monotonic() + seconds, Counter[str]()
    found: dict[str, Path] = {}
    for number, name in enumerate(itertools.cycle(names), start=first):
        if time.monotonic() >= end or set(found) == set(names):
            break
        if name in found:
            continue
        path = TARGETS[name].search(ROUND, number)
        rounds[name] += ROUND
        if path is not None:
            found[name] = path
            click.echo(f"{name}: {path}")
    for name in names:
        click.echo(f"{rounds[name]:>8} cases  {name}{'  FAILED' if name in found else ''}")
    raise SystemExit(bool(found))


if __name__ == "__main__":
    main()
