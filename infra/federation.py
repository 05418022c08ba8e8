"""The manifests in a party's home, and which of them are in force.

<home>/federation/manifest-<version>.json    signed by every member
<home>/federation/draft.json                 the next one, on its way through the parties (`federation_drafts.py`)
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from infra.manifest import (
    Manifest,
    ManifestError,
    Member,
    SignedManifest,
    check_step,
    check_time,
    describe,
    parse_manifest,
)
from infra.secrets import KeyPair, OwnKeys
from infra.settings import PartySettings
from infra.topics import Kind, party_topics

FOLDER = "federation"
DRAFT = "draft.json"


@dataclass(frozen=True)
class Version:
    """A manifest that is signed by all, and this party's keys in it."""

    manifest: Manifest
    pair: KeyPair = field(repr=False)

    def peer_keys(self, peers: tuple[str, ...]) -> dict[str, bytes]:
        """X25519 keys of those of `peers` that are members."""
        found = ((peer, self.manifest.member(peer)) for peer in peers)
        return {peer: bytes.fromhex(member.key) for peer, member in found if member is not None}

    def peer_kem_keys(self, peers: tuple[str, ...]) -> dict[str, bytes]:
        """Keys for encapsulation of those of `peers` that are members."""
        found = ((peer, self.manifest.member(peer)) for peer in peers)
        return {peer: bytes.fromhex(member.kem_key) for peer, member in found if member is not None}


@dataclass(frozen=True)
class Federation:
    """What a party's processes work under."""

    #: What is sealed under it.
    current: Version
    #: What is opened as well: versions that others may have already, and the one before for a while.
    others: tuple[Version, ...] = ()

    @property
    def manifest(self) -> Manifest:
        """The version in force."""
        return self.current.manifest

    def naming_keys(self, peers: tuple[str, ...]) -> dict[str, bytes]:
        """X25519 keys for tokens of persons."""
        members = ((peer, self.manifest.member(peer)) for peer in peers)
        return {peer: bytes.fromhex(member.naming_key) for peer, member in members if member is not None}

    def signing_keys(self, party: str) -> tuple[bytes, ...]:
        """Ed25519 keys whose signatures count as the party's."""
        versions = (self.current, *self.others)
        members = [member for each in versions if (member := each.manifest.member(party)) is not None]
        return tuple(dict.fromkeys(bytes.fromhex(member.signing_key) for member in members))


def load_federation(settings: PartySettings, keys: OwnKeys, code: str, now: datetime) -> Federation:
    """The manifests of the party's home, checked. Raises `ManifestError`: a person has to act.

    `code` is the digest of the code that runs.
    """
    installed = read_installed(settings.home)
    if not installed:
        raise ManifestError(_nothing_signed(settings.home))
    in_force = [each for each in installed if each.valid_from <= now]
    current = in_force[-1] if in_force else installed[0]
    check_time(current, now)
    own = _check_membership(settings, current)
    _check_promises(settings, own, current, code)
    versions = {}
    for manifest in installed:
        member = manifest.member(settings.party)
        pair = keys.pair_with(bytes.fromhex(member.key)) if member is not None else None
        if pair is not None:
            versions[manifest.version] = Version(manifest, pair)
    if current.version not in versions:
        raise ManifestError(
            f"{describe(current)} names a key of {settings.party!r} whose private half is not in "
            f"{settings.home / 'keys'}: restore that folder, or make new keys with `isthmus federation rotate`"
        )
    mine = versions[current.version]
    if (own.kem_key, own.signing_key, own.naming_key) != public_keys(keys, mine.pair):
        raise ManifestError(
            f"{describe(current)} and the keys in {settings.home / 'keys'} do not belong together: restore that folder"
        )
    later = [versions[each.version] for each in installed if each.version > current.version in versions]
    former = versions.get(current.version - 1)
    is_accepted = former is not None and now <= current.former_until
    return Federation(mine, (*later, *([former] if former is not None and is_accepted else [])))


