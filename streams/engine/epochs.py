"""Epochs of a stream between parties: each has a key of its own, which its first record brings along.

    sender      key of epoch n = PRF(storage secret, stream, n, manifest)      -> wrapped for the receiver's KEM key
    record key  HKDF(what the two share, key of the epoch; stream, n)

What the two share (X25519 of the keys in the manifest) says who sent it. The epoch's key keeps it closed to whoever
breaks that one day, with a quantum computer or otherwise. The sender derives its keys again after a crash; its secret
opens what it said itself and nothing else. The receiver keeps the key in use in its sealed state, and only that one.

    what comes                                             what follows
    the epoch in use                                       its key opens it
    a later one that brings its key, in a first chunk      its key is unwrapped, and replaces the one in use
    a later one without its key                            a dead letter: it never came
    an earlier one                                         nothing if it says it was taken, else a dead letter
    none                                                   a dead letter: between parties every record has one
    of the last epoch, after the stage's end               nothing: its key is erased
"""

from __future__ import annotations

from dataclasses import dataclass, field

from schemas.envelope import SealedRecord
from streams.engine.seal import NO_EPOCH, EpochKey, Keyring, SealError, Stream, stream_of

#: A stream's records until its sender begins a new epoch: a pass of training is a handful.
EPOCH_RECORDS = 256


@dataclass(frozen=True)
class Sending:
    """The sender's side: which epoch is in use, under which manifest, and the sequence of its first record."""

    number: int = 0
    mark: bytes = b""
    first: int = 0


def key_for_sending(
    keyring: Keyring, stream: Stream, sequence: int, sending: Sending, epoch_records: int = EPOCH_RECORDS
) -> tuple[Sending, EpochKey, bytes]:
    """The epoch for this record, its key, and that key wrapped when the record is the first. Raises `SealError`."""
    mark = keyring.mark_for(stream.receiver)
    is_first = not sending.number or sending.mark != mark or sequence - sending.first >= epoch_records
    if is_first:
        sending = Sending(sending.number + 1, mark, sequence)
    epoch = EpochKey(sending.number, keyring.epoch_key(stream, sending.number, mark))
    return sending, epoch, keyring.wrap_epoch_key(stream, epoch, mark) if is_first else b""


def key_for_opening(keyring: Keyring, envelope: SealedRecord, in_use: EpochKey) -> EpochKey:
    """The key of the epoch that a peer's record says it is of; nothing is said yet of whether that is true.

    Raises `SealError`; the text names the sender and what is wrong.
    """
    number, sender = envelope.epoch, envelope.sender
    if number < 1:
        raise SealError(f"a record of {sender!r} without an epoch: between parties every record has one")
    if number == in_use.number:
        return in_use
    if number < in_use.number:
        raise SealError(
            f"a record of {sender!r} of the stale epoch {number}, whose key is erased: {in_use.number} is in use, and "
            "an honest sender does not go back"
        )
    if envelope.chunk_index or not envelope.wrapped_key:
        raise SealError(f"a record of {sender!r} of epoch {number}, whose key never came; {in_use.number} is in use")
    return EpochKey(number, keyring.unwrap_epoch_key(envelope))


def is_over(in_use: EpochKey, envelope: SealedRecord, *, is_old: bool) -> bool:
    """Whether the record is passed over without being opened: true or not, it would change nothing.

    A mirror may repeat records (`is_old`) whose key is erased; and with the last key of a stage that is over all that
    peers say to it is erased.
    """
    if not in_use.key and in_use.number:
        return envelope.epoch <= in_use.number
    return is_old and envelope.epoch < in_use.number


@dataclass
class Opener:
    """Opens what a party sent or was sent, stream by stream in the order of the topic: for audits and tests."""

    keyring: Keyring
    keys: dict[Stream, EpochKey] = field(default_factory=dict)

    def open(self, envelope: SealedRecord) -> bytes:
        """The plaintext of the record or chunk. Raises `SealError`."""
        if envelope.sender == envelope.receiver:
            return self.keyring.open(envelope)
        stream = stream_of(envelope)
        if envelope.sender == self.keyring.party:
            key = EpochKey(envelope.epoch, self.keyring.epoch_key(stream, envelope.epoch, envelope.manifest))
        else:
            key = key_for_opening(self.keyring, envelope, self.keys.get(stream, NO_EPOCH))
        plaintext = self.keyring.open(envelope, key)
        self.keys[stream] = key
        return plaintext
