"""A manifest on its way through the parties: founded, joined, signed, and made anew.

Parties hand each other one kind of file. Whoever gets one keeps what is new in it: entries of parties that were
invited, and signatures. The order in which files travel does not matter; when every member has signed, the manifest is
installed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from infra.federation import (
    DRAFT,
    FOLDER,
    door_topics,
    own_member,
    public_keys,
    read_draft,
    read_file,
    read_installed,
)
from infra.manifest import (
    Manifest,
    ManifestError,
    Member,
    Profile,
    Signature,
    SignedManifest,
    check_step,
    check_time,
    describe,
)
from infra.secrets import OwnKeys
from infra.settings import PartySettings

VALID_DAYS = 365
#: For how long after a change records under the version before are opened.
GRACE_HOURS = 24


@dataclass(frozen=True)
class Progress:
    """How far a manifest is, and the file to hand on."""

    signed: SignedManifest
    path: Path
    is_installed: bool


@dataclass(frozen=True)
class Change:
    """What the next version has instead of what this one has; None: the same."""

    profile: Profile | None = None
    #: Digests of the code that may run.
    code: tuple[str, ...] | None = None
    invited: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    with_new_keys: bool = False
    valid_days: int = VALID_DAYS
    grace_hours: int = GRACE_HOURS


def found(
    settings: PartySettings,
    keys: OwnKeys,
    name: str,
    now: datetime,
    *,
    profile: Profile,
    code: tuple[str, ...],
    invited: tuple[str, ...] = (),
    valid_days: int = VALID_DAYS,
) -> Progress:
    """The first version, with this party as its only member so far; its peers are invited. Raises `ManifestError`."""
    if read_installed(settings.home) or read_draft(settings.home):
        raise ManifestError(
            f"{settings.home / FOLDER} holds a manifest already: `isthmus federation show` tells which. To change it "
            "use `isthmus federation rotate`; a party that is to be in another federation gets another home"
        )
    manifest = _valid(
        {
            "federation": name,
            "version": 1,
            "valid_from": now,
            "valid_until": now + timedelta(days=valid_days),
            "former_until": now,
            "code": code,
            "profile": profile,
            "members": (own_member(settings, keys, keys.newest),),
            "invited": tuple({*settings.peers, *invited} - {settings.party}),
        }
    )
    return _advance(settings, keys, SignedManifest(manifest=manifest), None)


def change(settings: PartySettings, keys: OwnKeys, now: datetime, wanted: Change) -> Progress:
    """The next version: this party's entry as it is now, and what else is `wanted`. Raises `ManifestError`.

    The party keeps its keys unless `wanted.with_new_keys`: then its newest ones are named.
    """
    draft, installed = read_draft(settings.home), read_installed(settings.home)
    if not installed:
        if draft is None:
            raise ManifestError("the party is in no federation yet: `isthmus federation init NAME` founds one")
        base, former, version = draft.manifest, None, draft.manifest.version
    else:
        former = installed[-1]
        base, version = former, former.version + 1
    if draft is not None and draft.signatures.keys() - {settings.party}:
        raise ManifestError(
            f"{describe(draft.manifest)} is being signed: let that end first, or remove "
            f"{settings.home / FOLDER / DRAFT} if all have given it up"
        )
    if absent := set(wanted.removed) - {member.party for member in base.members} - set(base.invited):
        raise ManifestError(f"{', '.join(sorted(absent))}: not a member of {describe(base)}")
    if settings.party in wanted.removed:
        raise ManifestError("a party does not remove itself: the others do, and sign the next version without it")
    kept = [each for each in base.members if each.party != settings.party and each.party not in wanted.removed]
    names = {each.party for each in kept} | {settings.party}
    own = base.member(settings.party)
    pair = keys.pair_with(bytes.fromhex(own.key)) if own is not None and not wanted.with_new_keys else None
    manifest = _valid(
        {
            "federation": base.federation,
            "version": version,
            "previous": "" if former is None else former.digest.hex(),
            "valid_from": now,
            "valid_until": now + timedelta(days=wanted.valid_days),
            "former_until": now + timedelta(hours=wanted.grace_hours),
            "code": base.code if wanted.code is None else wanted.code,
            "profile": wanted.profile or base.profile,
            "members": (*kept, own_member(settings, keys, pair or keys.newest)),
            "invited": tuple({*base.invited, *wanted.invited} - names - set(wanted.removed)),
        }
    )
    return _advance(settings, keys, SignedManifest(manifest=manifest), former)


def join(settings: PartySettings, keys: OwnKeys, path: Path, now: datetime) -> Progress:
    """Put this party's entry where it is invited. Raises `ManifestError`."""
    if read_installed(settings.home):
        raise ManifestError(f"{settings.party!r} is a member already: take files with `isthmus federation sign FILE`")
    offered = read_file(path)
    draft = read_draft(settings.home)
    manifest = offered.manifest
    if manifest.member(settings.party) is None and settings.party not in manifest.invited:
        raise ManifestError(
            f"{path} does not invite {settings.party!r}: ask for `isthmus federation invite {settings.party}` there"
        )
    if draft is not None and draft.manifest.federation != manifest.federation:
        raise ManifestError(
            f"{settings.home / FOLDER} holds a draft of federation {draft.manifest.federation!r}, and {path} is of "
            f"{manifest.federation!r}: remove {settings.home / FOLDER / DRAFT} if you do not want that one"
        )
    check_time(manifest, now)
    offered.check_signatures(None, path)
    if manifest.member(settings.party) is None:
        offered = SignedManifest(manifest=_with_members(manifest, (own_member(settings, keys, keys.newest),)))
    return _advance(settings, keys, offered, None)


