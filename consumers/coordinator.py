"""The coordinator: takes jobs in, asks every party, starts stages, ends jobs. Stage `job`."""

from __future__ import annotations

from pathlib import Path

import click

from consumers.party import Party
from consumers.wiring import run_stage
from schemas.jobs import Stage
from streams.machine import Machine
from streams.machines.job import JobMachine, Policy


def make_machine(party: Party) -> Machine:
    """The job machine with this party's policy, its peers, and what the federation lets jobs ask for."""
    approval = party.settings.approval
    policy = Policy(auto_approve=approval.auto, accept_leaks=approval.accept_leaks)
    profile = party.secrets.profile
    return JobMachine(
        party.name,
        policy,
        peers=party.keyring.peers,
        privacy=frozenset(profile.privacy),
        least_key_bits=profile.paillier_bits,
        key_profile=profile.randomisers,
    )


@click.command()
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), required=True, help="The party's home.")
@click.option("--slot", type=click.IntRange(0, 99), default=0, show_default=True, help="Number among equal processes.")
def main(home: Path, slot: int) -> None:
    """Run the coordinator of a party."""
    run_stage(home, slot, Stage.JOB, make_machine)


if __name__ == "__main__":
    main()