def read_installed(home: Path) -> tuple[Manifest, ...]:
    """The manifests that all members signed, oldest first. Raises `ManifestError` for one that was tampered with."""
    folder = home.absolute() / FOLDER
    paths = {}
    for path in folder.glob("manifest-*.json"):
        if match := re.fullmatch(r"manifest-(\d{1,6})\.json", path.name):
            paths[int(match[1])] = path
    manifests: list[Manifest] = []
    for version, path in sorted(paths.items()):
        signed = read_file(path)
        if signed.manifest.version != version:
            raise ManifestError(f"{path} is version {signed.manifest.version}: somebody renamed it")
        former = manifests[-1] if manifests else None
        if signed.unsigned:
            raise ManifestError(f"{path} is not signed by {', '.join(signed.unsigned)}: it must not be used")
        if former is not None:
            check_step(former, signed.manifest)
        signed.check_signatures(former, path)
        manifests.append(signed.manifest)
    return tuple(manifests)


def read_draft(home: Path) -> SignedManifest | None:
    """The draft in the home, if there is one. Raises `ManifestError`."""
    path = home.absolute() / FOLDER / DRAFT
    return read_file(path) if path.exists() else None


def read_file(path: Path) -> SignedManifest:
    """What another party handed over. Raises `ManifestError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ManifestError(f"{path} is missing") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} cannot be read: {error}") from error
    return parse_manifest(text, path)


def own_member(settings: PartySettings, keys: OwnKeys, pair: KeyPair) -> Member:
    """This party's entry as it would be now, with the keys of `pair`."""
    return Member(
        party=settings.party,
        key=pair.public_key.hex(),
        kem_key=pair.kem_key.hex(),
        signing_key=pair.verifying_key.hex(),
        naming_key=keys.public_naming_key.hex(),
        topics=door_topics(settings.party),
        questions_per_second=settings.score.quota_per_second,
    )


def public_keys(keys: OwnKeys, pair: KeyPair) -> tuple[str, str, str]:
    """What stands in the entry of a party beside the sealing key: for encapsulation, for signing, for tokens."""
    return pair.kem_key.hex(), pair.verifying_key.hex(), keys.public_naming_key.hex()


def door_topics(party: str) -> tuple[str, ...]:
    """The topics of a party that others write to."""
    return tuple(sorted(topic.name for topic in party_topics(party) if topic.kind is Kind.EXCHANGE))


def _check_membership(settings: PartySettings, current: Manifest) -> Member:
    own = current.member(settings.party)
    if own is None:
        raise ManifestError(f"{settings.party!r} is not a member of {describe(current)}: it was removed")
    for peer in settings.peers:
        if current.member(peer) is None:
            raise ManifestError(
                f"{peer!r} is not a member of {describe(current)}: invite it with `isthmus federation invite {peer}`, "
                f"or take it out of `peers` in {settings.home / 'party.yaml'}"
            )
    return own


def _check_promises(settings: PartySettings, own: Member, current: Manifest, code: str) -> None:
    """What this party has signed is what it does."""
    if own.topics != door_topics(settings.party):
        raise ManifestError(
            f"{describe(current)} names other topics of {settings.party!r} than this release of Isthmus has: run the "
            "release that was agreed on, or agree on this one with `isthmus federation rotate`"
        )
    if settings.score.quota_per_second > own.questions_per_second:
        raise ManifestError(
            f"{describe(current)} lets each guest ask {own.questions_per_second} questions a second, and "
            f"{settings.home / 'party.yaml'} says score.quota_per_second: {settings.score.quota_per_second}: lower it, "
            "or agree on more with `isthmus federation rotate`"
        )
    if current.code and code not in current.code:
        agreed = ", ".join(digest[:16] for digest in current.code)
        raise ManifestError(
            f"{describe(current)} lets code with the digest {agreed} run, and this is {code[:16]}: run the release that"
            " was agreed on, or agree on this one with `isthmus federation rotate`"
        )


def _nothing_signed(home: Path) -> str:
    draft = read_draft(home)
    if draft is None:
        return (
            f"{home.absolute() / FOLDER} holds no signed manifest: the party is in no federation yet. Found one with "
            "`isthmus federation init NAME`, or join one with `isthmus federation join FILE`"
        )
    return (
        f"the manifest of federation {draft.manifest.federation!r} is not signed by {', '.join(draft.unsigned)} yet: "
        "hand the file on, and take it back with `isthmus federation sign FILE`"
    )
