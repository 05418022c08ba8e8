"""The register of cohorts: keeps account of what the party's jobs revealed of the same rows, over all jobs."""

from __future__ import annotations

from pathlib import Path

import click

from consumers.party import Party
from consumers.wiring import run_stage
from schemas.cohorts import COHORT
from streams.machine import Machine
from streams.machines.cohort import CohortMachine


def make_machine(party: Party) -> Machine:
    """The register's machine. It needs no secret: rows come to it as tags."""
    return CohortMachine(party.name)


@click.command()
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), required=True, help="The party's home.")
@click.option("--slot", type=click.IntRange(0, 99), default=0, show_default=True, help="Number among equal processes.")
def main(home: Path, slot: int) -> None:
    """Run the register of cohorts of a party."""
    run_stage(home, slot, COHORT, make_machine)


if __name__ == "__main__":
    main()
