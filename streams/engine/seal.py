"""Encryption of everything that leaves the process: records to peers, records to oneself, states, blobs.

AES-256-GCM-SIV throughout (RFC 8452): a replay after a crash encrypts the same bytes under the same nonce, and if two
different ones ever met under one nonce, an observer would learn no more than that they differ.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from schemas.codec import DecodeError, decode, encode
from schemas.envelope import SealedRecord, SealedState
from streams.engine.agreement import KEY_BYTES, Agreement, check_length, describe_unknown

NONCE_BYTES = 12
#: Streams whose keys stay derived: parties x stages x the jobs that run at the same time.
CACHED_KEYS = 4096

_RECORD = b"isthmus/record/1"
_OWN_RECORD = b"isthmus/own-record/1"
_DIGEST = b"isthmus/digest/1"
_STATE = b"isthmus/state/1"
_STATE_NONCE = b"isthmus/state-nonce/1"
_MESSAGE = b"isthmus/message/1"
_TOKEN = b"isthmus/token/1"
_BLOB = b"isthmus/blob/1"
_BLOB_NAME = b"isthmus/blob-name/1"


class SealError(Exception):
    """It does not open: not for us, changed on the way, or sealed with another key."""


@dataclass(frozen=True)
class Stream:
    """One direction of records between two stages, possibly of the same party, about one job."""

    sender: str
    receiver: str
    job_id: str
    origin: str
    stage: str


class Keyring:
    """A party's keys, and all that is done with them. Its text shows none."""

    def __init__(
        self,
        party: str,
        current: Agreement,
        storage_secret: bytes,
        *,
        others: Sequence[Agreement] = (),
        naming: Agreement | None = None,
    ) -> None:
        """What is sealed is sealed under `current`; what was sealed under `others` is opened as well.

        `naming` holds the keys for tokens of persons, which outlive the others (by default the same).
        `storage_secret` is known to this party only. Raises `ValueError` for a key of another length or of low order;
        the text names the party.
        """
        check_length(party, "storage secret", storage_secret)
        self.party = party
        self._storage_secret = storage_secret
        self._current = current
        self._agreements = {agreement.mark: agreement for agreement in (*others, current)}
        self._shares = {mark: agreement.share(party) for mark, agreement in self._agreements.items()}
        self._naming = self._shares[current.mark] if naming is None else naming.share(party)
        self._stream_keys = functools.lru_cache(CACHED_KEYS)(self._derive_stream_keys)
        self._state_cipher = AESGCMSIV(_derive(storage_secret, _STATE))
        self._state_nonce_key = _derive(storage_secret, _STATE_NONCE)
        self._blob_cipher = AESGCMSIV(_derive(storage_secret, _BLOB))
        self._blob_name_key = _derive(storage_secret, _BLOB_NAME)

    def __repr__(self) -> str:
        return f"Keyring({self.party}, peers {sorted(self.peers)})"

    @property
    def peers(self) -> frozenset[str]:
        """The parties whose records can be opened."""
        return frozenset(self._shares[self._current.mark])

    @property
    def current_manifest(self) -> bytes:
        """The digest of the manifest in force."""
        return self._current.manifest

    def mark_for(self, receiver: str) -> bytes:
        """The mark of the manifest in force; records to oneself have none, and open for ever."""
        return b"" if receiver == self.party else self._current.mark

    # --- records ---

    def digest(self, stream: Stream, encoding: bytes, mark: bytes | None = None) -> bytes:
        """The keyed digest of a whole record's encoding, for records of several chunks. Raises `SealError`.

        `mark` is that of the chunks, where they came from a peer.
        """
        mark = self.mark_for(stream.receiver) if mark is None else mark
        return hmac.digest(self._stream_keys(stream, mark)[1], encoding, "sha256")

    def seal(
        self,
        stream: Stream,
        sequence: int,
        plaintext: bytes,
        *,
        chunk_index: int = 0,
        chunk_count: int = 1,
        digest: bytes = b"",
    ) -> SealedRecord:
        """The envelope of a record or a chunk of one. Raises `SealError` when there is no key for the receiver."""
        bare = SealedRecord(
            sender=stream.sender,
            receiver=stream.receiver,
            job_id=stream.job_id,
            origin=stream.origin,
            stage=stream.stage,
            sequence=sequence,
            chunk_index=chunk_index,
            chunk_count=chunk_count,
            digest=digest,
            payload=b"",
            manifest=self.mark_for(stream.receiver),
        )
        cipher = self._stream_keys(stream, bare.manifest)[0]
        return replace(bare, payload=cipher.encrypt(_nonce(bare), plaintext, self._header(bare)))

    def open(self, envelope: SealedRecord) -> bytes:
        """The plaintext of the record or chunk. Raises `SealError`."""
        stream = stream_of(envelope)
        try:
            cipher = self._stream_keys(stream, envelope.manifest)[0]
            return cipher.decrypt(_nonce(envelope), envelope.payload, self._header(envelope))
        except (InvalidTag, OverflowError, ValueError) as error:
            raise SealError(f"the envelope from {envelope.sender!r} does not open: changed, or another key") from error

    def _derive_stream_keys(self, stream: Stream, mark: bytes) -> tuple[AESGCMSIV, bytes]:
        if stream.sender == stream.receiver == self.party:
            secret, purpose = self._storage_secret, _OWN_RECORD
        else:
            secret, purpose = self._shared_with(stream.sender, stream.receiver, mark), _RECORD
        info = join_fields(stream.sender, stream.receiver, stream.job_id, stream.origin, stream.stage)
        return AESGCMSIV(_derive(secret, purpose + info)), _derive(secret, _DIGEST + info)

    # --- messages outside jobs ---

    def message_cipher(self, sender: str, receiver: str, purpose: str, mark: bytes) -> AESGCMSIV:
        """The cipher of messages from `sender` to `receiver`, one of which is this party. Raises `SealError`."""
        info = _MESSAGE + join_fields(sender, receiver, purpose)
        if sender == receiver == self.party:
            return AESGCMSIV(_derive(self._storage_secret, info))
        return AESGCMSIV(_derive(self._shared_with(sender, receiver, mark), info))

    def token_key(self, guest: str, host: str) -> bytes:
        """What both parties derive the tokens of persons from; nobody else can. Raises `SealError`."""
        peer = host if guest == self.party else guest
        if self.party not in (guest, host) or peer not in self._naming:
            raise SealError(f"{self.party} has no key for tokens of {guest!r} at {host!r}")
        return _derive(self._naming[peer], _TOKEN + join_fields(guest, host, ""))

    def pseudonym_key(self) -> bytes:
        """What this party alone derives its pseudonyms of persons from."""
        return _derive(self._storage_secret, _TOKEN)

    def manifest(self, mark: bytes) -> bytes:
        """The whole digest behind a record's mark; nothing for a record to oneself. Raises `SealError`."""
        if not mark:
            return b""
        if mark not in self._agreements:
            raise SealError(describe_unknown(self.party, mark, self._agreements))
        return self._agreements[mark].manifest

    def _shared_with(self, sender: str, receiver: str, mark: bytes) -> bytes:
        if self.party not in (sender, receiver):
            raise SealError(f"{self.party} is neither sender nor receiver")
        peer = receiver if sender == self.party else sender
        if mark not in self._shares:
            raise SealError(describe_unknown(self.party, mark, self._agreements))
        if peer not in self._shares[mark]:
            raise SealError(f"{self.party} has no key of {peer!r}: it is not a member of the federation")
        return self._shares[mark][peer]

    def _header(self, envelope: SealedRecord) -> bytes:
        """What the envelope's encryption is bound to."""
        return join_fields(
            self.manifest(envelope.manifest),
            envelope.sender,
            envelope.receiver,
            envelope.job_id,
            envelope.origin,
            envelope.stage,
            envelope.sequence,
            envelope.chunk_index,
            envelope.chunk_count,
            envelope.digest,
        )

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


def stream_of(envelope: SealedRecord) -> Stream:
    """The stream that the envelope says it belongs to."""
    return Stream(envelope.sender, envelope.receiver, envelope.job_id, envelope.origin, envelope.stage)


def join_fields(*fields: str | bytes | int) -> bytes:
    """The fields as one string, each with its length in front, so that no two lists of fields join to the same."""
    parts = []
    for field in fields:
        data = field if isinstance(field, bytes) else str(field).encode()
        parts.append(len(data).to_bytes(4, "big") + data)
    return b"".join(parts)


def _nonce(envelope: SealedRecord) -> bytes:
    return envelope.chunk_index.to_bytes(4, "big") + envelope.sequence.to_bytes(8, "big")


def _derive(secret: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=info).derive(secret)
