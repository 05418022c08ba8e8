"""What a party's processes need to seal, open, sign and check: the own keys, and those of the peers by the manifest."""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from infra.code_digest import code_digest
from infra.federation import Federation, Version, load_federation
from infra.federation_drafts import utc_now
from infra.manifest import ManifestError, Profile
from infra.passphrase import read_passphrase
from infra.secrets import KeyPair, OwnKeys, SecretsError, load_keys
from infra.settings import PartySettings


@dataclass(frozen=True)
class PartySecrets:
    """Own keys and the federation's. Its text shows no key."""

    keys: OwnKeys
    peers: tuple[str, ...]
    #: None for a party without peers.
    federation: Federation | None = field(repr=False)

    @property
    def party(self) -> str:
        """Whose they are."""
        return self.keys.party

    @property
    def master_secret(self) -> bytes:
        """Source of all randomness of the party's jobs."""
        return self.keys.master_secret

    @property
    def storage_secret(self) -> bytes:
        """See `OwnKeys.storage_secret`."""
        return self.keys.storage_secret

    @property
    def pair(self) -> KeyPair:
        """The keys in force."""
        return self.keys.newest if self.federation is None else self.federation.current.pair

    @property
    def versions(self) -> tuple[Version, ...]:
        """What records are sealed under (the first) and opened under (all)."""
        return () if self.federation is None else (self.federation.current, *self.federation.others)

    @property
    def profile(self) -> Profile:
        """Which algorithms may run."""
        return Profile() if self.federation is None else self.federation.manifest.profile

    def derive(self, purpose: str) -> bytes:
        """See `OwnKeys.derive`."""
        return self.keys.derive(purpose)

    def sign(self, message: bytes) -> bytes:
        """The party's Ed25519 signature; equal messages give equal signatures."""
        return self.pair.sign(message)

    def has_signed(self, peer: str, message: bytes, signature: bytes) -> bool:
        """Whether it is the peer's signature of the message; not so when its key is not known."""
        keys = () if self.federation is None or peer not in self.peers else self.federation.signing_keys(peer)
        return any(_is_signed(key, message, signature) for key in keys)


def open_keys(settings: PartySettings) -> OwnKeys:
    """The private keys of a party's home. Raises `SecretsError`."""
    return load_keys(settings.home, settings.party, read_passphrase(settings.keys))


def load_secrets(settings: PartySettings) -> PartySecrets:
    """The keys of a party's home, checked. Raises `SecretsError`: a person has to act."""
    keys = open_keys(settings)
    if not settings.peers:
        return PartySecrets(keys, (), None)
    try:
        return PartySecrets(keys, settings.peers, load_federation(settings, keys, code_digest(), utc_now()))
    except ManifestError as error:
        raise SecretsError(str(error)) from error


def _is_signed(key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        return False
    return True
