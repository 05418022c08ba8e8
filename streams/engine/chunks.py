"""Records too large for one Kafka record travel in pieces, and are put together again one piece at a time.

Between parties a record of one piece has a digest as well: AES-GCM-SIV does not commit to its key, so that a sender
could make an envelope that opens to one record for the receiver, and with another key to another one for an auditor.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from schemas.envelope import SealedRecord
from streams.engine.seal import NO_EPOCH, EpochKey, Keyring, Stream, stream_of

#: Kafka's default limit is 1,048,588 bytes a batch. The envelope adds some 300, the tag 16, the batch header 61.
CHUNK_BYTES = 900_000
#: A record of 460 MB; a peer that announces more wants our memory.
MAX_CHUNKS = 512


class ChunkError(Exception):
    """An authenticated sender's chunks do not make a record."""


@dataclass(frozen=True)
class Arrival:
    """What is here of a record whose chunks are still coming."""

    pieces: tuple[bytes, ...] = ()


def seal_chunks(
    keyring: Keyring,
    stream: Stream,
    sequence: int,
    encoding: bytes,
    chunk_bytes: int = CHUNK_BYTES,
    *,
    epoch: EpochKey = NO_EPOCH,
    wrapped_key: bytes = b"",
) -> tuple[SealedRecord, ...]:
    """The envelopes that carry one record, in order. Raises `SealError`, and `ChunkError` for more than the limit.

    `wrapped_key` goes with the first.
    """
    starts = range(0, len(encoding) or 1, chunk_bytes)
    if len(starts) > MAX_CHUNKS:
        raise ChunkError(f"a record of {len(encoding):,} bytes; the limit is {MAX_CHUNKS * chunk_bytes:,}")
    is_own = stream.sender == stream.receiver
    digest = b"" if is_own and len(starts) == 1 else keyring.digest(stream, encoding, epoch=epoch)
    return tuple(
        keyring.seal(
            stream,
            sequence,
            encoding[start : start + chunk_bytes],
            chunk_index=index,
            chunk_count=len(starts),
            digest=digest,
            epoch=epoch,
            wrapped_key=b"" if index else wrapped_key,
        )
        for index, start in enumerate(starts)
    )


def add_chunk(
    keyring: Keyring, arrival: Arrival, envelope: SealedRecord, piece: bytes, epoch: EpochKey = NO_EPOCH
) -> tuple[Arrival, bytes | None]:
    """Take the next chunk. Gives what is now here, and the whole encoding after the last chunk.

    The caller has checked that the chunk is the next one. Raises `ChunkError`.
    """
    if not 1 <= envelope.chunk_count <= MAX_CHUNKS:
        raise ChunkError(f"a record in {envelope.chunk_count} chunks; the limit is {MAX_CHUNKS}")
    if envelope.sender == envelope.receiver:
        if envelope.chunk_count == 1:
            return Arrival(), piece
        epoch = EpochKey(envelope.epoch)
    pieces = (*arrival.pieces, piece)
    if len(pieces) < envelope.chunk_count:
        return Arrival(pieces), None
    whole = b"".join(pieces)
    expected = keyring.digest(stream_of(envelope), whole, envelope.manifest, epoch)
    if not hmac.compare_digest(expected, envelope.digest):
        raise ChunkError(
            f"a record of {len(whole):,} bytes in {len(pieces)} chunks does not have the digest that the last one names"
        )
    return Arrival(), whole
