"""What a party seals for itself: states on topics, blobs in the store. The other half is `seal.py`."""

from __future__ import annotations

import hashlib
import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from schemas.codec import DecodeError, decode, encode
from schemas.envelope import SealedState
from streams.engine.agreement import KEY_BYTES, check_length

NONCE_BYTES = 12

_STATE = b"isthmus/state/1"
_STATE_NONCE = b"isthmus/state-nonce/1"
_BLOB = b"isthmus/blob/1"
_BLOB_NAME = b"isthmus/blob-name/1"


class SealError(Exception):
    """It does not open: not for us, changed on the way, or sealed with another key."""


class StorageSeal:
    """A party's storage key, and what is done with it."""

    def __init__(self, party: str, storage_secret: bytes) -> None:
        """Raises `ValueError` for a secret of another length."""
        check_length(party, "storage secret", storage_secret)
        self.party = party
        self._storage_secret = storage_secret
        self._state_cipher = AESGCMSIV(derive_key(storage_secret, _STATE))
        self._state_nonce_key = derive_key(storage_secret, _STATE_NONCE)
        self._blob_cipher = AESGCMSIV(derive_key(storage_secret, _BLOB))
        self._blob_name_key = derive_key(storage_secret, _BLOB_NAME)

    # --- states ---

    def seal_state(self, topic: str, partition: int, key: bytes, plaintext: bytes) -> bytes:
        """A value of a state topic. Equal inputs give equal bytes."""
        place = join_fields(topic, partition, key)
        mac = hmac.new(self._state_nonce_key, place, "sha256")
        mac.update(plaintext)
        nonce = mac.digest()[:NONCE_BYTES]
        return encode(SealedState(nonce, self._state_cipher.encrypt(nonce, plaintext, place)))

    def open_state(self, topic: str, partition: int, key: bytes, value: bytes) -> bytes:
        """Raises `SealError`."""
        try:
            sealed = decode(value)
        except DecodeError as error:
            raise SealError(f"no sealed state: {error}") from error
        if not isinstance(sealed, SealedState):
            raise SealError(f"{type(sealed).__name__} instead of a sealed state")
        try:
            return self._state_cipher.decrypt(sealed.nonce, sealed.payload, join_fields(topic, partition, key))
        except (InvalidTag, ValueError) as error:
            raise SealError("the state does not open: changed, moved, or sealed with another storage key") from error

    # --- blobs ---

    def blob_name(self, sha256: bytes) -> bytes:
        """The 32-byte name under which the blob with this digest is stored; says nothing about its content."""
        return hmac.digest(self._blob_name_key, sha256, "sha256")

    def seal_blob(self, sha256: bytes, content: bytes) -> bytes:
        """The blob as it is stored. The nonce is of the digest, so equal content gives equal bytes."""
        return self._blob_cipher.encrypt(sha256[:NONCE_BYTES], content, sha256)

    def open_blob(self, sha256: bytes, stored: bytes) -> bytes:
        """The content, checked against its digest. Raises `SealError`."""
        try:
            content = self._blob_cipher.decrypt(sha256[:NONCE_BYTES], stored, sha256)
        except (InvalidTag, ValueError) as error:
            raise SealError("the blob does not open: changed, or sealed with another storage key") from error
        if hashlib.sha256(content).digest() != sha256:
            raise SealError("the blob is not what its digest says")
        return content


def join_fields(*fields: str | bytes | int) -> bytes:
    """The fields as one string, each with its length in front, so that no two lists of fields join to the same."""
    parts = []
    for one in fields:
        data = one if isinstance(one, bytes) else str(one).encode()
        parts.append(len(data).to_bytes(4, "big") + data)
    return b"".join(parts)


def derive_key(secret: bytes, info: bytes) -> bytes:
    """32 bytes of a secret for one purpose (HKDF, RFC 5869)."""
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=info).derive(secret)
