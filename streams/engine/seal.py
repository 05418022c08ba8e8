"""Encryption of everything that leaves the process: records to peers, records to oneself, states, blobs.

AES-256-GCM-SIV throughout (RFC 8452): a replay after a crash encrypts the same bytes under the same nonce, and if two
different ones ever met under one nonce, an observer would learn no more than that they differ.
"""

from __future__ import annotations

import functools
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from schemas.envelope import SealedRecord
from streams import kem
from streams.engine.agreement import KEY_BYTES, Agreement, check_length, describe_unknown
from streams.engine.storage_seal import SealError, StorageSeal, derive_key, join_fields

__all__ = ["NO_EPOCH", "EpochKey", "Keyring", "SealError", "Stream", "join_fields", "stream_of"]

#: Streams whose keys stay derived: parties x stages x the jobs that run at the same time.
CACHED_KEYS = 4096

_RECORD = b"isthmus/record/1"
_OWN_RECORD = b"isthmus/own-record/1"
_CIPHER = b"isthmus/cipher/1"
_DIGEST = b"isthmus/digest/1"
_MESSAGE = b"isthmus/message/1"
_EPOCH = b"isthmus/epoch/1"
_TOKEN = b"isthmus/token/1"


@dataclass(frozen=True)
class EpochKey:
    """The key of one epoch of a stream between parties; number 0 and no key inside a party."""

    number: int = 0
    key: bytes = field(default=b"", repr=False)


NO_EPOCH = EpochKey()


@dataclass(frozen=True)
class Stream:
    """One direction of records between two stages, possibly of the same party, about one job."""

    sender: str
    receiver: str
    job_id: str
    origin: str
    stage: str


