"""A federation's manifest: who takes part, with which keys, under which rules. Every party signs the same bytes.

The bytes are canonical JSON (keys sorted, no blanks, ASCII), so that equal manifests have equal digests. The digest is
part of what every sealed record between parties is bound to: records of one federation, or of one version of its
manifest, do not open in another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import AwareDatetime, Field, ValidationError, field_validator, model_validator

from infra.public_keys import parse_kem_key, parse_sealing_key, parse_signing_key
from infra.strict_yaml import Strict
from infra.topics import check_party_name
from schemas.jobs import Privacy
from schemas.profiles import KeyProfile

#: Names of federations, as they stand in file names and texts.
NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"
DIGEST_PATTERN = r"^[0-9a-f]{64}$"
#: How wrong a machine's clock may be.
CLOCK_SKEW = timedelta(minutes=5)

_SIGNED = b"isthmus/federation/1\0"
_FINGERPRINT = b"isthmus/fingerprint/1\0"


class ManifestError(Exception):
    """A manifest cannot be used. The message says what is wrong and what to do."""


class Member(Strict):
    """One party: what the others know it by. Keys in hexadecimal digits."""

    party: str
    #: X25519: what is sealed for the party.
    key: str
    #: ML-KEM-768 and X25519: keys of epochs for the party, which a quantum computer does not open either.
    kem_key: str
    #: Ed25519: what the party has signed.
    signing_key: str
    #: X25519: tokens of persons. It stays when the other keys are replaced, for tokens outlive them.
    naming_key: str
    #: Topics of the party that others may write to; nothing else of it is theirs to touch.
    topics: Annotated[tuple[str, ...], Field(strict=False)]
    #: As a host of online scoring: how many questions a second each guest may ask at most; fewer at any time.
    questions_per_second: Annotated[int, Field(ge=1)]

    @field_validator("party")
    @classmethod
    def _is_party_name(cls, value: str) -> str:
        check_party_name(value)
        return value

    @field_validator("key", "naming_key")
    @classmethod
    def _seals(cls, value: str) -> str:
        return parse_sealing_key(value).hex()

    @field_validator("kem_key")
    @classmethod
    def _encapsulates(cls, value: str) -> str:
        return parse_kem_key(value).hex()

    @field_validator("signing_key")
    @classmethod
    def _signs(cls, value: str) -> str:
        return parse_signing_key(value).hex()

    @property
    def fingerprint(self) -> str:
        """128 bits of SHA-256 over name and keys, in groups of four digits: what people compare on the phone."""
        keys = bytes.fromhex(self.key + self.kem_key + self.signing_key + self.naming_key)
        digest = hashlib.sha256(_FINGERPRINT + self.party.encode() + b"\0" + keys).hexdigest()
        return "-".join(digest[start : start + 4] for start in range(0, 32, 4))


class Profile(Strict):
    """Which algorithms the parties let run with each other."""

    #: Of Paillier's modulus: 2048 (112 bits of security, until 2030) or 3072 (128; NIST SP 800-57).
    paillier_bits: Literal[2048, 3072] = 2048
    #: The furthest from the textbook's `exact` distribution that a job may draw randomisers: see `KeyProfile`.
    randomisers: Annotated[KeyProfile, Field(strict=False)] = KeyProfile.EXACT
    #: Privacy classes that a job may ask for.
    privacy: Annotated[tuple[Annotated[Privacy, Field(strict=False)], ...], Field(strict=False, min_length=1)] = (
        Privacy.SPLIT_LINK,
    )


class Manifest(Strict):
    """What is signed. As a draft it may still name parties that are invited and have not joined."""

    format: Literal["isthmus-federation-1"] = "isthmus-federation-1"
    federation: Annotated[str, Field(pattern=NAME_PATTERN)]
    version: Annotated[int, Field(ge=1)]
    #: Digest of the version before; empty in the first.
    previous: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    valid_from: Annotated[AwareDatetime, Field(strict=False)]
    valid_until: Annotated[AwareDatetime, Field(strict=False)]
    #: Until when records are opened that are still sealed under the version before.
    former_until: Annotated[AwareDatetime, Field(strict=False)]
    #: Digests of the code that may run; none: any.
    code: Annotated[tuple[Annotated[str, Field(pattern=DIGEST_PATTERN)], ...], Field(strict=False)] = ()
    profile: Profile = Profile()
    members: Annotated[tuple[Member, ...], Field(strict=False, min_length=1)]
    invited: Annotated[tuple[str, ...], Field(strict=False)] = ()

    @field_validator("valid_from", "valid_until", "former_until")
    @classmethod
    def _is_utc(cls, value: datetime) -> datetime:
        return value.astimezone(UTC).replace(microsecond=0)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        names = [member.party for member in self.members]
        if names != sorted(set(names)):
            raise ValueError("members are not in the order of their names, each once")
        if self.invited != tuple(sorted(set(self.invited) - set(names))):
            raise ValueError("invited are not in the order of their names, each once, none a member")
        for name in self.invited:
            check_party_name(name)
        keys = [
            key
            for member in self.members
            for key in (member.key, member.kem_key, member.signing_key, member.naming_key)
        ]
        if len(set(keys)) != len(keys):
            raise ValueError("a key occurs twice: every party has its own")
        if self.valid_until <= self.valid_from:
            raise ValueError("valid_until is not after valid_from")
        if (self.version == 1) != (self.previous == ""):
            raise ValueError("`previous` belongs to every version but the first")
        return self

    def member(self, party: str) -> Member | None:
        """The party's entry, if it has one."""
        return next((member for member in self.members if member.party == party), None)

    @property
    def digest(self) -> bytes:
        """32 bytes that stand for this manifest in every sealed record."""
        return hashlib.sha256(_SIGNED + canonical(self.model_dump(mode="json"))).digest()

    @property
    def short_digest(self) -> str:
        """For texts."""
        return self.digest.hex()[:16]

    @property
    def signed_bytes(self) -> bytes:
        """What the parties sign."""
        return _SIGNED + self.digest


