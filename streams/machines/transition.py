"""One row of a protocol's joint transition table. The docs' diagrams are drawn from these rows, and tests walk them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from schemas.record import Record


@dataclass(frozen=True)
class Transition:
    """In `phase`, the role that `event` reaches goes to one of `to` and sends records of the types in `sends`.

    What a table does not list is a duplicate, which changes nothing, or a protocol violation, which ends the task.
    """

    role: str
    phase: StrEnum
    event: type[Record]
    to: tuple[StrEnum, ...]
    sends: tuple[type[Record], ...] = ()
