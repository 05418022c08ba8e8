"""`isthmus topics`: make the party's topics, compare them with the catalogue, and say who may do what on them."""

from __future__ import annotations

import os
from pathlib import Path

import click
from confluent_kafka.admin import AdminClient

from infra.access import OPERATOR, access_rules, render_commands, roles_of
from infra.access_admin import grant_access, revoke
from infra.connection import Connection, connect_as, tool_properties
from infra.properties import read_properties, render_properties
from infra.settings import PartySettings, load_settings
from infra.topic_admin import Presence, create_topics, inspect_topics
from infra.topics import party_topics
from producers.commands.errors import REFUSED, CommandError
from producers.commands.options import home_option, json_option, print_json
from producers.topic_reader import QUIET, check_topics

admin_option = click.option(
    "--admin",
    "admin_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Client properties (librdkafka) of an administrator of the cluster; `isthmus broker run` makes such a file.",
)


@click.group()
def topics() -> None:
    """Make the party's topics, compare them with the catalogue, and say who may do what on them."""


@topics.command()
@admin_option
@home_option
def create(admin_file: Path | None, home: Path) -> None:
    """Make the topics that are missing. Changes no topic that exists."""
    settings = load_settings(home)
    wanted = party_topics(settings.party, settings.topics.partitions)
    made = create_topics(_connect(settings, admin_file), wanted, settings.topics.replication_factor)
    click.echo(f"made {len(made)} topics of {settings.party}, {len(wanted) - len(made)} were there")


@topics.command("list")
@admin_option
@home_option
@json_option
def list_topics(admin_file: Path | None, home: Path, as_json: bool) -> None:
    """The catalogue's topics and how the broker's differ. The exit code is 1 if one is missing or differs."""
    settings = load_settings(home)
    admin = _connect(settings, admin_file)
    reports = inspect_topics(admin, party_topics(settings.party, settings.topics.partitions))
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


@topics.command()
@click.option("--apply", "is_applied", is_flag=True, help="Make the rules and the passwords on the cluster.")
@click.option("--revoke", "is_revoked", is_flag=True, help="Take every right and password of the party away.")
@admin_option
@home_option
def acls(is_applied: bool, is_revoked: bool, admin_file: Path | None, home: Path) -> None:
    """Who may do what on the party's topics: as commands for a shell, or made on the cluster with --apply.

    The rules open the party's exchange topics to its peers; each peer does the same for its own.
    """
    settings = load_settings(home)
    party = settings.party
    rules = access_rules(party, settings.peers)
    if is_applied and is_revoked:
        raise CommandError("--apply and --revoke contradict each other")
    if not is_applied and not is_revoked:
        for command in render_commands(rules, settings.bootstrap_servers):
            click.echo(command)
        return
    admin = _connect(settings, admin_file)
    if is_revoked:
        change = revoke(admin, party, roles_of(party))
        click.echo(f"removed {len(change.removed)} rules of {party} and its passwords; it is locked out")
        return
    change = grant_access(admin, settings)
    principals = len({rule.principal for rule in rules if rule.party == party})
    added, removed = len(change.added), len(change.removed)
    click.echo(f"{principals} principals of {party}, {len(rules)} rules: {added} made, {removed} taken away")


@topics.command()
@click.argument("role")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The file to make.")
@click.option("--tools", is_flag=True, help="For Kafka's own tools (--command-config) instead of librdkafka.")
@home_option
def credentials(role: str, out: Path, tools: bool, home: Path) -> None:
    """Write client properties with a ROLE's password (mode 0600): `application`, `operator`, `client`, ..."""
    settings = load_settings(home)
    if role not in roles_of(settings.party):
        raise CommandError(f"no role {role!r}; there are {', '.join(roles_of(settings.party))}")
    connection = connect_as(settings, role)
    properties = tool_properties(connection) if tools else {name: str(value) for name, value in connection.items()}
    try:
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(render_properties(properties))
    except OSError as error:
        raise CommandError(f"{out} cannot be made: {error.strerror}") from error
    click.echo(f"{out}: {settings.party}.{role} connects with it; it holds a password")


def _connect(settings: PartySettings, admin_file: Path | None) -> AdminClient:
    """A client as whoever administers the cluster, or else as the party's operator."""
    connection: Connection = connect_as(settings, OPERATOR)
    if admin_file is not None:
        try:
            connection = read_properties(admin_file)
        except (OSError, ValueError) as error:
            raise CommandError(f"{admin_file} cannot be used: {error}") from error
    if "bootstrap.servers" not in connection:
        raise CommandError(f"{admin_file} does not say bootstrap.servers")
    check_topics(connection, ())
    return AdminClient(dict(connection), logger=QUIET)