class Keyring(StorageSeal):
    """A party's keys, and all that is done with them. Its text shows none."""

    def __init__(
        self,
        party: str,
        current: Agreement,
        storage_secret: bytes,
        *,
        others: Sequence[Agreement] = (),
        naming: Agreement | None = None,
        storage: Mapping[int, bytes] | None = None,
    ) -> None:
        """What is sealed is sealed under `current`; what was sealed under `others` is opened as well.

        `naming` holds the keys for tokens of persons, which outlive the others (by default the same).
        `storage_secret` is known to this party only, and for ever: pseudonyms and keys of epochs come of it. `storage`
        has the generations of the key under which things rest (by default one, the same). Raises `ValueError` for a key
        of another length or of low order; the text names the party.
        """
        super().__init__(party, storage or {1: storage_secret})
        check_length(party, "storage secret", storage_secret)
        self._storage_secret = storage_secret
        self._current = current
        self._agreements = {agreement.mark: agreement for agreement in (*others, current)}
        self._shares = {mark: agreement.share(party) for mark, agreement in self._agreements.items()}
        self._naming = self._shares[current.mark] if naming is None else naming.share(party)
        self._stream_keys = functools.lru_cache(CACHED_KEYS)(self._derive_stream_keys)

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

    def epoch_for(self, stream: Stream) -> EpochKey:
        """Which epoch a record is of that begins none: to oneself the generation of the storage key, less one."""
        return EpochKey(self.storage_generation - 1) if stream.sender == stream.receiver else NO_EPOCH

    def mark_for(self, receiver: str) -> bytes:
        """The mark of the manifest in force; records to oneself have none, and open for ever."""
        return b"" if receiver == self.party else self._current.mark

    # --- records ---

    def digest(self, stream: Stream, encoding: bytes, mark: bytes | None = None, epoch: EpochKey = NO_EPOCH) -> bytes:
        """The keyed digest of a whole record's encoding, see `SealedRecord`. Raises `SealError`.

        `mark` is that of the chunks, where they came from a peer.
        """
        mark = self.mark_for(stream.receiver) if mark is None else mark
        epoch = epoch if epoch is not NO_EPOCH else self.epoch_for(stream)
        return hmac.digest(self._stream_keys(stream, mark, epoch)[1], encoding, "sha256")

    def seal(
        self,
        stream: Stream,
        sequence: int,
        plaintext: bytes,
        *,
        chunk_index: int = 0,
        chunk_count: int = 1,
        digest: bytes = b"",
        epoch: EpochKey = NO_EPOCH,
        wrapped_key: bytes = b"",
    ) -> SealedRecord:
        """The envelope of a record or a chunk of one. Raises `SealError` when there is no key for the receiver."""
        epoch = epoch if epoch is not NO_EPOCH else self.epoch_for(stream)
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
            epoch=epoch.number,
            wrapped_key=wrapped_key,
        )
        cipher = self._stream_keys(stream, bare.manifest, epoch)[0]
        return replace(bare, payload=cipher.encrypt(_nonce(bare), plaintext, self._header(bare)))

    def open(self, envelope: SealedRecord, epoch: EpochKey = NO_EPOCH) -> bytes:
        """The plaintext of the record or chunk. Raises `SealError`."""
        stream = stream_of(envelope)
        epoch = epoch if stream.sender != stream.receiver else EpochKey(envelope.epoch)
        try:
            cipher = self._stream_keys(stream, envelope.manifest, epoch)[0]
            return cipher.decrypt(_nonce(envelope), envelope.payload, self._header(envelope))
        except (InvalidTag, OverflowError, ValueError) as error:
            raise SealError(f"the envelope from {envelope.sender!r} does not open: changed, or another key") from error

    def _derive_stream_keys(self, stream: Stream, mark: bytes, epoch: EpochKey) -> tuple[AESGCMSIV, bytes]:
        secret = self.stream_secret(stream, mark, epoch)
        return AESGCMSIV(derive_key(secret, _CIPHER)), derive_key(secret, _DIGEST)

    def stream_secret(self, stream: Stream, mark: bytes, epoch: EpochKey) -> bytes:
        """What opens the records of one epoch of a stream, and nothing else. Raises `SealError`."""
        if stream.sender == stream.receiver == self.party:
            secret, purpose = self._layer_secret(epoch.number + 1), _OWN_RECORD
        else:
            # Both are 32 bytes, or the second is empty: no two pairs join to the same.
            secret, purpose = self._shared_with(stream.sender, stream.receiver, mark) + epoch.key, _RECORD
        return derive_key(secret, purpose + _fields_of(stream))

    # --- epochs, see `epochs.py` ---

    def epoch_key(self, stream: Stream, number: int, mark: bytes) -> bytes:
        """The key of an epoch that this party sends. Equal arguments give equal keys. Raises `SealError`."""
        return derive_key(self._storage_secret, _EPOCH + self._epoch_info(stream, number, mark))

    def wrap_epoch_key(self, stream: Stream, epoch: EpochKey, mark: bytes) -> bytes:
        """The key for the receiver. Raises `SealError`."""
        public = self._agreement(mark).peer_kem_keys.get(stream.receiver)
        if public is None:
            raise SealError(self._describe_stranger(stream.receiver))
        return kem.wrap(epoch.key, public, self._epoch_info(stream, epoch.number, mark))

    def unwrap_epoch_key(self, envelope: SealedRecord) -> bytes:
        """The key that came with a record. Raises `SealError`."""
        info = self._epoch_info(stream_of(envelope), envelope.epoch, envelope.manifest)
        try:
            key = kem.unwrap(envelope.wrapped_key, self._agreement(envelope.manifest).kem_seed, info)
        except ValueError as error:
            raise SealError(f"the key of epoch {envelope.epoch} from {envelope.sender!r} does not open") from error
        if len(key) != KEY_BYTES:
            raise SealError(f"the key of epoch {envelope.epoch} from {envelope.sender!r} has {len(key)} bytes")
        return key

    def _epoch_info(self, stream: Stream, number: int, mark: bytes) -> bytes:
        return join_fields(self.manifest(mark), number) + _fields_of(stream)

    # --- messages outside jobs ---

    def message_mark(self, receiver: str) -> bytes:
        """What a message says of its key: the manifest in force; to oneself the generation of the storage key."""
        if receiver != self.party:
            return self._current.mark
        return bytes([self.storage_generation - 1]) if self.storage_generation > 1 else b""

    def message_cipher(self, sender: str, receiver: str, purpose: str, mark: bytes) -> AESGCMSIV:
        """The cipher of messages from `sender` to `receiver`, one of which is this party. Raises `SealError`."""
        info = _MESSAGE + join_fields(sender, receiver, purpose)
        if sender == receiver == self.party:
            return AESGCMSIV(derive_key(self._layer_secret(int.from_bytes(mark, "big") + 1), info))
        return AESGCMSIV(derive_key(self._shared_with(sender, receiver, mark), info))

    def token_key(self, guest: str, host: str) -> bytes:
        """What both parties derive the tokens of persons from; nobody else can. Raises `SealError`."""
        peer = host if guest == self.party else guest
        if self.party not in (guest, host) or peer not in self._naming:
            raise SealError(f"{self.party} has no key for tokens of {guest!r} at {host!r}")
        return derive_key(self._naming[peer], _TOKEN + join_fields(guest, host, ""))

    def pseudonym_key(self) -> bytes:
        """What this party alone derives its pseudonyms of persons from."""
        return derive_key(self._storage_secret, _TOKEN)

    def manifest(self, mark: bytes) -> bytes:
        """The whole digest behind a record's mark; nothing for a record to oneself. Raises `SealError`."""
        return self._agreement(mark).manifest if mark else b""

    def _agreement(self, mark: bytes) -> Agreement:
        if mark not in self._agreements:
            raise SealError(describe_unknown(self.party, mark, self._agreements))
        return self._agreements[mark]

    def _shared_with(self, sender: str, receiver: str, mark: bytes) -> bytes:
        if self.party not in (sender, receiver):
            raise SealError(f"{self.party} is neither sender nor receiver")
        peer = receiver if sender == self.party else sender
        if mark not in self._shares:
            raise SealError(describe_unknown(self.party, mark, self._agreements))
        if peer not in self._shares[mark]:
            raise SealError(self._describe_stranger(peer))
        return self._shares[mark][peer]

    def _describe_stranger(self, peer: str) -> str:
        return f"{self.party} has no key of {peer!r}: it is not a member of the federation"

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
            envelope.epoch,
            envelope.wrapped_key,
        )


def stream_of(envelope: SealedRecord) -> Stream:
    """The stream that the envelope says it belongs to."""
    return Stream(envelope.sender, envelope.receiver, envelope.job_id, envelope.origin, envelope.stage)


def _fields_of(stream: Stream) -> bytes:
    return join_fields(stream.sender, stream.receiver, stream.job_id, stream.origin, stream.stage)


def _nonce(envelope: SealedRecord) -> bytes:
    return envelope.chunk_index.to_bytes(4, "big") + envelope.sequence.to_bytes(8, "big")
