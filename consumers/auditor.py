"""The auditor: signs what crossed between this party and its peers in jobs, and answers what they signed."""

from __future__ import annotations

from pathlib import Path

import click

from consumers.party import Party
from consumers.wiring import run_stage
from schemas.audit_statements import AUDIT
from streams.machine import Machine
from streams.machines.audit import AuditMachine


def make_machine(party: Party) -> Machine:
    """The auditor's machine, with the party's signing key and its peers' public ones."""
    versions = [version.manifest.digest for version in party.secrets.versions]
    return AuditMachine(party.name, party.secrets, party.keyring.current_manifest, versions)


@click.command()
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), required=True, help="The party's home.")
@click.option("--slot", type=click.IntRange(0, 99), default=0, show_default=True, help="Number among equal processes.")
def main(home: Path, slot: int) -> None:
    """Run the auditor of a party."""
    run_stage(home, slot, AUDIT, make_machine)


if __name__ == "__main__":
    main()
