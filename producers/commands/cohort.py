"""`isthmus cohort`: what the party's jobs revealed of the same rows."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from infra.settings import load_settings
from producers.cohort_book import describe_account, read_cohorts
from producers.commands.options import home_option, json_option, print_json


@click.group()
def cohort() -> None:
    """Look at what this party's jobs revealed of the same rows, all together."""


@cohort.command("list")
@home_option
@json_option
def list_cohorts(home: Path, as_json: bool) -> None:
    """Every set of training rows that jobs of this party used, with the bits that their peers received."""
    accounts = read_cohorts(load_settings(home))
    if as_json:
        print_json([asdict(account) for account in accounts])
        return
    if not accounts:
        click.echo("no job has trained yet")
    for account in accounts:
        click.echo(describe_account(account))
