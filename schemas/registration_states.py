"""States of the register stage. `half` blobs hold the halves themselves, in single-object encoding."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from schemas.evaluation import EvaluationReady
from schemas.jobs import JobSpec
from schemas.models import HalfReference, ModelHalf, ModelRegistered
from schemas.record import Blob, Record
from schemas.registration import HalfStored
from schemas.tasks import PeerFault


class RegisterPhase(StrEnum):
    """Where a party stands; one table names the phases of both roles."""

    #: Hand-overs and early halves come in; waits for StartTask.
    WAITING = "waiting"
    #: Guest: waits for every host's half.
    COLLECTING = "collecting"
    #: Guest: waits until every host has accepted the model.
    CONFIRMING = "confirming"
    #: Host: its half is offered; waits for the model.
    OFFERED = "offered"
    #: Over; ignores everything.
    ENDED = "ended"


@dataclass(frozen=True)
class EarlyHalf(Record):
    """A half that was offered before the own StartTask."""

    party: str
    stored: HalfStored


@dataclass(frozen=True)
class RegisterWaiting(Record):
    """Before StartTask."""

    job_id: str
    half: ModelHalf | None = None
    evaluation: EvaluationReady | None = None
    early: tuple[EarlyHalf, ...] = ()
    #: What parties did wrong before it was known whether they take part.
    faults: tuple[PeerFault, ...] = ()


@dataclass(frozen=True)
class RegisterEnded(Record):
    """After the end. `half` keeps the own half of a registered model."""

    job_id: str
    half: Blob | None = None


@dataclass(frozen=True)
class GuestRegistration(Record):
    """The guest between StartTask and the end."""

    phase: RegisterPhase
    job_id: str
    spec: JobSpec
    half: Blob
    own: HalfReference
    evaluation: EvaluationReady
    #: What hosts offered, sorted by party.
    halves: tuple[HalfReference, ...] = ()
    #: The whole model, from CONFIRMING on, and who accepted it.
    model: ModelRegistered | None = None
    accepted: tuple[str, ...] = ()
    silent: str = ""


@dataclass(frozen=True)
class HostRegistration(Record):
    """A host between StartTask and the end."""

    phase: RegisterPhase
    job_id: str
    spec: JobSpec
    half: Blob
    own: HalfReference
    silent: str = ""
