"""`isthmus keys`: show the own public key, take a peer's. Private keys have no command: nothing prints them."""

from __future__ import annotations

from pathlib import Path

import click

from infra.secrets import add_peer, add_signing_key, load_secrets, read_public_key
from infra.settings import load_settings
from producers.commands.options import home_option


@click.group()
def keys() -> None:
    """Show fingerprints, take a peer's public key."""


@keys.command()
@home_option
def show(home: Path) -> None:
    """Fingerprints of the own key and of the peers' keys. Compare them with each peer over another channel."""
    settings = load_settings(home)
    own = load_secrets(home, settings.party)
    click.echo(f"{settings.party:<24} {own.public_key.fingerprint}  (this party)")
    if own.is_unsafe:
        click.echo("These keys were derived from a seed: for demonstrations only, they protect nothing.")
    for path in sorted((settings.home / "peers").glob("*.pub")):
        peer = read_public_key(path)
        named = "" if peer.party in settings.peers else "  (not under `peers` in party.yaml: not used)"
        click.echo(f"{peer.party:<24} {peer.fingerprint}{named}")
    for name in settings.peers:
        if not (settings.home / "peers" / f"{name}.pub").exists():
            click.echo(f"{name:<24} missing: ask {name} for its keys/party.pub, then `isthmus keys trust FILE`")


@keys.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--replace", is_flag=True, help="The peer says that it made a new key.")
@home_option
def trust(file: Path, replace: bool, home: Path) -> None:
    """Take a peer's public key file."""
    settings = load_settings(home)
    peer = add_peer(home, file, replace=replace)
    click.echo(f"{peer.party}: {peer.fingerprint}; compare this with {peer.party} over another channel")
    if peer.party not in settings.peers:
        click.echo(f"add {peer.party} to `peers` in {settings.home / 'party.yaml'}: until then its key is not used")


@keys.command()
@home_option
def upgrade(home: Path) -> None:
    """Make the signing key that homes of earlier versions lack. Then give the new party.pub to each peer."""
    settings = load_settings(home)
    public_key = add_signing_key(home, settings.party)
    click.echo(
        f"{settings.party}: {public_key.fingerprint}; give {settings.home / 'keys' / 'party.pub'} to each peer, who "
        "takes it with `isthmus keys trust FILE --replace`"
    )
