"""The align stage: what the parties send each other, what a process sends itself, and what is handed on.

Points are ristretto255 encodings (RFC 9496) of 32 bytes, tags and proofs have 16 bytes; all are joined without gaps.
Each (guest, host) pair has its own order of either side's rows, shuffled by that side.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.record import Blob, Record

# --- exchange: guest <-> each host, sealed, topic vfl.align.exchange.<party> -----------------------------------------


@dataclass(frozen=True)
class AlignReady(Record):
    """Both ways: my table is loaded; this is how much will come. Nobody sends points before having heard this.

    `chunks` * `chunk_points` covers `rows`; only the last chunk may be shorter. `nonce` (32 bytes) is another one for
    another table: both sides' exponents and the tags depend on it.
    """

    job_id: str
    rows: int
    chunk_points: int
    chunks: int
    spec_digest: bytes
    nonce: bytes


@dataclass(frozen=True)
class BlindedPoints(Record):
    """Both ways: hashed identifiers times the sender's exponent, in the sender's shuffled order."""

    job_id: str
    chunk: int
    points: bytes


@dataclass(frozen=True)
class DoubleBlindedTags(Record):
    """Host -> guest: digests of the guest's chunk times the host's exponent, in the guest's order; first halves."""

    job_id: str
    chunk: int
    tags: bytes


@dataclass(frozen=True)
class MatchedRows(Record):
    """Guest -> host: the joint rows. Entry k of all chunks together is joint row k.

    `positions` are little-endian uint32 into the host's shuffled order, `proofs` the second halves of the digests,
    which only a common row gives.
    """

    job_id: str
    chunk: int
    chunks: int
    rows: int
    positions: bytes
    proofs: bytes


@dataclass(frozen=True)
class MatchConfirmed(Record):
    """Host -> guest: positions and proofs are in order, and I have taken the joint rows over."""

    job_id: str
    rows: int


# --- commands to oneself: sealed, topic vfl.align.commands.<party> ---------------------------------------------------


@dataclass(frozen=True)
class ContinueBlinding(Record):
    """Blind the next chunk for `peer`."""

    job_id: str
    peer: str
    chunk: int


@dataclass(frozen=True)
class ContinueMatching(Record):
    """Guest: send the next chunk of joint rows; chunk 0 intersects first."""

    job_id: str
    chunk: int


# --- hand-over: to the train and the evaluate stage of the own party -------------------------------------------------


@dataclass(frozen=True)
class PartyRows(Record):
    """How many rows a party's table has."""

    party: str
    rows: int


@dataclass(frozen=True)
class AlignmentReady(Record):
    """The joint rows as this party's process must read them.

    Content of `rows`: `n_joint` little-endian uint32, entry k is the row of the own dataset that is joint row k.
    The hold-out is their tail (`streams.kernels.holdout`). `tables` lists own and peers' sizes by party name.
    """

    job_id: str
    rows: Blob
    n_joint: int
    tables: tuple[PartyRows, ...]
    data_fingerprint: bytes
