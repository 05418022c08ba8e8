"""A party's keys, as files that only it can read. They never travel; what travels is the manifest (`federation.py`).

<home>/keys/party.key       X25519 private key, for sealing      mode 0600
<home>/keys/kem.key         seed of the key to which keys of epochs are sealed (`streams/kem.py`)   mode 0600
<home>/keys/signing.key     Ed25519 private key, for manifests and statements of account   mode 0600
<home>/keys/master.secret   32 bytes, source of all randomness of the party's jobs (docs/decisions/0006)   mode 0600
<home>/keys/storage.secret  32 bytes, under which the party's states, objects and features rest   mode 0600

A party that replaces its keys gets party-2.key, kem-2.key and signing-2.key beside them, and so on: which ones are in
force the manifest says, by the public keys in it. storage-2.secret and so on are further generations of the storage
key: the newest is in force, and the former ones are needed until nothing rests under them (docs/decisions/0021).
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from infra.key_files import line_of, read_secret, write_line
from infra.passphrase import SALT_BYTES
from infra.public_keys import KEY_BYTES, SecretsError
from infra.topics import check_party_name
from streams import kem


@dataclass(frozen=True)
class KeyPair:
    """One generation of a party's private keys. Its text shows none."""

    private_key: bytes = field(repr=False)
    signing_key: bytes = field(repr=False)
    kem_seed: bytes = field(repr=False)

    @property
    def public_key(self) -> bytes:
        """X25519."""
        return X25519PrivateKey.from_private_bytes(self.private_key).public_key().public_bytes_raw()

    @property
    def verifying_key(self) -> bytes:
        """Ed25519."""
        return Ed25519PrivateKey.from_private_bytes(self.signing_key).public_key().public_bytes_raw()

    @property
    def kem_key(self) -> bytes:
        """ML-KEM-768 and X25519, see `streams/kem.py`."""
        return kem.public_key_of(self.kem_seed)

    def sign(self, message: bytes) -> bytes:
        """The Ed25519 signature; equal messages give equal signatures."""
        return Ed25519PrivateKey.from_private_bytes(self.signing_key).sign(message)


@dataclass(frozen=True)
class OwnKeys:
    """All private keys in a home. Its text shows none."""

    party: str
    #: In the order in which they were made.
    pairs: tuple[KeyPair, ...]
    master_secret: bytes = field(repr=False)
    #: Generation -> key under which states, objects and features rest.
    storage: Mapping[int, bytes] = field(repr=False)
    #: The keys came from a seed and protect nothing.
    is_unsafe: bool = False

    @property
    def newest(self) -> KeyPair:
        """What the party names when it joins."""
        return self.pairs[-1]

    @property
    def naming_key(self) -> bytes:
        """X25519 private key for tokens of persons; the same for the life of the master secret."""
        return self.derive("naming")

    @property
    def public_naming_key(self) -> bytes:
        """X25519."""
        return X25519PrivateKey.from_private_bytes(self.naming_key).public_key().public_bytes_raw()

    @property
    def storage_secret(self) -> bytes:
        """What pseudonyms and keys of epochs are made of; the same for the life of the master secret."""
        return self.derive("storage")

    def derive(self, purpose: str) -> bytes:
        """32 bytes of the master secret for one purpose, unrelated to those for any other and to the seeds of jobs."""
        return hmac.digest(self.master_secret, b"isthmus/secret/1\0" + purpose.encode(), "sha256")

    def pair_with(self, public_key: bytes) -> KeyPair | None:
        """The pair that has this public sealing key."""
        return next((pair for pair in self.pairs if pair.public_key == public_key), None)


