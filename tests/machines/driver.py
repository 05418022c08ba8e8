"""Machines of several parties, connected in memory: every record travels as Avro, every state rests as Avro.

The driver is the smallest thing that keeps an engine's promises: order within a channel, exactly one delivery, state
and outputs in one go. Which channel is next is drawn from a seed, so a test can walk many interleavings.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from schemas.codec import blobs_of, decode, encode
from schemas.record import Blob, Record
from schemas.tasks import StopTask, TimerFired
from streams.machine import (
    CancelTimer,
    Event,
    Machine,
    Output,
    SetTimer,
    ToEvents,
    ToPeer,
    ToRegistry,
    ToResults,
    ToStage,
    Traffic,
)


@dataclass(frozen=True)
class Delivery:
    """One record on its way. `channel` is (sender, receiver, stage): order is kept within it."""

    sender: str
    receiver: str
    stage: str
    data: bytes
    resource: object | None = None


@dataclass(frozen=True)
class Entry:
    """One step that was taken: what came in and what went out, as bytes."""

    party: str
    stage: str
    sender: str
    record: Record
    outputs: tuple[Output, ...]
    before: Record
    after: Record
    state: bytes


#: Looks at a record in flight and says what arrives instead: nothing, it, or several.
Tamper = Callable[[Delivery, Record], Iterable[Record]]


@dataclass
class Driver:
    """`machines` maps (party, stage) to its machine; `handed_over` keeps what goes to stages without one.

    There is one job, hence one ledger of each register: keys are not told apart.
    """

    machines: dict[tuple[str, str], Machine]
    job_id: str = "job-1"
    seed: int | None = None
    tamper: Tamper | None = None
    #: Whether each step starts from the state as it was decoded from its Avro bytes, as after a crash.
    restores: bool = False
    #: Called with a machine, a state and an event before the step is taken.
    inspect: Callable[[Machine, Record, Event], None] | None = None
    resources: dict[str, object] = field(default_factory=dict)
    max_steps: int = 100_000

    def __post_init__(self) -> None:
        self.stores: dict[str, dict[bytes, bytes]] = {party: {} for party, _ in self.machines}
        self.states: dict[tuple[str, str], Record] = {k: m.initial(self.job_id) for k, m in self.machines.items()}
        self.channels: dict[tuple[str, str, str], deque[Delivery]] = {}
        self.events: dict[str, list[Record]] = {party: [] for party, _ in self.machines}
        self.registry: dict[str, dict[str, Record]] = {party: {} for party, _ in self.machines}
        self.results: dict[str, list[Record]] = {party: [] for party, _ in self.machines}
        self.handed_over: dict[tuple[str, str], list[Record]] = {}
        self.timers: dict[tuple[str, str], dict[str, int]] = {k: {} for k in self.machines}
        self.trace: list[Entry] = []
        #: Everything that left a party for another, in order: what a secrecy test reads.
        self.wire: list[Delivery] = []
        self.random = random.Random(self.seed)

    # --- putting things in ---

    def send(self, party: str, stage: str, record: Record, resource: object | None = None) -> None:
        """Put a record on the party's own command topic of the stage."""
        self._post(Delivery(party, party, stage, self._encode(party, record), resource))

    def send_as(self, sender: str, receiver: str, stage: str, record: Record) -> None:
        """Put a record on the receiver's exchange topic in the name of `sender`."""
        self._post(Delivery(sender, receiver, stage, self._encode(sender, record)))

    def fire(self, party: str, stage: str, name: str) -> None:
        """Let a timer that is set fire."""
        del self.timers[party, stage][name]
        self.send(party, stage, TimerFired(self.job_id, name, 1))

    def stop(self, party: str, stage: str) -> None:
        """Tell the stage that its job is over."""
        self.send(party, stage, StopTask(self.job_id, None))

    # --- running ---

    def run(self, steps: int | None = None) -> Driver:
        """Deliver until nothing is left, or `steps` deliveries were made."""
        taken = 0
        while self.channels and (steps is None or taken < steps):
            self.deliver_next()
            taken += 1
            assert taken <= self.max_steps, "the machines do not come to rest"
        return self

    def deliver_next(self) -> None:
        """Deliver the oldest record of one channel: the first one that was opened, or a random one with a seed."""
        keys = list(self.channels)
        key = keys[0] if self.seed is None else self.random.choice(keys)
        queue = self.channels.pop(key)
        delivery = queue.popleft()
        if queue:
            self.channels[key] = queue  # At the end: channels take turns.
        record = decode(delivery.data, self.loader(delivery.receiver))
        self.take(delivery, record)

    def take(self, delivery: Delivery, record: Record) -> tuple[Output, ...]:
        """Let the receiver take one step with this record."""
        key = (delivery.receiver, delivery.stage)
        machine, state = self.machines[key], self.states[key]
        if self.restores:
            state = decode(self._encode(delivery.receiver, state), self.loader(delivery.receiver))
        event = Event(record, delivery.sender, delivery.resource, Traffic(1000, 2000, 10, 20))
        if self.inspect is not None:
            self.inspect(machine, state, event)
        step = machine.step(state, event)
        self.states[key] = step.state
        encoded = self._encode(delivery.receiver, step.state)
        self.trace.append(Entry(*key, delivery.sender, record, step.outputs, state, step.state, encoded))
        for output in step.outputs:
            self._carry_out(*key, output)
        return step.outputs

    def loader(self, party: str) -> Callable[[Blob], bytes]:
        """What fetches blobs from the party's own store. A blob of another party is not there."""
        return lambda blob: self.stores[party][blob.sha256]

    # --- looking ---

    def events_of(self, party: str, kind: type[Record]) -> list[Record]:
        """The party's events of one class."""
        return [event for event in self.events[party] if type(event) is kind]

    def transcript(self) -> list[tuple[str, str, bytes, tuple[str, ...]]]:
        """Every step with its outputs and state in comparable form."""
        return [(e.party, e.stage, e.state, tuple(describe(o) for o in e.outputs)) for e in self.trace]

    # --- inside ---

    def _encode(self, party: str, record: Record) -> bytes:
        for blob in blobs_of(record):
            if blob.is_loaded:
                self.stores.setdefault(party, {})[blob.sha256] = blob.content
        return encode(record)

    def _post(self, delivery: Delivery) -> None:
        deliveries = [delivery]
        if delivery.sender != delivery.receiver:
            self.wire.append(delivery)
            if self.tamper is not None:
                record = decode(delivery.data, self.loader(delivery.sender))
                deliveries = [
                    Delivery(delivery.sender, delivery.receiver, delivery.stage, encode(r))
                    for r in self.tamper(delivery, record)
                ]
        for each in deliveries:
            key = (each.sender, each.receiver, each.stage)
            self.channels.setdefault(key, deque()).append(each)

    def _carry_out(self, party: str, stage: str, output: Output) -> None:
        match output:
            case ToPeer(peer, record):
                assert peer != party
                self._post(Delivery(party, peer, stage, self._encode(party, record)))
            case ToStage(target, record):
                data = self._encode(party, record)
                if (party, target) in self.machines:
                    self._post(Delivery(party, party, target, data))
                else:
                    kept = self.handed_over.setdefault((party, target), [])
                    kept.append(decode(data, self.loader(party)))
            case ToEvents(record):
                self.events[party].append(decode(self._encode(party, record), self.loader(party)))
            case ToRegistry(key, record):
                self.registry[party][key] = decode(self._encode(party, record), self.loader(party))
            case ToResults(record):
                self.results[party].append(decode(self._encode(party, record), self.loader(party)))
            case SetTimer(name, delay_ms):
                self.timers[party, stage][name] = delay_ms
            case CancelTimer(name):
                self.timers[party, stage].pop(name, None)


def describe(output: Output) -> str:
    """An output as text that is equal exactly when the bytes are."""
    match output:
        case ToPeer(peer, record):
            return f"to {peer}: {encode(record).hex()}"
        case ToStage(stage, record):
            return f"to stage {stage}: {encode(record).hex()}"
        case ToEvents(record):
            return f"event: {encode(record).hex()}"
        case ToRegistry(key, record):
            return f"registry {key}: {encode(record).hex()}"
        case ToResults(record):
            return f"result: {encode(record).hex()}"
    return repr(output)
