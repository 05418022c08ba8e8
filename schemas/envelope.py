"""The sealed envelope: all that crosses a trust boundary, and the only form in which state rests on a broker."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.record import Record


@dataclass(frozen=True)
class SealedRecord(Record):
    """One record (or one chunk of a large one), encrypted and authenticated from `sender` to `receiver`.

    All fields but `payload` are associated data of the encryption: a changed or moved envelope does not open.
    `origin` is the stage whose process sealed the record, `stage` the one that is to read it.
    `sequence` counts records per (job_id, sender, origin, receiver, stage) from 0; all chunks of a record share it.
    `payload` is AES-256-GCM-SIV (RFC 8452) of the Avro single-object encoding of the record, or of the
    `chunk_index`-th piece of that encoding when `chunk_count` > 1.
    Envelopes that a party's processes send each other have `sender` == `receiver`.
    `manifest` names the version of the federation's manifest whose keys were used: the first bytes of its digest, all
    of which is associated data too. Empty in envelopes to oneself.
    """

    sender: str
    receiver: str
    job_id: str
    origin: str
    stage: str
    sequence: int
    chunk_index: int
    chunk_count: int
    #: HMAC-SHA-256 of the whole encoding under a key of the stream, so that the receiver can check a record that it put
    #: together again, and that no other key opens the envelope to something else; empty in records of one chunk to
    #: oneself. (A plain hash would let whoever stores the envelope confirm a guess of its content.)
    digest: bytes
    payload: bytes
    manifest: bytes = b""
    #: Between parties a stream has epochs, from 1 on, each with a key of its own; the first chunk of an epoch's first
    #: record carries it, by HPKE (RFC 9180) for the receiver. To oneself:
    #: the generation of the storage key, from 0 on.
    epoch: int = 0
    wrapped_key: bytes = b""


@dataclass(frozen=True)
class SealedState(Record):
    """A value on a state topic, encrypted with the party's storage key. Associated data: topic, partition and key."""

    nonce: bytes
    payload: bytes


@dataclass(frozen=True)
class SealedMessage(Record):
    """A record of online scoring on its way, encrypted and authenticated from `sender` to `receiver`.

    `payload` is AES-256-GCM-SIV of the record's Avro single-object encoding under a drawn `nonce`. Associated data:
    the digest of the manifest that `manifest` names (see `SealedRecord`), sender, receiver, topic and partition. Order
    and repetition are the receiver's business: it knows every request by its id.
    """

    sender: str
    receiver: str
    nonce: bytes
    payload: bytes
    manifest: bytes = b""
