"""`isthmus party`: set up a party, run its processes, and decide about jobs that others propose."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import click

from consumers.party import open_party
from consumers.supervisor import run_supervisor
from infra.access import OPERATOR
from infra.connection import connect_as, is_protected, read_certificates
from infra.party_secrets import load_secrets
from infra.passphrase import KeySettings, read_passphrase
from infra.secrets import add_storage, create_secrets, erase_storage, protect_keys
from infra.settings import FILE_NAME, check_settings, load_settings, save_settings
from infra.topics import party_topics
from producers.commands.errors import CommandError
from producers.commands.options import home_option, open_client
from producers.job_view import describe
from producers.lag import measure_lag
from producers.leaks import ACCEPTED
from producers.topic_reader import check_topics, connection_of
from schemas.jobs import Leak

#: The broker's certificate authority, as a file of the home.
CA_NAME = "broker-ca.pem"
LEAK = click.Choice([str(leak) for leak in Leak])


@click.group()
def party() -> None:
    """Set up a party, run its processes, approve or decline jobs."""


@party.command()
@click.argument("name")
@click.option("--bootstrap", default="127.0.0.1:9092", show_default=True, help="Address of the Kafka broker.")
@click.option(
    "--ca",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Certificates in PEM that vouch for the broker's, which are copied; else the system's count.",
)
@click.option("--peer", "peers", multiple=True, help="Another party; repeat for more.")
@click.option("--passphrase-env", metavar="VARIABLE", help="Seal the keys with what this environment variable holds.")
@click.option("--passphrase-command", metavar="PROGRAM", help="Seal the keys with what this program prints.")
@home_option
def init(
    name: str,
    bootstrap: str,
    ca: Path | None,
    peers: tuple[str, ...],
    passphrase_env: str | None,
    passphrase_command: str | None,
    home: Path,
) -> None:
    """Make the home of party NAME: settings, a key pair and a master secret."""
    settings = {
        "party": name,
        "bootstrap_servers": bootstrap,
        "access": {"kind": "scram", **({} if ca is None else {"ca": CA_NAME})},
        "peers": list(peers),
        "datasets": {},
        "object_store": {"kind": "directory", "path": "objects"},
        "approval": {"auto": False, "accept_leaks": []},
    }
    source = {"passphrase_env": passphrase_env, "passphrase_command": shlex.split(passphrase_command or "") or None}
    if named := {key: value for key, value in source.items() if value is not None}:
        settings["keys"] = named
    check_settings(home, settings)
    # Asked before anything is written: a home with settings and without keys is half a home.
    passphrase = read_passphrase(KeySettings.model_validate(named))
    certificates = b"" if ca is None else read_certificates(ca)
    path = save_settings(home, settings)
    if certificates:
        (path.parent / CA_NAME).write_bytes(certificates)
    create_secrets(home, name, passphrase=passphrase)
    click.echo(f"made {path} and keys of {name}")
    click.echo(
        f"next: name your tables under `datasets` in {FILE_NAME}, found a federation with `isthmus federation init`"
    )
    click.echo("or join one with `isthmus federation join`; topics and rights come from the cluster's administrator:")
    click.echo("`isthmus topics create` and `isthmus topics acls --apply`; then `isthmus party run`")


@party.command()
@click.option("--former-env", metavar="VARIABLE", help="The environment variable with the passphrase until now.")
@click.option("--former-command", metavar="PROGRAM", help="The program that prints the passphrase until now.")
@home_option
def protect(former_env: str | None, former_command: str | None, home: Path) -> None:
    """Seal the key files with the passphrase that party.yaml names now; without one there, open them."""
    settings = load_settings(home)
    former = KeySettings(passphrase_env=former_env, passphrase_command=tuple(shlex.split(former_command or "")) or None)
    passphrase = read_passphrase(settings.keys)
    protect_keys(settings.home, settings.party, read_passphrase(former), passphrase)
    state = "sealed with the passphrase" if passphrase is not None else "not sealed any more"
    click.echo(f"the key files in {settings.home / 'keys'} are {state}")


@party.command()
@home_option
def rekey(home: Path) -> None:
    """Make a new storage key: what the party writes from its next start on rests under it, states are sealed anew."""
    settings = load_settings(home)
    keys = add_storage(settings.home, settings.party, read_passphrase(settings.keys))
    click.echo(f"made generation {max(keys.storage)} of the storage key of {settings.party}; save it with the others")
    click.echo(
        "next: start its processes again, all of them, on every machine with a copy of this home: each seals its"
    )
    click.echo("states and their objects anew. Then `isthmus party erase` deletes the former key")


@party.command()
@home_option
def erase(home: Path) -> None:
    """Delete former storage keys when nothing rests under them; features are sealed anew before."""
    from producers.storage_sweep import count_former, reseal_features

    party = open_party(home)
    former = len(party.secrets.keys.storage) - 1
    if not former:
        raise CommandError(f"{party.name} has one storage key: make the next one with `isthmus party rekey`")
    behind = {lag.stage: lag.behind for lag in measure_lag(partial(connect_as, party.settings), party.name)}
    if waiting := {stage: count for stage, count in behind.items() if count}:
        raise CommandError(
            f"records wait that may be sealed under a former key: {_counts(waiting)}. Try again when `isthmus lag` "
            "says that nothing waits"
        )
    count = reseal_features(party, lambda done: None)
    if left := count_former(party):
        raise CommandError(
            f"states still rest under a former key: {_counts(left)}. Start the party's processes again, all of them; "
            "they seal anew what they are given"
        )
    erase_storage(party.settings.home, party.secrets.keys)
    click.echo(f"sealed {count} features anew and deleted {former} former storage keys of {party.name}")
    click.echo("objects that no state refers to any more, and copies of the files elsewhere, are yours to delete")


def _counts(found: Mapping[str, int]) -> str:
    return ", ".join(f"{count} at {name}" for name, count in sorted(found.items()))


@party.command()
@click.option(
    "--slot", type=click.IntRange(0, 99), default=0, show_default=True, help="Number of this set of processes."
)
@click.option("--view", is_flag=True, help="Keep vfl.job.view.<party>.v1 up to date as well (slot 0 only).")
@home_option
def run(slot: int, view: bool, home: Path) -> None:
    """Run the party's processes until Ctrl-C, and start again what dies. Logs are in <home>/log."""
    settings = load_settings(home)
    load_secrets(settings)
    topics = party_topics(settings.party, settings.topics.partitions)
    check_topics(connection_of(settings, OPERATOR), tuple(topic.name for topic in topics))
    if not is_protected(settings):
        click.echo("the connection to the broker is in the clear: it sees who connects, and so does whoever is between")
    click.echo(f"running the processes of {settings.party}; logs are in {settings.home / 'log'}; Ctrl-C ends them")
    sys.exit(run_supervisor(settings.home, slot, click.echo, with_view=view))