def sign(settings: PartySettings, keys: OwnKeys, path: Path | None, now: datetime) -> Progress:
    """Sign the draft, or take a file: what is new in it is kept, and signed if it can be. Raises `ManifestError`."""
    installed, draft = read_installed(settings.home), read_draft(settings.home)
    former = installed[-1] if installed else None
    if path is None:
        if draft is None:
            raise ManifestError("there is no draft to sign: name the file that another party handed over")
        return _advance(settings, keys, draft, former)
    offered = read_file(path)
    if former is not None and offered.manifest == former:
        return Progress(offered, _installed_path(settings.home, former), is_installed=True)
    if former is not None:
        check_step(former, offered.manifest)
    elif offered.manifest.version > 1 and offered.manifest.member(settings.party) is None:
        raise ManifestError(f"{path} does not know {settings.party!r}: use `isthmus federation join FILE`")
    check_time(offered.manifest, now)
    # Who joins an older federation has no version to compare with: the fingerprints on the phone are what counts.
    offered.check_signatures(former, path)
    if draft is not None:
        offered = _merge(settings.party, draft, offered, path)
    return _advance(settings, keys, offered, former)


def _merge(party: str, draft: SignedManifest, offered: SignedManifest, path: Path) -> SignedManifest:
    """What both know together. Raises `ManifestError` where a file contradicts what this party has signed."""
    ours, theirs = draft.manifest, offered.manifest
    if ours == theirs:
        return SignedManifest(manifest=ours, signatures={**draft.signatures, **offered.signatures})
    if party in draft.signatures:
        raise ManifestError(
            f"{path} holds {describe(theirs)}, and this party has signed {describe(ours)}: a party does not sign two. "
            f"Hand on the file in {FOLDER}/{DRAFT}, or remove it if all agree on the other one"
        )
    known = {member.party: member for member in ours.members}
    for member in theirs.members:
        if known.get(member.party, member) != member:
            raise ManifestError(
                f"{path} has another entry of {member.party!r} than the draft here: compare fingerprints"
            )
    if _frame(ours) != _frame(theirs):
        # The proposal has changed since it was here last.
        return offered
    added = tuple(member for member in theirs.members if member.party not in known)
    merged = _with_members(ours, added)
    # Signatures are of one content: those of the file if it is what came out, or none.
    return offered if merged == theirs else SignedManifest(manifest=merged)


def _advance(settings: PartySettings, keys: OwnKeys, signed: SignedManifest, former: Manifest | None) -> Progress:
    """Sign if nobody is missing, install if all have signed, and write it down."""
    manifest = signed.manifest
    own = manifest.member(settings.party)
    if own is None:
        raise ManifestError(f"{describe(manifest)} has no entry of {settings.party!r}: it was removed, or never joined")
    pair = keys.pair_with(bytes.fromhex(own.key))
    keys_of_own = (own.kem_key, own.signing_key, own.naming_key)
    if pair is None or keys_of_own != public_keys(keys, pair) or own.topics != door_topics(own.party):
        raise ManifestError(
            f"{describe(manifest)} has an entry of {settings.party!r} that this party did not make: do not use the file"
        )
    if not manifest.invited and own.party not in signed.signatures:
        before = former.member(own.party) if former is not None else None
        old = keys.pair_with(bytes.fromhex(before.key)) if before is not None else None
        if before is not None and before.signing_key != own.signing_key and old is None:
            raise ManifestError(
                f"the former key of {own.party!r} is not in {settings.home / 'keys'}: restore it to sign"
            )
        changed = old is not None and before is not None and before.signing_key != own.signing_key
        signature = Signature(
            signature=pair.sign(manifest.signed_bytes).hex(),
            former=old.sign(manifest.signed_bytes).hex() if old is not None and changed else "",
        )
        signed = SignedManifest(manifest=manifest, signatures={**signed.signatures, own.party: signature})
    signed.check_signatures(former, "the manifest")
    draft_path = settings.home / FOLDER / DRAFT
    if signed.unsigned:
        _write(draft_path, signed.to_json())
        return Progress(signed, draft_path, is_installed=False)
    path = _installed_path(settings.home, manifest)
    _write(path, signed.to_json())
    draft_path.unlink(missing_ok=True)
    return Progress(signed, path, is_installed=True)


def _frame(manifest: Manifest) -> Manifest:
    """All but the parties, which come one by one."""
    return manifest.model_copy(update={"members": (), "invited": ()})


def _with_members(manifest: Manifest, added: Sequence[Member]) -> Manifest:
    fields = {name: getattr(manifest, name) for name in type(manifest).model_fields}
    names = {member.party for member in added}
    fields["members"] = (*manifest.members, *added)
    fields["invited"] = tuple(name for name in manifest.invited if name not in names)
    return _valid(fields)


def _valid(fields: dict[str, object]) -> Manifest:
    """A manifest of these fields, parties in order. Raises `ManifestError`."""
    members: tuple[Member, ...] = fields["members"]  # type: ignore[assignment]
    invited: tuple[str, ...] = fields["invited"]  # type: ignore[assignment]
    ordered = {
        **fields,
        "members": tuple(sorted(members, key=lambda member: member.party)),
        "invited": tuple(sorted(set(invited))),
    }
    try:
        return Manifest.model_validate(ordered)
    except ValueError as error:
        raise ManifestError(f"the manifest would not be valid: {error}") from error


def _installed_path(home: Path, manifest: Manifest) -> Path:
    return home.absolute() / FOLDER / f"manifest-{manifest.version}.json"


def _write(path: Path, text: str) -> None:
    """Whole or not at all. Raises `ManifestError`."""
    scratch = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch.open("w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError as error:
        raise ManifestError(f"{path} could not be written: {error}") from error


def utc_now() -> datetime:
    """The machine's clock."""
    return datetime.now(UTC)
