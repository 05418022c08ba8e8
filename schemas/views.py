"""What a party's live view says, topic vfl.job.view.<party>: one plain record a job, key job_id, compacted."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from schemas.jobs import Reason, Stage
from schemas.record import Record


class Standing(StrEnum):
    """Where a job or a task stands; a task is `running`, `suspended`, `succeeded` or `failed`."""

    ACCEPTED = "accepted"
    AWAITING_APPROVAL = "awaiting_approval"
    APPROVED = "approved"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    SUSPENDED = "suspended"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    #: What a newer release calls by a name that this one does not have; never written.
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class ProgressMark(Record):
    """`done` units at `at_ms`: what a rate is measured from."""

    at_ms: int
    done: int


@dataclass(frozen=True)
class TaskStatus(Record):
    """One stage at one party: `done` of `total` units, `rate` units a second over the last minute of event time.

    Times are Kafka's record timestamps, in milliseconds since 1970.
    """

    stage: Stage
    party: str
    standing: Standing
    started_ms: int
    news_ms: int
    done: int = 0
    total: int = 0
    unit: str = ""
    rate: float = 0.0
    detail: str = ""
    #: The party that a suspended task waits for, or whose doing a failure was.
    blame: str = ""
    #: Where the windows of the rate begin, oldest first.
    marks: tuple[ProgressMark, ...] = ()


@dataclass(frozen=True)
class JobStatus(Record):
    """One job as its party sees it now. Later records with the same key replace earlier ones."""

    job_id: str
    party: str
    standing: Standing
    stage: Stage | None
    tasks: tuple[TaskStatus, ...]
    reason: Reason | None
    #: The party that a suspended job waits for, or whose doing the end was.
    blame: str
    detail: str
    #: Timestamps of the first and the latest event, in milliseconds since 1970.
    started_ms: int
    news_ms: int
    #: How long nothing was heard when this record was written; 0 once the job is over.
    silent_seconds: float
    #: The latest event that this status contains, on vfl.job.events.<party>.
    event_partition: int
    event_offset: int
