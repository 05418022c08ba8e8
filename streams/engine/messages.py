"""Sealing of messages outside jobs: many small records between two parties, or from a party to itself.

Nonces are drawn. AES-GCM-SIV forgives their repetition (RFC 8452); replays are recognised by the request ids inside.
"""

from __future__ import annotations

import functools
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from schemas.codec import DecodeError, decode, encode, type_of
from schemas.envelope import SealedMessage
from schemas.footprint import check_footprint
from schemas.record import Record
from streams.engine.seal import Keyring, SealError, join_fields
from streams.engine.storage_seal import NONCE_BYTES

#: Ciphers that stay derived: two a peer and version of the manifest.
CACHED_CIPHERS = 256


class MessageSeal:
    """Seals what goes to a place and opens what lies there. A place is a partition of a topic."""

    def __init__(self, keyring: Keyring, purpose: str) -> None:
        self._keyring = keyring
        self._party = keyring.party
        self._cipher = functools.lru_cache(CACHED_CIPHERS)(functools.partial(_cipher, keyring, purpose))

    def seal(self, record: Record, receiver: str, topic: str, partition: int) -> bytes:
        """The record for `receiver`, at this place only. Raises `SealError` when there is no key for the receiver."""
        nonce, mark = os.urandom(NONCE_BYTES), self._keyring.message_mark(receiver)
        header = join_fields(self._manifest(self._party, receiver, mark), self._party, receiver, topic, partition)
        payload = self._cipher(self._party, receiver, mark).encrypt(nonce, encode(record), header)
        return encode(SealedMessage(self._party, receiver, nonce, payload, mark))

    def open(self, value: bytes, topic: str, partition: int) -> tuple[str, Record]:
        """Sender and record. Raises `SealError`, `DecodeError`."""
        if (cls := type_of(value)) is not SealedMessage:
            raise SealError(f"{cls.__name__} instead of a sealed message")
        message = decode(value)
        assert isinstance(message, SealedMessage)
        if message.receiver != self._party:
            raise SealError(f"a message for {message.receiver!r}, not for {self._party!r}")
        manifest = self._manifest(message.sender, message.receiver, message.manifest)
        header = join_fields(manifest, message.sender, message.receiver, topic, partition)
        try:
            cipher = self._cipher(message.sender, message.receiver, message.manifest)
            plain = cipher.decrypt(message.nonce, message.payload, header)
        except (InvalidTag, ValueError, OverflowError) as error:
            raise SealError(
                f"the message from {message.sender!r} does not open: changed, moved, or another key"
            ) from error
        check_footprint(plain)
        return message.sender, decode(plain)

    def _manifest(self, sender: str, receiver: str, mark: bytes) -> bytes:
        return b"" if sender == receiver else self._keyring.manifest(mark)


def _cipher(keyring: Keyring, purpose: str, sender: str, receiver: str, mark: bytes) -> AESGCMSIV:
    return keyring.message_cipher(sender, receiver, purpose, mark)


__all__ = ["DecodeError", "MessageSeal", "SealError"]
