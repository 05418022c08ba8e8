"""What a protocol is: a pure function from (state, event) to (state, outputs).

A machine does no I/O, reads no clock, draws no random numbers and never waits. The engine does all of that around it.
The same shape serves Kafka's coordinator runtime (`CoordinatorResult`), dask's worker state machine and h11.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from schemas.record import Record


@dataclass(frozen=True)
class Traffic:
    """What crossed the party's door for this key so far (the current event included), sealed, in bytes and records."""

    bytes_sent: int = 0
    bytes_received: int = 0
    records_sent: int = 0
    records_received: int = 0


@dataclass(frozen=True)
class Event:
    """One input of a machine.

    `sender` is the authenticated party; for commands of clients it is the machine's own party.
    `resource` is what the process loaded for this record before the step (a dataset, a policy), or `None`.
    """

    record: Record
    sender: str
    resource: object | None = None
    traffic: Traffic = Traffic()


@dataclass(frozen=True)
class ToPeer:
    """Seal the record for `party` and put it on that party's exchange topic of the machine's own stage."""

    party: str
    record: Record


@dataclass(frozen=True)
class ToStage:
    """Seal the record for the own party and put it on the own command topic of `stage` (may be the machine's own).

    `key` is given when the receiver keeps its states by something else than the sender, such as a ledger by many jobs.
    """

    stage: str
    record: Record
    key: str = ""


@dataclass(frozen=True)
class ToEvents:
    """Put the record, in plain Avro, on the party's event topic."""

    record: Record


@dataclass(frozen=True)
class ToRegistry:
    """Put the record, in plain Avro, on the party's model registry topic under `key` (compacted)."""

    key: str
    record: Record


@dataclass(frozen=True)
class ToResults:
    """Put the record, in plain Avro, on the stage's own topic for results, under the job id."""

    record: Record


@dataclass(frozen=True)
class SetTimer:
    """Send the machine a `TimerFired(name)` after `delay_ms`; setting a name again replaces the earlier timer."""

    name: str
    delay_ms: int


@dataclass(frozen=True)
class CancelTimer:
    """Forget the timer of this name, if there is one."""

    name: str


Output = ToPeer | ToStage | ToEvents | ToRegistry | ToResults | SetTimer | CancelTimer


@dataclass(frozen=True)
class Step:
    """What a machine decided: the new state, and what to send. Equal inputs give equal steps, to the byte."""

    state: Record
    outputs: tuple[Output, ...] = ()


class RefusedError(Exception):
    """A machine whose records stand for themselves does not take this one: a dead letter with this text, no step."""


class Machine(Protocol):
    """A stage's protocol at one party, for all jobs: the engine keeps one state a job."""

    #: The stage whose topics the machine reads, such as `align`.
    stage: str

    def initial(self, key: str) -> Record:
        """The state of a job that was not heard of before. `key` is the job id."""
        ...

    def step(self, state: Record, event: Event) -> Step:
        """Decide. A wrong message is an output with blame, not an exception; an exception is a bug of ours."""
        ...