class Signature(Strict):
    """Of one party, in hexadecimal digits; with `former` by the key that it had before, if it has a new one."""

    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
    former: Annotated[str, Field(pattern=r"^([0-9a-f]{128})?$")] = ""


class SignedManifest(Strict):
    """A manifest and who has signed it so far: the content of the files that parties hand to each other."""

    manifest: Manifest
    signatures: dict[str, Signature] = Field(default_factory=dict)

    @property
    def unsigned(self) -> tuple[str, ...]:
        """Members without a signature, and whoever has not joined."""
        members = (member.party for member in self.manifest.members if member.party not in self.signatures)
        return (*members, *self.manifest.invited)

    def check_signatures(self, former: Manifest | None, place: object) -> None:
        """Every signature that is there is good. Raises `ManifestError`, naming the party and `place`.

        `former` is the version before. Whoever had another key there has to have signed with that one as well: a new
        key is its owner's word, not that of whoever passes the file on.
        """
        manifest = self.manifest
        for party, signature in self.signatures.items():
            member = manifest.member(party)
            if member is None:
                raise ManifestError(f"{place}: signed by {party!r}, which is not a member: do not use it")
            self._check_one(member.signing_key, signature.signature, f"{place}: the signature of {party!r}")
            known = former.member(party) if former is not None else None
            if known is not None and known.signing_key != member.signing_key:
                what = f"{place}: {party!r} has a new signing key; the signature by its former one"
                self._check_one(known.signing_key, signature.former, what)

    def _check_one(self, key: str, signature: str, what: str) -> None:
        try:
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(
                bytes.fromhex(signature), self.manifest.signed_bytes
            )
        except InvalidSignature:
            raise ManifestError(
                f"{what} is not of this manifest: it was changed after signing, or somebody else signed. Ask for the "
                "file again, over another way"
            ) from None

    def to_json(self) -> str:
        """The content of a file."""
        return json.dumps(self.model_dump(mode="json"), indent=2, sort_keys=True) + "\n"


def parse_manifest(text: str, place: object) -> SignedManifest:
    """What a file holds. Raises `ManifestError` with every mistake, naming `place`."""
    try:
        return SignedManifest.model_validate_json(text)
    except ValidationError as error:
        mistakes = [
            f"  {'.'.join(str(part) for part in details['loc'])}: {details['msg'].removeprefix('Value error, ')}"
            for details in error.errors()
        ]
        raise ManifestError("\n".join([f"{place} is no manifest that can be used:", *mistakes])) from error


def check_time(manifest: Manifest, now: datetime) -> None:
    """Raises `ManifestError` before its time and after it."""
    if now < manifest.valid_from - CLOCK_SKEW:
        raise ManifestError(
            f"{describe(manifest)} is valid from {_text(manifest.valid_from)}, and the clock of this machine says "
            f"{_text(now)}: set the clock, or wait"
        )
    if now > manifest.valid_until + CLOCK_SKEW:
        raise ManifestError(
            f"{describe(manifest)} expired on {_text(manifest.valid_until)} (it is {_text(now)} here): one party makes "
            "the next version with `isthmus federation rotate --keep-keys`, and all sign it"
        )


def check_step(former: Manifest, manifest: Manifest) -> None:
    """`manifest` is the version after `former`. Raises `ManifestError`."""
    if manifest.federation != former.federation:
        raise ManifestError(f"{describe(manifest)} is another federation than {describe(former)}, which is in use here")
    if manifest.version <= former.version:
        raise ManifestError(
            f"{describe(manifest)} is not newer than {describe(former)}, which is in use here: whoever sent it may have"
            " been restored from an old backup, and needs the newest file"
        )
    if manifest.version > former.version + 1:
        raise ManifestError(
            f"{describe(manifest)} comes after a version that is not here; in use is {describe(former)}. Take the "
            "versions in between first"
        )
    if manifest.previous != former.digest.hex():
        raise ManifestError(
            f"{describe(manifest)} does not follow from {describe(former)} as it is here: the parties have different "
            "histories. Compare `isthmus federation show` with the others"
        )


def describe(manifest: Manifest) -> str:
    """For texts."""
    return f"version {manifest.version} of federation {manifest.federation!r} ({manifest.short_digest})"


def changes(former: Manifest, manifest: Manifest) -> Iterable[str]:
    """What is different, in words, for whoever is to sign."""
    before, after = ({member.party: member for member in each.members} for each in (former, manifest))
    yield from (f"{party} is not a member any more" for party in before.keys() - after.keys())
    yield from (f"{party} is new" for party in (after.keys() - before.keys()) | set(manifest.invited))
    for party in sorted(before.keys() & after.keys()):
        fields = type(before[party]).model_fields
        differing = [name for name in fields if getattr(before[party], name) != getattr(after[party], name)]
        if differing:
            yield f"{party} has a new {', '.join(differing)}"
    for name in ("code", "profile", "valid_until"):
        if getattr(former, name) != getattr(manifest, name):
            yield f"{name} changes"


def canonical(document: Any) -> bytes:
    """Equal documents give equal bytes."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