@party.command()
@click.argument("job_id")
@click.option(
    "--accept-leak", "leaks", multiple=True, type=LEAK, help="A leak that is accepted by name; repeat for more."
)
@home_option
def approve(job_id: str, leaks: tuple[str, ...], home: Path) -> None:
    """Let a job that another party proposed run on this party's data."""
    _, client = open_client(home)
    with client:
        view = client.job(job_id)
        missing = [leak for leak in view.leaks_to_accept if str(leak) not in leaks]
        if missing:
            texts = "\n".join(f"  {leak}: {ACCEPTED[leak]}" for leak in missing)
            options = " ".join(f"--accept-leak {leak}" for leak in missing)
            raise CommandError(
                f"this job reveals more than its protocol's leak table:\n{texts}\nIf you accept: {options}"
            )
        view = client.approve(job_id, tuple(Leak(leak) for leak in leaks))
    click.echo(f"{job_id}: {describe(view)}")


@party.command()
@click.argument("job_id")
@click.option("--reason", default="declined by the operator", show_default=True, help="What stands in your own events.")
@home_option
def decline(job_id: str, reason: str, home: Path) -> None:
    """Refuse a job that another party proposed."""
    _, client = open_client(home)
    with client:
        view = client.decline(job_id, reason)
    click.echo(f"{job_id}: {describe(view)}")
