"""A party worker: aligns, trains or evaluates. One process a stage, so that a group's lag is a stage's lag."""

from __future__ import annotations

from pathlib import Path

import click

from consumers.party import Party
from consumers.wiring import run_stage
from schemas.jobs import Stage
from streams.machine import Machine
from streams.machines.align import AlignMachine
from streams.machines.evaluate import EvaluateMachine
from streams.machines.train import TrainMachine

STAGES = (Stage.ALIGN, Stage.TRAIN, Stage.EVALUATE)


def make_machine(stage: Stage, party: Party) -> Machine:
    """The stage's machine with the party's master secret. Raises `ValueError` for a stage that has another process."""
    name, secret = party.name, party.secrets.master_secret
    match stage:
        case Stage.ALIGN:
            return AlignMachine(name, secret)
        case Stage.TRAIN:
            return TrainMachine(name, secret, least_key_bits=party.secrets.profile.paillier_bits)
        case Stage.EVALUATE:
            return EvaluateMachine(name)
    raise ValueError(f"stage {stage} has a process of its own")


@click.command()
@click.option("--stage", type=click.Choice([str(stage) for stage in STAGES]), required=True, help="What to work on.")
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), required=True, help="The party's home.")
@click.option("--slot", type=click.IntRange(0, 99), default=0, show_default=True, help="Number among equal processes.")
def main(stage: str, home: Path, slot: int) -> None:
    """Run one stage's worker of a party."""
    run_stage(home, slot, Stage(stage), lambda party: make_machine(Stage(stage), party))


if __name__ == "__main__":
    main()
