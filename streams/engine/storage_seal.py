"""What a party seals for itself: states on topics, blobs in the store. The other half is `seal.py`."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
from collections.abc import Mapping

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


class _Layer:
    """One generation of the storage key."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self.state_cipher = AESGCMSIV(derive_key(secret, _STATE))
        self.state_nonce_key = derive_key(secret, _STATE_NONCE)
        self.blob_cipher = AESGCMSIV(derive_key(secret, _BLOB))
        self.blob_name_key = derive_key(secret, _BLOB_NAME)


class StorageSeal:
    """A party's storage key, and what is done with it.

    The key has generations: what is written is sealed under the newest, what rests under a former one opens as well.
    """

    def __init__(self, party: str, generations: Mapping[int, bytes]) -> None:
        """Raises `ValueError` for a secret of another length, or none at all."""
        if not generations:
            raise ValueError(f"{party}'s keyring: there is no storage key")
        for number, secret in generations.items():
            check_length(party, f"storage secret {number}", secret)
        self.party = party
        self._layers = {number: _Layer(generations[number]) for number in sorted(generations, reverse=True)}
        #: The number of the newest generation of the storage key.
        self.storage_generation = max(generations)

    @property
    def _newest(self) -> _Layer:
        return self._layers[self.storage_generation]

    def _layer_secret(self, generation: int) -> bytes:
        if generation not in self._layers:
            raise SealError(_describe_unknown(generation, self.storage_generation))
        return self._layers[generation].secret

    # --- states ---

    def seal_state(self, topic: str, partition: int, key: bytes, plaintext: bytes) -> bytes:
        """A value of a state topic. Equal inputs give equal bytes."""
        place = join_fields(topic, partition, key)
        mac = hmac.new(self._newest.state_nonce_key, place, "sha256")
        mac.update(plaintext)
        nonce = mac.digest()[:NONCE_BYTES]
        return encode(SealedState(nonce, self._newest.state_cipher.encrypt(nonce, plaintext, place)))

    def open_state(self, topic: str, partition: int, key: bytes, value: bytes) -> bytes:
        """Raises `SealError`."""
        return self.unseal_state(topic, partition, key, value)[0]

    def unseal_state(self, topic: str, partition: int, key: bytes, value: bytes) -> tuple[bytes, bool]:
        """The state, and whether it is sealed under the newest generation. Raises `SealError`."""
        try:
            sealed = decode(value)
        except DecodeError as error:
            raise SealError(f"no sealed state: {error}") from error
        if not isinstance(sealed, SealedState):
            raise SealError(f"{type(sealed).__name__} instead of a sealed state")
        place = join_fields(topic, partition, key)
        for layer in self._layers.values():
            with contextlib.suppress(InvalidTag, ValueError):
                return layer.state_cipher.decrypt(sealed.nonce, sealed.payload, place), layer is self._newest
        raise SealError(
            "the state does not open: changed, moved, or sealed with another storage key; was the home restored from a "
            "backup that is older than the last `isthmus party rekey`?"
        )

    # --- blobs ---

    def blob_name(self, sha256: bytes) -> bytes:
        """The 32-byte name under which the blob with this digest is stored; says nothing about its content."""
        return self.blob_names(sha256)[0]

    def blob_names(self, sha256: bytes) -> list[bytes]:
        """The names under all generations of the storage key, the newest first."""
        return [hmac.digest(layer.blob_name_key, sha256, "sha256") for layer in self._layers.values()]

    def seal_blob(self, sha256: bytes, content: bytes) -> bytes:
        """The blob as it is stored. The nonce is of the digest, so equal content gives equal bytes."""
        return self._newest.blob_cipher.encrypt(sha256[:NONCE_BYTES], content, sha256)

    def open_blob(self, sha256: bytes, stored: bytes) -> bytes:
        """The content, checked against its digest. Raises `SealError`."""
        content = None
        for layer in self._layers.values():
            with contextlib.suppress(InvalidTag, ValueError):
                content = layer.blob_cipher.decrypt(sha256[:NONCE_BYTES], stored, sha256)
                break
        if content is None:
            raise SealError("the blob does not open: changed, or sealed with another storage key")
        if hashlib.sha256(content).digest() != sha256:
            raise SealError("the blob is not what its digest says")
        return content


def _describe_unknown(generation: int, newest: int) -> str:
    return (
        f"sealed under generation {generation} of the storage key, and {newest} is the newest here: it was erased, or "
        "the home was restored from a backup that is older than the last `isthmus party rekey`"
    )


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
