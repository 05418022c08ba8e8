"""Tasks: one stage of one job at one party (id `job/stage/party`). Commands to processes, and what they report."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.jobs import DataProfile, JobSpec, Leak, Reason, Role, Stage
from schemas.record import Record


@dataclass(frozen=True)
class StartTask(Record):
    """Coordinator -> stage process of its own party, sealed, topic vfl.<stage>.commands.<party>."""

    job_id: str
    stage: Stage
    role: Role
    spec: JobSpec
    #: This party's data as it was when the job was approved; the stage refuses data with another fingerprint.
    profile: DataProfile
    #: What every party accepted, beyond the spec (the intersection of all).
    accepted_leaks: tuple[Leak, ...]


@dataclass(frozen=True)
class StopTask(Record):
    """Coordinator -> stage process: the job is over; forget the task."""

    job_id: str
    reason: Reason | None


@dataclass(frozen=True)
class TimerFired(Record):
    """A timer that a machine set is due. `generation` counts the settings of `name`: an older one is stale."""

    job_id: str
    name: str
    generation: int


@dataclass(frozen=True)
class LocalFault(Record):
    """The engine could not carry out a step (storage full, a bug in a machine): the machine must end the task."""

    job_id: str
    reason: Reason
    detail: str


@dataclass(frozen=True)
class PeerFault(Record):
    """An authenticated peer sent something unusable (unknown record, a gap in its sequence): end with blame."""

    job_id: str
    party: str
    reason: Reason
    detail: str


# --- events: stage process -> everyone inside the party, plain Avro, topic vfl.job.events.<party> --------------------


@dataclass(frozen=True)
class Measure(Record):
    """A named number in a report, such as `auc` or `n_intersection`."""

    name: str
    value: float


@dataclass(frozen=True)
class TaskStarted(Record):
    """The stage process of `party` began its task."""

    job_id: str
    stage: Stage
    party: str


@dataclass(frozen=True)
class TaskProgressed(Record):
    """`done` of `total` units are committed. `detail` is for people, such as `pass 3, rank 4`."""

    job_id: str
    stage: Stage
    party: str
    done: int
    total: int
    unit: str
    detail: str


@dataclass(frozen=True)
class TaskSuspended(Record):
    """Nothing was heard from `blame` for the job's patience; the task waits."""

    job_id: str
    stage: Stage
    party: str
    reason: Reason
    blame: str


@dataclass(frozen=True)
class TaskResumed(Record):
    """The silent party spoke again."""

    job_id: str
    stage: Stage
    party: str


@dataclass(frozen=True)
class TaskSucceeded(Record):
    """The task ended well. Traffic is what crossed the party's door for this task, sealed, in bytes and records."""

    job_id: str
    stage: Stage
    party: str
    bytes_sent: int
    bytes_received: int
    records_sent: int
    records_received: int
    measures: tuple[Measure, ...]


@dataclass(frozen=True)
class TaskFailed(Record):
    """The task ended badly. `blame` is the party whose doing it was."""

    job_id: str
    stage: Stage
    party: str
    reason: Reason
    blame: str
    detail: str
