"""The register stage: hosts offer their halves' digests, the guest puts the model together, all keep the same."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.models import HalfReference, ModelRegistered
from schemas.record import Record

# --- exchange: guest <-> each host, sealed, topic vfl.register.exchange.<party> --------------------------------------


@dataclass(frozen=True)
class HalfStored(Record):
    """Host -> guest: my half is in my store, under this digest."""

    job_id: str
    half: HalfReference
    spec_digest: bytes


@dataclass(frozen=True)
class ModelAssembled(Record):
    """Guest -> host: this is the model, word for word as every registry shall tell it."""

    job_id: str
    model: ModelRegistered


@dataclass(frozen=True)
class ModelAccepted(Record):
    """Host -> guest: it holds my half, and my registry tells it."""

    job_id: str
    model_sha256: bytes
