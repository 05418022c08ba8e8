"""What the register of cohorts remembers. Private to a party, and rests sealed only."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.cohorts import CohortEntry
from schemas.jobs import Role
from schemas.record import Record


@dataclass(frozen=True)
class CohortLedger(Record):
    """All jobs that revealed something of one secret, oldest first. Before the first there is no role and no name."""

    ledger: str
    role: Role | None = None
    dataset: str = ""
    label: str = ""
    entries: tuple[CohortEntry, ...] = ()