def create_secrets(
    home: Path, party: str, *, passphrase: bytes | None = None, unsafe_seed: bytes | None = None
) -> OwnKeys:
    """Make the party's keys, all or none, sealed if there is a passphrase; never replaces any. Raises `SecretsError`.

    With `unsafe_seed` the keys are a function of the seed and the party's name: demonstrations and tests get the same
    bytes each time, and no protection.
    """
    check_party_name(party)
    folder = home.absolute() / "keys"
    if folder.exists():
        raise SecretsError(
            f"{folder} exists already and is not replaced: without these keys no past job can be opened again. Use "
            "them, or choose another --home"
        )
    names = ("party.key", "kem.key", "signing.key", "storage.secret", "master.secret")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Made under another name (mode 0700), so that a crash leaves all files or none.
        scratch = Path(tempfile.mkdtemp(prefix="keys-", dir=folder.parent))
        try:
            salt = secrets.token_bytes(SALT_BYTES)
            for name in names:
                line = line_of(_draw(name, party, unsafe_seed), name, passphrase, salt)
                write_line(scratch / name, line, is_unsafe=unsafe_seed is not None)
            scratch.rename(folder)
        except OSError:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
    except OSError as error:
        raise SecretsError(f"the keys of {party} could not be written to {folder}: {error}") from error
    return load_keys(home, party, passphrase)


def add_pair(home: Path, party: str, passphrase: bytes | None = None) -> OwnKeys:
    """Make one more generation of keys. Raises `SecretsError`, also when those that are there cannot be used."""
    load_keys(home, party, passphrase)
    folder = home.absolute() / "keys"
    number = _generations(folder)[-1] + 1
    try:
        # The generation counts when its sealing key is there: that one is written last.
        for kind in ("signing", "kem"):
            (folder / _file_name(kind, number)).unlink(missing_ok=True)
        salt = secrets.token_bytes(SALT_BYTES)
        for kind in ("signing", "kem", "party"):
            name = _file_name(kind, number)
            write_line(folder / name, line_of(secrets.token_bytes(KEY_BYTES), name, passphrase, salt), is_unsafe=False)
    except OSError as error:
        raise SecretsError(f"new keys of {party} could not be written to {folder}: {error}") from error
    return load_keys(home, party, passphrase)


def add_storage(home: Path, party: str, passphrase: bytes | None = None) -> OwnKeys:
    """Make one more generation of the storage key. Raises `SecretsError`, also when what is there cannot be used."""
    keys, folder = load_keys(home, party, passphrase), home.absolute() / "keys"
    path = folder / _storage_name(max(keys.storage) + 1)
    # Made under another name, so that it is there as a whole or not at all.
    scratch = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        scratch.unlink(missing_ok=True)
        line = line_of(secrets.token_bytes(KEY_BYTES), path.name, passphrase, secrets.token_bytes(SALT_BYTES))
        write_line(scratch, line, is_unsafe=False)
        scratch.rename(path)
    except OSError as error:
        raise SecretsError(f"a new storage key of {party} could not be written to {folder}: {error}") from error
    return load_keys(home, party, passphrase)


def erase_storage(home: Path, keys: OwnKeys) -> int:
    """Delete all generations of the storage key but the newest; how many it were. Raises `SecretsError`.

    What rests under them never opens again, if there is no other copy of the files.
    """
    former = sorted(keys.storage)[:-1]
    try:
        for number in former:
            (home.absolute() / "keys" / _storage_name(number)).unlink()
    except OSError as error:
        raise SecretsError(f"former storage keys could not be deleted: {error}") from error
    return len(former)


def protect_keys(home: Path, party: str, former: bytes | None, passphrase: bytes | None) -> OwnKeys:
    """Seal the key files with another passphrase than `former`; None: do not seal them. Raises `SecretsError`.

    Files that are as they shall be stay as they are, so that it can be run again after a crash.
    """
    folder, salt = home.absolute() / "keys", secrets.token_bytes(SALT_BYTES)
    for path in sorted((*folder.glob("*.key"), *folder.glob("storage*.secret"), folder / "master.secret")):
        try:
            read_secret(path, passphrase)
            continue
        except SecretsError:
            key, is_unsafe = read_secret(path, former)
        scratch = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            scratch.unlink(missing_ok=True)
            write_line(scratch, line_of(key, path.name, passphrase, salt), is_unsafe=is_unsafe)
            scratch.replace(path)
        except OSError as error:
            raise SecretsError(f"{path} could not be written: {error}") from error
    return load_keys(home, party, passphrase)


