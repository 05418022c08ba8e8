"""States of the evaluate stage. Private to a party: they rest sealed only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from schemas.alignment import AlignmentReady
from schemas.evaluation import EvaluateReady
from schemas.models import ModelHalf
from schemas.record import Blob, Record
from schemas.tasks import PeerFault


class EvaluatePhase(StrEnum):
    """Where a party stands; one table names the phases of both roles."""

    #: Hand-overs and early Readys come in; waits for StartTask.
    WAITING = "waiting"
    #: Host: waits for the guest's Ready.
    READY = "ready"
    #: Guest: fits its own model, and waits for Readys and logits.
    COLLECTING = "collecting"
    #: Guest: everything is there; the own continuation measures.
    MEASURING = "measuring"
    #: Host: logits are sent; waits for the receipt.
    SENT = "sent"
    #: Over; ignores everything.
    ENDED = "ended"


@dataclass(frozen=True)
class EarlyEvaluateReady(Record):
    """A Ready that came before the own StartTask."""

    party: str
    ready: EvaluateReady


@dataclass(frozen=True)
class EvaluateWaiting(Record):
    """Before StartTask: what the stages before handed over, and what came early."""

    job_id: str
    alignment: AlignmentReady | None = None
    half: ModelHalf | None = None
    early: tuple[EarlyEvaluateReady, ...] = ()
    #: What parties did wrong before it was known whether they take part.
    faults: tuple[PeerFault, ...] = ()


@dataclass(frozen=True)
class EvaluateEnded(Record):
    """After the end. `report` keeps the guest's report."""

    job_id: str
    report: Blob | None = None


@dataclass(frozen=True)
class EvaluateSetup(Record):
    """What does not change during the task."""

    job_id: str
    model: str
    rows_train: int
    rows_holdout: int
    spec_digest: bytes
    patience_seconds: int


@dataclass(frozen=True)
class HostEvaluation(Record):
    """A host between StartTask and the end."""

    phase: EvaluatePhase
    setup: EvaluateSetup
    guest: str
    #: Its logits as they are sent: little-endian int32.
    logits: Blob
    ready: EvaluateReady | None = None
    silent: str = ""


@dataclass(frozen=True)
class EvaluateLink(Record):
    """How far the guest is with one host. `logits` are the chunks received."""

    party: str
    ready: EvaluateReady | None = None
    logits: tuple[Blob, ...] = ()


@dataclass(frozen=True)
class GuestEvaluation(Record):
    """The guest between StartTask and the end. Fixed-point matrices have 13 fractional bits, logits 20."""

    phase: EvaluatePhase
    setup: EvaluateSetup
    links: tuple[EvaluateLink, ...]
    #: Standardised training and hold-out rows without the intercept's column, int32, row by row.
    train: Blob
    holdout: Blob
    columns: int
    #: int8 each.
    train_label: Blob
    holdout_label: Blob
    #: JSON array of the hold-out rows' own identifiers.
    ids: Blob
    #: The guest's part of the joint logits of the hold-out, int64.
    logits: Blob
    l2: float
    #: The model of the guest alone, the intercept last, once it is fitted.
    guest_weights: tuple[int, ...] = ()
    silent: str = ""
