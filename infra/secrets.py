"""A party's keys, as files that only it can read. They never travel; what travels is the public key file.

<home>/keys/party.key       X25519 private key       mode 0600
<home>/keys/master.secret   32 bytes, source of all randomness of the party's jobs (docs/decisions/0006)   mode 0600
<home>/keys/party.pub       the public key, for the peers
<home>/peers/<party>.pub    the public keys of peers
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import shutil
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from infra.topics import check_party_name

KEY_BYTES = 32
#: Whoever else may read a secret file.
OTHERS = stat.S_IRWXG | stat.S_IRWXO
PUBLIC_FORMAT = "isthmus-public-key-1"
#: First line of key files that came from a seed: whoever knows the seed has the keys.
UNSAFE_MARK = "# UNSAFE: derived from a seed, for demonstrations and tests only"


class SecretsError(Exception):
    """Keys are missing, unsafe or unusable. The message names the file and what to do, never a key."""


@dataclass(frozen=True)
class PublicKey:
    """A party's public key as its peers get it. People compare the fingerprint over another channel."""

    party: str
    key: bytes

    @property
    def fingerprint(self) -> str:
        """128 bits of SHA-256 over name and key, in groups of four hexadecimal digits."""
        digest = hashlib.sha256(PUBLIC_FORMAT.encode() + b"\0" + self.party.encode() + b"\0" + self.key).hexdigest()
        return "-".join(digest[start : start + 4] for start in range(0, 32, 4))

    def to_json(self) -> str:
        """The content of a public key file."""
        content = {"format": PUBLIC_FORMAT, "party": self.party, "key": self.key.hex(), "fingerprint": self.fingerprint}
        return json.dumps(content, indent=2) + "\n"


@dataclass(frozen=True)
class PartySecrets:
    """What a process of the party needs to seal and open. Its text shows no key."""

    party: str
    private_key: bytes = field(repr=False)
    master_secret: bytes = field(repr=False)
    peer_keys: dict[str, bytes] = field(repr=False)
    #: The keys came from a seed and protect nothing.
    is_unsafe: bool = False

    @property
    def public_key(self) -> PublicKey:
        """The own public key."""
        return PublicKey(self.party, _public_bytes(self.private_key))

    def derive(self, purpose: str) -> bytes:
        """32 bytes of the master secret for one purpose, unrelated to those for any other and to the seeds of jobs."""
        return hmac.digest(self.master_secret, b"isthmus/secret/1\0" + purpose.encode(), "sha256")

    @property
    def storage_secret(self) -> bytes:
        """What states and objects of this party are sealed with."""
        return self.derive("storage")


def create_secrets(home: Path, party: str, *, unsafe_seed: bytes | None = None) -> PublicKey:
    """Make the party's keys, all or none; never replaces any. Raises `SecretsError`.

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
    private_key, master_secret = _draw(party, unsafe_seed)
    public_key = PublicKey(party, _public_bytes(private_key))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        (home.absolute() / "peers").mkdir(exist_ok=True)
        # Made under another name (mode 0700), so that a crash leaves all files or none.
        scratch = Path(tempfile.mkdtemp(prefix="keys-", dir=folder.parent))
        try:
            mark = UNSAFE_MARK + "\n" if unsafe_seed is not None else ""
            _write(scratch / "party.key", mark + private_key.hex() + "\n", 0o600)
            _write(scratch / "master.secret", mark + master_secret.hex() + "\n", 0o600)
            _write(scratch / "party.pub", public_key.to_json(), 0o644)
            scratch.rename(folder)
        except OSError:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
    except OSError as error:
        raise SecretsError(f"the keys of {party} could not be written to {folder}: {error}") from error
    return public_key


def load_secrets(home: Path, party: str, peers: tuple[str, ...] = ()) -> PartySecrets:
    """The party's keys and those of `peers`. Raises `SecretsError`: a file is missing, wrong or open to others."""
    folder = home.absolute() / "keys"
    private_key, private_unsafe = _read_secret(folder / "party.key")
    master_secret, master_unsafe = _read_secret(folder / "master.secret")
    own = read_public_key(folder / "party.pub")
    if own != PublicKey(party, _public_bytes(private_key)):
        raise SecretsError(
            f"{folder / 'party.pub'} is not the public key of party {party!r} and {folder / 'party.key'}: "
            "does `party:` in the settings name the party for which the keys were made?"
        )
    peer_keys = {}
    for peer in peers:
        path = home.absolute() / "peers" / f"{peer}.pub"
        public_key = read_public_key(path)
        if public_key.party != peer:
            raise SecretsError(f"{path} is the key of party {public_key.party!r}: ask {peer!r} for its own file")
        _check_usable(private_key, public_key, path)
        peer_keys[peer] = public_key.key
    return PartySecrets(party, private_key, master_secret, peer_keys, private_unsafe or master_unsafe)


