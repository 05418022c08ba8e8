"""`isthmus federation`: who belongs together, with which keys and rules. Every party signs the same manifest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from infra.code_digest import code_digest
from infra.federation import load_federation, read_draft, read_installed
from infra.federation_drafts import GRACE_HOURS, VALID_DAYS, Change, Progress, change, found, utc_now
from infra.federation_drafts import join as join_file
from infra.federation_drafts import sign as sign_file
from infra.manifest import Manifest, ManifestError, Profile, SignedManifest, changes, describe, parse_manifest
from infra.party_secrets import open_keys
from infra.passphrase import read_passphrase
from infra.secrets import OwnKeys, add_pair, erase_pairs
from infra.settings import PartySettings, load_settings
from producers.commands.options import home_option, json_option, print_json
from schemas.jobs import Privacy
from schemas.profiles import KeyProfile

LEVELS = {"standard": 2048, "high": 3072}
FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group()
def federation() -> None:
    """Found or join a federation, sign its manifest, replace keys."""


@federation.command()
@click.argument("name")
@click.option("--level", type=click.Choice(list(LEVELS)), default="standard", show_default=True, help="Paillier keys.")
@click.option("--allow-trusted-guest", is_flag=True, help="Jobs may show the guest the rows of hosts.")
@click.option(
    "--randomisers",
    type=click.Choice([str(profile) for profile in KeyProfile]),
    default=str(KeyProfile.EXACT),
    show_default=True,
    help="How far from exact randomisers jobs may go.",
)
@click.option("--any-code", is_flag=True, help="Do not bind the parties to the code that runs here now.")
@click.option(
    "--days", type=click.IntRange(1, 3650), default=VALID_DAYS, show_default=True, help="How long it is valid."
)
@home_option
def init(
    name: str, level: str, allow_trusted_guest: bool, randomisers: str, any_code: bool, days: int, home: Path
) -> None:
    """Found federation NAME. The peers of party.yaml are invited."""
    settings, keys = _open(home)
    privacy = (Privacy.SPLIT_LINK, *([Privacy.TRUSTED_GUEST] if allow_trusted_guest else []))
    allowed = {"paillier_bits": LEVELS[level], "randomisers": randomisers, "privacy": privacy}
    profile = Profile.model_validate(allowed)
    code = () if any_code else (code_digest(),)
    _tell(found(settings, keys, name, utc_now(), profile=profile, code=code, valid_days=days), settings)


@federation.command()
@click.argument("party")
@home_option
def invite(party: str, home: Path) -> None:
    """Let PARTY join. All members sign the version with it."""
    settings, keys = _open(home)
    _tell(change(settings, keys, utc_now(), Change(invited=(party,))), settings)


@federation.command()
@click.argument("file", type=FILE)
@home_option
def join(file: Path, home: Path) -> None:
    """Put this party's keys into a FILE that invites it."""
    settings, keys = _open(home)
    _tell(join_file(settings, keys, file, utc_now()), settings)


@federation.command()
@click.argument("file", type=FILE, required=False)
@home_option
def sign(file: Path | None, home: Path) -> None:
    """Take a FILE of another party and sign it. Compare what `isthmus federation show FILE` says of it first."""
    settings, keys = _open(home)
    _tell(sign_file(settings, keys, file, utc_now()), settings)


@federation.command()
@click.option("--keep-keys", is_flag=True, help="Only renew: the validity, this release's code, what is said below.")
@click.option("--without", "removed", multiple=True, help="A party that is not a member any more; repeat for more.")
@click.option("--level", type=click.Choice(list(LEVELS)), help="Paillier keys.")
@click.option("--allow-trusted-guest/--forbid-trusted-guest", default=None, help="Jobs that show the guest host rows.")
@click.option(
    "--randomisers",
    type=click.Choice([str(profile) for profile in KeyProfile]),
    help="How far from exact randomisers jobs may go.",
)
@click.option(
    "--days", type=click.IntRange(1, 3650), default=VALID_DAYS, show_default=True, help="How long it is valid."
)
@click.option(
    "--grace-hours",
    type=click.IntRange(0, 24 * 30),
    default=GRACE_HOURS,
    show_default=True,
    help="For how long records under the version before are opened; 0 if keys were stolen.",
)
@home_option
def rotate(
    keep_keys: bool,
    removed: tuple[str, ...],
    level: str | None,
    allow_trusted_guest: bool | None,
    randomisers: str | None,
    days: int,
    grace_hours: int,
    home: Path,
) -> None:
    """Make the next version of the manifest, with new keys of this party. All members sign it."""
    settings, keys = _open(home)
    base = _newest(settings)
    privacy = set(base.profile.privacy)
    if allow_trusted_guest is not None:
        privacy = {Privacy.SPLIT_LINK, *([Privacy.TRUSTED_GUEST] if allow_trusted_guest else [])}
    bits = base.profile.paillier_bits if level is None else LEVELS[level]
    allowed = {"paillier_bits": bits, "randomisers": randomisers or base.profile.randomisers}
    profile = Profile.model_validate({**allowed, "privacy": tuple(sorted(privacy))})
    # The release before may run on, until every party has this one.
    code = tuple(dict.fromkeys((*base.code[-1:], code_digest()))) if base.code else ()
    wanted = Change(profile, code, (), removed, not keep_keys, days, grace_hours)
    if not keep_keys:
        keys = add_pair(settings.home, settings.party, read_passphrase(settings.keys))
    _tell(change(settings, keys, utc_now(), wanted), settings)
    if not keep_keys:
        click.echo("restart the processes of every party when all have signed; until then the former keys are used")


