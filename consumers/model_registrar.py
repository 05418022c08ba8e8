"""The model registrar: stores the party's half of a model and announces all halves' digests. Stage `register`."""

from __future__ import annotations

from pathlib import Path

import click

from consumers.code import fingerprint_code
from consumers.party import Party
from consumers.wiring import run_stage
from schemas.jobs import Stage
from streams.machine import Machine
from streams.machines.register import RegisterMachine


def make_machine(party: Party) -> Machine:
    """The register machine, with what it says of the program."""
    return RegisterMachine(party.name, fingerprint_code())


@click.command()
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), required=True, help="The party's home.")
@click.option("--slot", type=click.IntRange(0, 99), default=0, show_default=True, help="Number among equal processes.")
def main(home: Path, slot: int) -> None:
    """Run the model registrar of a party."""
    run_stage(home, slot, Stage.REGISTER, make_machine)


if __name__ == "__main__":
    main()