def add_peer(home: Path, public_key_file: Path, *, replace: bool = False) -> PublicKey:
    """Take a peer's public key file into `<home>/peers`. Raises `SecretsError`, also for a key that changed."""
    public_key = read_public_key(public_key_file)
    own = read_public_key(home.absolute() / "keys" / "party.pub")
    if own.party == public_key.party:
        raise SecretsError(f"{public_key_file} is for party {own.party!r}, which is this party itself")
    if own.key == public_key.key:
        raise SecretsError(f"{public_key_file} holds this party's own key: ask {public_key.party!r} for its file")
    path = home.absolute() / "peers" / f"{public_key.party}.pub"
    if path.exists() and not replace and (known := read_public_key(path)) != public_key:
        raise SecretsError(
            f"{public_key.party!r} has the key {known.fingerprint} here, and {public_key.fingerprint} in "
            f"{public_key_file}. If that party says it made a new one, replace it explicitly"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(public_key.to_json(), encoding="utf-8")
    except OSError as error:
        raise SecretsError(f"{path} could not be written: {error}") from error
    return public_key


def read_public_key(path: Path) -> PublicKey:
    """The public key in a file. Raises `SecretsError` when it is missing, damaged or was altered."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SecretsError(
            f"{path} is missing: make keys with `isthmus party init`, or add the peer's file with `isthmus keys`"
        ) from None
    except (OSError, ValueError) as error:
        raise SecretsError(f"{path} is not a public key file: {error}") from error
    if not isinstance(content, dict) or content.get("format") != PUBLIC_FORMAT:
        raise SecretsError(f"{path} is not a public key file of the format {PUBLIC_FORMAT}")
    try:
        party, key = str(content["party"]), bytes.fromhex(content["key"])
        check_party_name(party)
    except (KeyError, TypeError, ValueError) as error:
        raise SecretsError(f"{path} is damaged: {error}. Ask its party for it again") from error
    if len(key) != KEY_BYTES:
        raise SecretsError(f"{path} holds a key of {len(key)} bytes, X25519 keys have {KEY_BYTES}: ask {party!r} again")
    public_key = PublicKey(party, key)
    if content.get("fingerprint") != public_key.fingerprint:
        raise SecretsError(f"{path} does not match its own fingerprint: it was damaged or altered, ask {party!r} again")
    return public_key


def _draw(party: str, unsafe_seed: bytes | None) -> tuple[bytes, bytes]:
    if unsafe_seed is None:
        return secrets.token_bytes(KEY_BYTES), secrets.token_bytes(KEY_BYTES)
    private_key = hmac.digest(unsafe_seed, b"isthmus/unsafe/party.key\0" + party.encode(), "sha256")
    master_secret = hmac.digest(unsafe_seed, b"isthmus/unsafe/master.secret\0" + party.encode(), "sha256")
    return private_key, master_secret


def _public_bytes(private_key: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


def _check_usable(private_key: bytes, public_key: PublicKey, path: Path) -> None:
    """A point of small order would make the shared key public (RFC 7748, section 6.1)."""
    try:
        X25519PrivateKey.from_private_bytes(private_key).exchange(X25519PublicKey.from_public_bytes(public_key.key))
    except ValueError as error:
        raise SecretsError(
            f"{path} holds a key that protects nothing: do not use it, ask {public_key.party!r}"
        ) from error


def _read_secret(path: Path) -> tuple[bytes, bool]:
    """The bytes, and whether they came from a seed."""
    try:
        with path.open(encoding="ascii") as file:
            mode = os.fstat(file.fileno()).st_mode
            if mode & OTHERS:
                raise SecretsError(
                    f"{path} can be read or changed by other users (mode {stat.S_IMODE(mode):04o}) and is not used: if "
                    f"nobody has read it, run chmod 600 {path}"
                )
            lines = file.read().splitlines()
    except FileNotFoundError:
        raise SecretsError(f"{path} is missing: make keys with `isthmus party init`") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SecretsError(f"{path} cannot be read: {error}") from error
    unsafe = UNSAFE_MARK in lines
    body = "".join(line.strip() for line in lines if not line.startswith("#"))
    try:
        key = bytes.fromhex(body)
    except ValueError:
        raise SecretsError(f"{path} is damaged: it should hold {2 * KEY_BYTES} hexadecimal digits") from None
    if len(key) != KEY_BYTES:
        raise SecretsError(f"{path} holds {len(key)} bytes instead of {KEY_BYTES}: it is damaged")
    return key, unsafe


def _write(path: Path, text: str, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
