"""`isthmus topics`: make the party's topics, compare them with the catalogue."""

from __future__ import annotations

from pathlib import Path

import click
from confluent_kafka.admin import AdminClient

from infra.settings import PartySettings, load_settings
from infra.topic_admin import Presence, create_topics, inspect_topics
from infra.topics import Topic, party_topics
from producers.commands.errors import REFUSED
from producers.commands.options import home_option, json_option, print_json
from producers.topic_reader import QUIET, check_topics, connection_of


@click.group()
def topics() -> None:
    """Make the party's topics, compare them with the catalogue."""


@topics.command()
@home_option
def create(home: Path) -> None:
    """Make the topics that are missing. Changes no topic that exists."""
    admin, settings, wanted = _prepare(home)
    made = create_topics(admin, wanted, settings.topics.replication_factor)
    click.echo(f"made {len(made)} topics of {settings.party}, {len(wanted) - len(made)} were there")


@topics.command("list")
@home_option
@json_option
def list_topics(home: Path, as_json: bool) -> None:
    """The catalogue's topics and how the broker's differ. The exit code is 1 if one is missing or differs."""
    admin, _, wanted = _prepare(home)
    reports = inspect_topics(admin, wanted)
    if as_json:
        print_json(
            [
                {"name": r.topic.name, "kind": r.topic.kind, "presence": r.presence, "differences": list(r.differences)}
                for r in reports
            ]
        )
    else:
        for report in reports:
            click.echo(f"{report.presence:<8} {report.topic.partitions:>3}  {report.topic.name}")
            for difference in report.differences:
                click.echo(f"         {difference}")
    if any(report.presence is not Presence.MATCHES for report in reports):
        raise click.exceptions.Exit(REFUSED)


def _prepare(home: Path) -> tuple[AdminClient, PartySettings, tuple[Topic, ...]]:
    settings = load_settings(home)
    connection = connection_of(settings)
    check_topics(connection, ())
    wanted = party_topics(settings.party, settings.topics.partitions)
    return AdminClient(dict(connection), logger=QUIET), settings, wanted
