"""The public half of a party's keys: what its peers hold, in files that people exchange and compare."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from infra.topics import check_party_name

KEY_BYTES = 32
PUBLIC_FORMAT = "isthmus-public-key-2"
#: Before parties signed anything.
FORMER_FORMAT = "isthmus-public-key-1"
#: Encodings of the points of small order of Ed25519, without the sign bit.
SMALL_ORDER = frozenset(
    (
        bytes(32),
        bytes([1, *bytes(31)]),
        bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
        bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
        *(bytes([first, *[0xFF] * 30, 0x7F]) for first in (0xEC, 0xED, 0xEE)),
    )
)


class SecretsError(Exception):
    """Keys are missing, unsafe or unusable. The message names the file and what to do, never a key."""


@dataclass(frozen=True)
class PublicKey:
    """A party's public keys as its peers get them. People compare the fingerprint over another channel."""

    party: str
    #: X25519: what is sealed for the party.
    key: bytes
    #: Ed25519: what the party has signed.
    signing_key: bytes

    @property
    def fingerprint(self) -> str:
        """128 bits of SHA-256 over name and keys, in groups of four hexadecimal digits."""
        names = PUBLIC_FORMAT.encode() + b"\0" + self.party.encode() + b"\0"
        digest = hashlib.sha256(names + self.key + self.signing_key).hexdigest()
        return "-".join(digest[start : start + 4] for start in range(0, 32, 4))

    def to_json(self) -> str:
        """The content of a public key file."""
        content = {
            "format": PUBLIC_FORMAT,
            "party": self.party,
            "key": self.key.hex(),
            "signing_key": self.signing_key.hex(),
            "fingerprint": self.fingerprint,
        }
        return json.dumps(content, indent=2) + "\n"


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
    if isinstance(content, dict) and content.get("format") == FORMER_FORMAT:
        raise SecretsError(
            f"{path} was made before parties had signing keys: {content.get('party')!r} has to run `isthmus keys "
            "upgrade` and to hand out its new party.pub, which you take with `isthmus keys trust FILE --replace`"
        )
    if not isinstance(content, dict) or content.get("format") != PUBLIC_FORMAT:
        raise SecretsError(f"{path} is not a public key file of the format {PUBLIC_FORMAT}")
    try:
        party, key = str(content["party"]), bytes.fromhex(content["key"])
        signing_key = bytes.fromhex(content["signing_key"])
        check_party_name(party)
    except (KeyError, TypeError, ValueError) as error:
        raise SecretsError(f"{path} is damaged: {error}. Ask its party for it again") from error
    if len(key) != KEY_BYTES:
        raise SecretsError(f"{path} holds a key of {len(key)} bytes, X25519 keys have {KEY_BYTES}: ask {party!r} again")
    if len(signing_key) != KEY_BYTES or _is_of_small_order(signing_key):
        raise SecretsError(f"{path} holds no usable Ed25519 key under signing_key: ask {party!r} again")
    public_key = PublicKey(party, key, signing_key)
    if content.get("fingerprint") != public_key.fingerprint:
        raise SecretsError(f"{path} does not match its own fingerprint: it was damaged or altered, ask {party!r} again")
    return public_key


def _is_of_small_order(signing_key: bytes) -> bool:
    """Under such a key anybody can make signatures: its party could deny all of its own."""
    return bytes([*signing_key[:31], signing_key[31] & 0x7F]) in SMALL_ORDER