def erase_pairs(home: Path, keys: OwnKeys, keep: Collection[KeyPair]) -> int:
    """Delete the files of all generations but those to keep and the newest; how many it were. Raises `SecretsError`.

    Nothing that was sealed for these generations opens ever again, if there is no other copy of the files.
    """
    folder = home.absolute() / "keys"
    gone = [
        number
        for number, pair in zip(_generations(folder), keys.pairs, strict=True)
        if pair not in keep and pair is not keys.newest
    ]
    try:
        # A generation is there as long as its sealing key is: what a crash leaves of others goes the next time.
        for number in gone:
            (folder / _file_name("party", number)).unlink()
        left = {_file_name(kind, number) for kind in ("kem", "signing") for number in _generations(folder)}
        for path in (*folder.glob("kem*.key"), *folder.glob("signing*.key")):
            if path.name not in left:
                path.unlink()
    except OSError as error:
        raise SecretsError(f"keys in {folder} could not be deleted: {error}") from error
    return len(gone)


def load_keys(home: Path, party: str, passphrase: bytes | None = None) -> OwnKeys:
    """The party's own keys. Raises `SecretsError`: a file is missing, wrong, open to others, or does not open."""
    folder = home.absolute() / "keys"
    master_secret, is_unsafe = read_secret(folder / "master.secret", passphrase)
    pairs = []
    for number in _generations(folder):
        private_key, private_unsafe = read_secret(folder / _file_name("party", number), passphrase)
        signing_key, signing_unsafe = read_secret(folder / _file_name("signing", number), passphrase)
        kem_seed, kem_unsafe = read_secret(folder / _file_name("kem", number), passphrase)
        pairs.append(KeyPair(private_key, signing_key, kem_seed))
        is_unsafe = is_unsafe or private_unsafe or signing_unsafe or kem_unsafe
    storage = {
        number: read_secret(folder / _storage_name(number), passphrase)[0] for number in _storage_generations(folder)
    }
    return OwnKeys(party, tuple(pairs), master_secret, storage, is_unsafe)


def _generations(folder: Path) -> list[int]:
    """Of keys that are there, oldest first; the first where there are none, so that its file is missed."""
    matches = (re.fullmatch(r"party(?:-(\d{1,4}))?\.key", path.name) for path in folder.glob("party*.key"))
    return sorted(int(match[1] or 1) for match in matches if match) or [1]


def _storage_generations(folder: Path) -> list[int]:
    """Of storage keys that are there; the first where there are none, so that its file is missed."""
    matches = (re.fullmatch(r"storage(?:-(\d{1,4}))?\.secret", path.name) for path in folder.glob("storage*.secret"))
    return sorted(int(match[1] or 1) for match in matches if match) or [1]


def _storage_name(number: int) -> str:
    return "storage.secret" if number == 1 else f"storage-{number}.secret"


def _file_name(kind: str, number: int) -> str:
    return f"{kind}.key" if number == 1 else f"{kind}-{number}.key"


def _draw(name: str, party: str, unsafe_seed: bytes | None) -> bytes:
    if unsafe_seed is None:
        return secrets.token_bytes(KEY_BYTES)
    return hmac.digest(unsafe_seed, f"isthmus/unsafe/{name}\0{party}".encode(), "sha256")


__all__ = [
    "KeyPair",
    "OwnKeys",
    "SecretsError",
    "add_pair",
    "add_storage",
    "create_secrets",
    "erase_pairs",
    "erase_storage",
    "load_keys",
    "protect_keys",
]
