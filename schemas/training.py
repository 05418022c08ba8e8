"""The train stage: what guest and host send each other, what a process sends itself, and what is handed on.

Every exchange record names its `pass_index`; bulk travels in chunks of rows, `chunk` counting from 0 within a pass.
Ciphertext vectors are one `bytes` each: big-endian integers of fixed width (twice the modulus), back to back.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.models import ModelHalf
from schemas.record import Record

# --- exchange: guest <-> host, sealed, topic vfl.train.exchange.<party> ----------------------------------------------


@dataclass(frozen=True)
class TrainReady(Record):
    """Both ways: my data is prepared and this is my key for the job. Nobody sends bulk before having heard this.

    `modulus` is the Paillier modulus n, big-endian. `columns` counts the sender's features, without an intercept.
    """

    job_id: str
    modulus: bytes
    columns: int
    rows: int
    spec_digest: bytes


@dataclass(frozen=True)
class EncryptedResiduals(Record):
    """Guest -> host, where the guest knows the residuals: them, under the guest's key, several in a ciphertext."""

    job_id: str
    pass_index: int
    chunk: int
    ciphertexts: bytes


@dataclass(frozen=True)
class PlainLogits(Record):
    """Host -> guest, `trusted_guest` only: the host's logits of a chunk of rows, int64 LE, 20 fractional bits."""

    job_id: str
    pass_index: int
    chunk: int
    logits: bytes


@dataclass(frozen=True)
class EncryptedBasis(Record):
    """Host -> guest, `split_link`: for each row of a chunk all psi_k of the host's logit, under the host's key."""

    job_id: str
    pass_index: int
    chunk: int
    ciphertexts: bytes


@dataclass(frozen=True)
class MaskedResiduals(Record):
    """Guest -> host: additive shares of a chunk's residuals.

    `residuals` are under the host's key, padded and refreshed: the host opens its share of them. `masks` are the
    guest's own shares under the guest's key, several in a ciphertext.
    """

    job_id: str
    pass_index: int
    chunk: int
    residuals: bytes
    masks: bytes


@dataclass(frozen=True)
class EncryptedShares(Record):
    """Host -> guest: the host's shares of a chunk's residuals under the host's key, several in a ciphertext."""

    job_id: str
    pass_index: int
    chunk: int
    ciphertexts: bytes


@dataclass(frozen=True)
class MaskedHostGradient(Record):
    """Host -> guest: for each host column its product with what the guest encrypted, padded and refreshed."""

    job_id: str
    pass_index: int
    ciphertexts: bytes


@dataclass(frozen=True)
class HostGradientShares(Record):
    """Guest -> host: the one slot of each padded product that makes the host's gradient, cut to 20 bits of gradient.

    `guest_gradient` is the same kind of request for the guest's columns, under the host's key; empty where the guest
    knows its gradient by itself.
    """

    job_id: str
    pass_index: int
    shares: bytes
    guest_gradient: bytes


@dataclass(frozen=True)
class HostReport(Record):
    """Host -> guest: the guest's gradient shares, and what the step rule needs of the host.

    `scalars` is the host's share of the new Gram row, empty when a party has so few columns that it would tell the
    step. `largest_mean` is the largest entry of the host's gradient over the number of rows.
    """

    job_id: str
    pass_index: int
    shares: bytes
    scalars: tuple[float, ...]
    largest_mean: float


@dataclass(frozen=True)
class StepDecided(Record):
    """Guest -> host: the step as coefficients of the gradients so far, and what comes next.

    `coefficients` is empty where every party steps by itself. `next_rank` is the rank of the next pass, 0 where the
    guest will know the residuals.
    """

    job_id: str
    pass_index: int
    coefficients: tuple[float, ...]
    next_rank: int
    is_last: bool


# --- commands to oneself: sealed, topic vfl.train.commands.<party> ---------------------------------------------------


@dataclass(frozen=True)
class ContinueTraining(Record):
    """The next part of work that is too long for one step. `pass_index` is -1 before the first pass."""

    job_id: str
    pass_index: int
    chunk: int


# --- hand-over: to the evaluate and the register stage of the own party ----------------------------------------------


@dataclass(frozen=True)
class ModelReady(Record):
    """This party's half of the trained model."""

    job_id: str
    half: ModelHalf