@federation.command()
@home_option
def erase(home: Path) -> None:
    """Delete this party's former keys that nothing under way needs: who steals the others later opens nothing old."""
    settings, keys = _open(home)
    accepted = load_federation(settings, keys, code_digest(), utc_now())
    erased = erase_pairs(settings.home, keys, [each.pair for each in (accepted.current, *accepted.others)])
    if not erased:
        click.echo(
            "nothing is deleted: each generation of keys opens records of a version that is in use or in its grace"
        )
        return
    click.echo(
        f"{erased} former generations of keys of {settings.party} are deleted; delete their copies in backups too"
    )


@federation.command()
@click.argument("file", type=FILE, required=False)
@json_option
@home_option
def show(file: Path | None, as_json: bool, home: Path) -> None:
    """Who is a member, with which keys; what is signed, and what is missing. FILE: of that file, which nobody takes."""
    settings, keys = _open(home)
    draft, installed = read_draft(settings.home), read_installed(settings.home)
    if file is not None:
        _show_file(file, installed, settings, as_json)
        return
    if as_json:
        newest = installed[-1].model_dump(mode="json") if installed else None
        print_json({"manifest": newest, "draft": None if draft is None else draft.model_dump(mode="json")})
        return
    if keys.is_unsafe:
        click.echo("The keys of this party were derived from a seed: for demonstrations only, they protect nothing.")
    if not installed and draft is None:
        click.echo(f"{settings.party} is in no federation yet")
    if installed:
        _print(installed[-1], settings, "signed by all")
        load_federation(settings, keys, code_digest(), utc_now())
    if draft is not None:
        _print(draft.manifest, settings, f"waits for {', '.join(draft.unsigned)}")
        if installed:
            for line in changes(installed[-1], draft.manifest):
                click.echo(f"  change: {line}")


def _show_file(file: Path, installed: Sequence[Manifest], settings: PartySettings, as_json: bool) -> None:
    """What a file says that this party has not taken: nothing is signed or kept."""
    offered = parse_manifest(file.read_text(encoding="utf-8"), file)
    if as_json:
        print_json({"manifest": offered.manifest.model_dump(mode="json"), "unsigned": list(offered.unsigned)})
        return
    _print(
        offered.manifest, settings, f"waits for {', '.join(offered.unsigned)}" if offered.unsigned else "signed by all"
    )
    if installed:
        for line in changes(installed[-1], offered.manifest):
            click.echo(f"  change: {line}")


def _open(home: Path) -> tuple[PartySettings, OwnKeys]:
    settings = load_settings(home)
    return settings, open_keys(settings)


def _newest(settings: PartySettings) -> Manifest:
    installed, draft = read_installed(settings.home), read_draft(settings.home)
    if installed:
        return installed[-1]
    if draft is None:
        raise ManifestError(f"{settings.party!r} is in no federation yet: `isthmus federation init NAME` founds one")
    return draft.manifest


def _tell(progress: Progress, settings: PartySettings) -> None:
    signed: SignedManifest = progress.signed
    manifest = signed.manifest
    _print(manifest, settings, "signed by all" if progress.is_installed else f"waits for {', '.join(signed.unsigned)}")
    if progress.is_installed:
        click.echo(
            f"in force here; give {progress.path} to the others, who take it with `isthmus federation sign FILE`"
        )
    elif manifest.invited:
        names = ", ".join(manifest.invited)
        click.echo(f"next: give {progress.path} to {names}, to be taken with `isthmus federation join FILE`")
    else:
        names = ", ".join(signed.unsigned)
        click.echo(f"next: give {progress.path} to {names}, to be taken with `isthmus federation sign FILE`")


def _print(manifest: Manifest, settings: PartySettings, state: str) -> None:
    profile = manifest.profile
    click.echo(f"{describe(manifest)}, {state}")
    click.echo(f"  valid       {manifest.valid_from:%Y-%m-%d %H:%M} to {manifest.valid_until:%Y-%m-%d %H:%M} UTC")
    randomisers = ", ".join(profile.randomisers.allowed)
    click.echo(f"  jobs        Paillier {profile.paillier_bits} bits ({randomisers}), {', '.join(profile.privacy)}")
    click.echo(f"  code        {', '.join(digest[:16] for digest in manifest.code) or 'any'}")
    for member in manifest.members:
        own = "this party" if member.party == settings.party else f"compare with {member.party} over another channel"
        click.echo(f"  {member.party:<11} {member.fingerprint}  ({own})")
    for name in manifest.invited:
        click.echo(f"  {name:<11} invited")
