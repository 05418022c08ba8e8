"""What a party reveals of one job to an auditor, who executes the party's part once more: a header, then its steps.

Secrets of that one job: whoever has them reads all that the party sent and received in it.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.audit import EnvelopesCrossed
from schemas.jobs import Leak, Privacy
from schemas.profiles import KeyProfile
from schemas.record import Record


@dataclass(frozen=True)
class RevealedJob(Record):
    """What the party's machines, its keys and its table are made of, but for the table's rows."""

    job_id: str
    party: str
    peers: tuple[str, ...]
    #: The job's seed, and the keys that serve all jobs of the party: see `streams.kernels.entropy`.
    seed: bytes
    order_key: bytes
    rows_key: bytes
    ledger_key: bytes
    #: The key of the fingerprints of tables.
    fingerprint_key: bytes
    #: The party's table: its name, its identifier column and its label column, empty without one.
    dataset: str
    id_column: str
    label_column: str
    #: How the coordinator decides, and what the federation allows.
    auto_approve: bool
    accept_leaks: tuple[Leak, ...]
    privacy: tuple[Privacy, ...]
    least_key_bits: int
    key_profile: KeyProfile
    #: SHA-256 in hex of the program that the party runs now.
    code_fingerprint: str
    #: Digests of the manifests that its records may be sealed under.
    manifests: tuple[bytes, ...]


@dataclass(frozen=True)
class RevealedStream(Record):
    """What opens one epoch of a stream between the party and a peer; comes before the first step that needs it."""

    sender: str
    receiver: str
    origin: str
    stage: str
    #: As in `SealedRecord`.
    manifest: bytes
    epoch: int
    secret: bytes


@dataclass(frozen=True)
class RevealedStep(Record):
    """One step: what the party wrote down of it, and the input as it lies on its topic.

    `value` is empty where the step took a record of another stage of the party, whose steps are revealed as well; of
    the register of cohorts, whose are not, it is the opened record.
    """

    step: EnvelopesCrossed
    value: bytes
