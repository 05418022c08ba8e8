"""What a party's train stage asks its own register of cohorts, what that answers, and what operators are told of it.

Nothing here leaves the party.

The register keeps one ledger for each of the party's secrets: the labels of a dataset, or the rows that it trains with
as a host. A ledger is the key of its records as a job is of others; records name it `ledger`, and the job `job`.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.jobs import Leak, Role
from schemas.record import Blob, Record

#: Stands in topic names where jobs have a stage.
COHORT = "cohort"


# --- train stage <-> register: sealed, topics vfl.cohort.commands.<party> and vfl.train.commands.<party> -------------


@dataclass(frozen=True)
class CohortEntry(Record):
    """What one job revealed of one cohort, or will at most. `rows` is in the form of `streams.kernels.cohorts`."""

    job: str
    #: Who receives the numbers.
    peer: str
    rows: Blob
    count: int
    #: Rows are compared by normalised ids, which are comparable within a type only.
    id_type: str
    #: Columns of the peer, its intercept included: so many numbers has a gradient.
    columns: int
    passes: int
    bits: int


@dataclass(frozen=True)
class AskCohort(Record):
    """Train stage -> register, before the first pass: may this job reveal so much of these rows?

    Asked again it is answered again. `limit` is how many bits all jobs of these rows may reveal, `accepted` what spec
    and parties accept by name.
    """

    ledger: str
    role: Role
    dataset: str
    #: Empty at a host, which has none.
    label: str
    entry: CohortEntry
    limit: float
    accepted: tuple[Leak, ...]


@dataclass(frozen=True)
class SettleCohort(Record):
    """Train stage -> register: the task is over, and this is what it came to. `passes` 0: nothing was revealed."""

    ledger: str
    job: str
    passes: int
    bits: int


@dataclass(frozen=True)
class CohortGranted(Record):
    """Register -> train stage: the job is in the ledger, go on."""

    job_id: str


@dataclass(frozen=True)
class CohortRefused(Record):
    """Register -> train stage: not without `leak` being accepted by name."""

    job_id: str
    leak: Leak
    detail: str


# --- event: train stage -> everyone inside the party, plain Avro, topic vfl.job.events.<party>, key job_id -----------


@dataclass(frozen=True)
class CohortCharged(Record):
    """What a job may reveal of its training rows, told before its first pass; `is_final`: what it came to.

    `cohort` is a keyed digest of the rows (and labels): equal for equal cohorts of this party, and nothing else.
    `limit` is what all jobs of the same rows may reveal together, in bits.
    """

    job_id: str
    party: str
    role: Role
    dataset: str
    label: str
    peer: str
    cohort: bytes
    rows: int
    columns: int
    passes: int
    bits: int
    limit: float
    is_final: bool
