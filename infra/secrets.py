"""A party's keys, as files that only it can read. They never travel; what travels is the public key file.

<home>/keys/party.key       X25519 private key, for sealing      mode 0600
<home>/keys/signing.key     Ed25519 private key, for statements of account   mode 0600
<home>/keys/master.secret   32 bytes, source of all randomness of the party's jobs (docs/decisions/0006)   mode 0600
<home>/keys/party.pub       the public keys, for the peers
<home>/peers/<party>.pub    the public keys of peers
"""

from __future__ import annotations

import hmac
import os
import secrets
import shutil
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from infra.public_keys import KEY_BYTES, PublicKey, SecretsError, read_public_key
from infra.topics import check_party_name

#: Whoever else may read a secret file.
OTHERS = stat.S_IRWXG | stat.S_IRWXO
#: First line of key files that came from a seed: whoever knows the seed has the keys.
UNSAFE_MARK = "# UNSAFE: derived from a seed, for demonstrations and tests only"


@dataclass(frozen=True)
class PartySecrets:
    """What a process of the party needs to seal and open. Its text shows no key."""

    party: str
    private_key: bytes = field(repr=False)
    signing_key: bytes = field(repr=False)
    master_secret: bytes = field(repr=False)
    peer_keys: dict[str, bytes] = field(repr=False)
    peer_signing_keys: dict[str, bytes] = field(repr=False)
    #: The keys came from a seed and protect nothing.
    is_unsafe: bool = False

    @property
    def public_key(self) -> PublicKey:
        """The own public keys."""
        return _public_key(self.party, self.private_key, self.signing_key)

    def sign(self, message: bytes) -> bytes:
        """The party's Ed25519 signature; equal messages give equal signatures."""
        return Ed25519PrivateKey.from_private_bytes(self.signing_key).sign(message)

    def has_signed(self, peer: str, message: bytes, signature: bytes) -> bool:
        """Whether it is the peer's signature of the message; not so when its key is not known."""
        if peer not in self.peer_signing_keys:
            return False
        try:
            Ed25519PublicKey.from_public_bytes(self.peer_signing_keys[peer]).verify(signature, message)
        except InvalidSignature:
            return False
        return True

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
    private_key, signing_key, master_secret = _draw(party, unsafe_seed)
    public_key = _public_key(party, private_key, signing_key)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        (home.absolute() / "peers").mkdir(exist_ok=True)
        # Made under another name (mode 0700), so that a crash leaves all files or none.
        scratch = Path(tempfile.mkdtemp(prefix="keys-", dir=folder.parent))
        try:
            mark = UNSAFE_MARK + "\n" if unsafe_seed is not None else ""
            _write(scratch / "party.key", mark + private_key.hex() + "\n", 0o600)
            _write(scratch / "signing.key", mark + signing_key.hex() + "\n", 0o600)
            _write(scratch / "master.secret", mark + master_secret.hex() + "\n", 0o600)
            _write(scratch / "party.pub", public_key.to_json(), 0o644)
            scratch.rename(folder)
        except OSError:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
    except OSError as error:
        raise SecretsError(f"the keys of {party} could not be written to {folder}: {error}") from error
    return public_key


def add_signing_key(home: Path, party: str) -> PublicKey:
    """Give a home that was made before parties signed anything its signing key. Raises `SecretsError`.

    The other keys stay as they are. The peers need the new public key file.
    """
    folder = home.absolute() / "keys"
    private_key, is_unsafe = _read_secret(folder / "party.key")
    path = folder / "signing.key"
    try:
        if not path.exists():
            mark = UNSAFE_MARK + "\n" if is_unsafe else ""
            _replace(path, mark + secrets.token_bytes(KEY_BYTES).hex() + "\n", 0o600)
        public_key = _public_key(party, private_key, _read_secret(path)[0])
        _replace(folder / "party.pub", public_key.to_json(), 0o644)
    except OSError as error:
        raise SecretsError(f"the signing key of {party} could not be written to {folder}: {error}") from error
    return public_key


def load_secrets(home: Path, party: str, peers: tuple[str, ...] = ()) -> PartySecrets:
    """The party's keys and those of `peers`. Raises `SecretsError`: a file is missing, wrong or open to others."""
    folder = home.absolute() / "keys"
    private_key, private_unsafe = _read_secret(folder / "party.key")
    master_secret, master_unsafe = _read_secret(folder / "master.secret")
    if not (folder / "signing.key").exists():
        raise SecretsError(
            f"{folder / 'signing.key'} is missing: the home was made before parties had signing keys. Make one with "
            "`isthmus keys upgrade`, and give the new party.pub to each peer"
        )
    signing_key, signing_unsafe = _read_secret(folder / "signing.key")
    own = read_public_key(folder / "party.pub")
    if own != _public_key(party, private_key, signing_key):
        raise SecretsError(
            f"{folder / 'party.pub'} is not the public key of party {party!r} and the keys in {folder}: "
            "does `party:` in the settings name the party for which the keys were made?"
        )
    peer_keys, peer_signing_keys = {}, {}
    for peer in peers:
        path = home.absolute() / "peers" / f"{peer}.pub"
        public_key = read_public_key(path)
        if public_key.party != peer:
            raise SecretsError(f"{path} is the key of party {public_key.party!r}: ask {peer!r} for its own file")
        _check_usable(private_key, public_key, path)
        peer_keys[peer] = public_key.key
        peer_signing_keys[peer] = public_key.signing_key
    is_unsafe = private_unsafe or signing_unsafe or master_unsafe
    return PartySecrets(party, private_key, signing_key, master_secret, peer_keys, peer_signing_keys, is_unsafe)


def add_peer(home: Path, public_key_file: Path, *, replace: bool = False) -> PublicKey:
    """Take a peer's public key file into `<home>/peers`. Raises `SecretsError`, also for a key that changed."""
    public_key = read_public_key(public_key_file)
    own = read_public_key(home.absolute() / "keys" / "party.pub")
    if own.party == public_key.party:
        raise SecretsError(f"{public_key_file} is for party {own.party!r}, which is this party itself")
    if own.key == public_key.key or own.signing_key == public_key.signing_key:
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


def _draw(party: str, unsafe_seed: bytes | None) -> tuple[bytes, bytes, bytes]:
    def draw(name: str) -> bytes:
        if unsafe_seed is None:
            return secrets.token_bytes(KEY_BYTES)
        return hmac.digest(unsafe_seed, f"isthmus/unsafe/{name}\0{party}".encode(), "sha256")

    return draw("party.key"), draw("signing.key"), draw("master.secret")


def _public_key(party: str, private_key: bytes, signing_key: bytes) -> PublicKey:
    return PublicKey(
        party,
        X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw(),
        Ed25519PrivateKey.from_private_bytes(signing_key).public_key().public_bytes_raw(),
    )


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


def _replace(path: Path, text: str, mode: int) -> None:
    """As `_write`, whatever is there, and whole or not at all."""
    scratch = path.with_name(f"{path.name}.{os.getpid()}")
    scratch.unlink(missing_ok=True)
    _write(scratch, text, mode)
    scratch.replace(path)


def _write(path: Path, text: str, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


__all__ = [
    "PartySecrets",
    "PublicKey",
    "SecretsError",
    "add_peer",
    "add_signing_key",
    "create_secrets",
    "load_secrets",
    "read_public_key",
]
