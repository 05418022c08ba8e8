"""What a coordinator remembers of a job between two steps. Small on purpose: every step rewrites it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from schemas.jobs import DataProfile, JobSpec, Reason, Role, Stage
from schemas.record import Record


class JobPhase(StrEnum):
    """Where a job stands at one party. `PROPOSED` is the guest's; `AWAITING_APPROVAL` and `APPROVED` are a host's."""

    NEW = "new"
    PROPOSED = "proposed"
    AWAITING_APPROVAL = "awaiting_approval"
    APPROVED = "approved"
    RUNNING = "running"
    ENDED = "ended"


@dataclass(frozen=True)
class NewJob(Record):
    """A job id that was not heard of before."""

    job_id: str


@dataclass(frozen=True)
class GuestJob(Record):
    """A job at the party that started it, in phase `PROPOSED` (`stage` is `JOB`) or `RUNNING`."""

    job_id: str
    spec: JobSpec
    #: This party's data as it was when the job was submitted.
    profile: DataProfile
    stage: Stage
    #: Who finished what is waited for: approving in phase `PROPOSED`, the stage in phase `RUNNING`. Sorted.
    ready: tuple[str, ...] = ()
    #: The party that a suspended job waits for; empty when the job is not suspended.
    suspended_by: str = ""


@dataclass(frozen=True)
class HostJob(Record):
    """A job at a host, in phase `AWAITING_APPROVAL`, `APPROVED` (`stage` is `JOB` in both) or `RUNNING`."""

    job_id: str
    spec: JobSpec
    #: This party's data as it was when the job was proposed.
    profile: DataProfile
    approved: bool
    stage: Stage
    #: Whether this party's task of the stage succeeded.
    ready: bool = False
    suspended_by: str = ""


@dataclass(frozen=True)
class EndedJob(Record):
    """A job that is over at this party. The spec stays, to tell a repeated submission from another job of this id."""

    job_id: str
    role: Role | None
    spec: JobSpec | None
    #: `None`: it succeeded.
    reason: Reason | None
