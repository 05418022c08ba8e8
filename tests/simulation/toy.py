"""A machine for testing the engine: it counts, sends chunks, keeps blobs, sets timers, and talks to itself.

guest                                    host
ToyStart(rounds) ->
  Ping(k, payload) ------------------->  keeps the payload as a blob, counts
  <----------------------------------- Pong(k, digest so far)
  ToyContinue(k) to itself
  ... until k = rounds, then a timer, then ToyDone in the registry and the events, and
  Bye -------------------------------->  ToyDone in the events
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from schemas.catalogue import register
from schemas.record import Blob, Record
from schemas.tasks import LocalFault, PeerFault, TimerFired
from streams.machine import CancelTimer, Event, Output, SetTimer, Step, ToEvents, ToPeer, ToRegistry, ToStage


@dataclass(frozen=True)
class ToyStart(Record):
    job_id: str
    peer: str
    rounds: int
    payload_bytes: int


@dataclass(frozen=True)
class Ping(Record):
    job_id: str
    number: int
    payload: bytes


@dataclass(frozen=True)
class Pong(Record):
    job_id: str
    number: int
    digest: bytes


@dataclass(frozen=True)
class ToyContinue(Record):
    job_id: str
    number: int


@dataclass(frozen=True)
class Bye(Record):
    job_id: str


@dataclass(frozen=True)
class ToyDone(Record):
    job_id: str
    party: str
    count: int
    digest: bytes
    detail: str


@dataclass(frozen=True)
class ToyState(Record):
    job_id: str
    peer: str
    rounds: int
    payload_bytes: int
    count: int
    digest: bytes
    blobs: tuple[Blob, ...]


RECORDS = (ToyStart, Ping, Pong, ToyContinue, Bye, ToyDone, ToyState)
STAGE = "align"


def register_toys() -> None:
    """Let this process encode the toy's records."""
    for cls in RECORDS:
        register(cls)


def make_payload(number: int, size: int) -> bytes:
    return hashlib.shake_128(number.to_bytes(4, "big")).digest(size)


class ToyMachine:
    """`poison` names records at which the machine raises, as one with a bug does."""

    stage = STAGE

    def __init__(self, party: str, poison: frozenset[str] = frozenset()) -> None:
        self.party = party
        self.poison = poison

    def initial(self, key: str) -> ToyState:
        return ToyState(key, "", 0, 0, 0, b"", ())

    def step(self, state: Record, event: Event) -> Step:
        assert isinstance(state, ToyState)
        if type(event.record).__name__ in self.poison:
            raise ZeroDivisionError("a secret that must not be told")
        match event.record:
            case ToyStart() as start:
                started = replace(state, peer=start.peer, rounds=start.rounds, payload_bytes=start.payload_bytes)
                return Step(started, (SetTimer("patience", 60_000), self._ping(started, 0)))
            case Ping(_, number, payload):
                counted = _count(state, payload, event.sender)
                blobs = (*counted.blobs, Blob.of(payload))
                content = b"".join(blob.content for blob in blobs)
                counted = replace(counted, blobs=blobs, digest=hashlib.sha256(content).digest())
                return Step(counted, (ToPeer(event.sender, Pong(state.job_id, number, counted.digest)),))
            case Pong(_, number, digest):
                counted = _count(state, digest, state.peer)
                again: tuple[Output, ...] = (ToStage(STAGE, ToyContinue(state.job_id, number)),)
                return Step(counted, (*again, SetTimer("patience", 60_000)))
            case ToyContinue(_, number) if number + 1 < state.rounds:
                return Step(state, (self._ping(state, number + 1),))
            case ToyContinue():
                return Step(state, (CancelTimer("patience"), SetTimer("finish", 500)))
            case TimerFired(_, "finish", _):
                done = self._done(state, f"{event.traffic}")
                return Step(state, (ToEvents(done), ToRegistry(f"model-{state.job_id}", done), self._bye(state)))
            case Bye():
                return Step(state, (ToEvents(self._done(state, f"{event.traffic}")),))
            case LocalFault() | PeerFault() | TimerFired() as fault:
                return Step(state, (ToEvents(self._done(state, f"{fault}")),))
        raise TypeError(f"{type(event.record).__name__} from {event.sender}")

    def _ping(self, state: ToyState, number: int) -> ToPeer:
        return ToPeer(state.peer, Ping(state.job_id, number, make_payload(number, state.payload_bytes)))

    def _bye(self, state: ToyState) -> ToPeer:
        return ToPeer(state.peer, Bye(state.job_id))

    def _done(self, state: ToyState, detail: str) -> ToyDone:
        return ToyDone(state.job_id, self.party, state.count, state.digest, detail)


def _count(state: ToyState, data: bytes, peer: str) -> ToyState:
    digest = hashlib.sha256(state.digest + data).digest()
    return replace(state, peer=peer, count=state.count + 1, digest=digest)
