"""Models: a party's half of one, and what the registry says about the whole. No timestamps: equal jobs, equal bytes."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.jobs import JobSpec, Role
from schemas.record import Record
from schemas.tasks import Measure


@dataclass(frozen=True)
class ModelHalf(Record):
    """One party's columns of a trained model: private to that party; others know its digest only.

    A row's logit at this party is sum_j weights[j] x_j + intercept, with x_j the standardised column j clipped to
    +-feature_clip, and the sum clipped to +-logit_clip. `weights` and `intercept` have 24 fractional bits.
    """

    party: str
    role: Role
    #: The job spec's name.
    model: str
    columns: tuple[str, ...]
    #: x -> (x - mean) / scale, fitted on the training rows; columns listed in `constant` (by index) give 0.
    means: tuple[float, ...]
    scales: tuple[float, ...]
    constant: tuple[int, ...]
    feature_clip: float
    weights: tuple[int, ...]
    #: At the guest only.
    intercept: int | None
    logit_clip: float
    spec_digest: bytes
    data_fingerprint: bytes


@dataclass(frozen=True)
class HalfReference(Record):
    """A half without its content. `sha256` is the digest of its Avro single-object encoding, and names its blob."""

    party: str
    role: Role
    sha256: bytes
    #: CRC-64-AVRO of the schema that the half was written with, as in its encoding.
    schema_fingerprint: bytes
    data_fingerprint: bytes
    #: What the party says its program is: a version or an image digest.
    code_fingerprint: str


@dataclass(frozen=True)
class ModelRegistered(Record):
    """A model exists: every party has stored its half. The same record in every party's registry, key `name/version`.

    `version` is the job id, which both parties know without counting. `model_sha256` is SHA-256 over the halves'
    digests in the order of the parties' names, which is the order of `halves`.
    """

    name: str
    version: str
    job_id: str
    model_sha256: bytes
    halves: tuple[HalfReference, ...]
    #: What the guest chose to share of the evaluation.
    metrics: tuple[Measure, ...]
    rows_train: int
    rows_holdout: int
    spec: JobSpec
    spec_digest: bytes
