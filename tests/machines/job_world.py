"""Coordinators wired together in memory: what one sends, the other is given, through the codec at every hop."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np

from schemas.codec import decode, encode
from schemas.jobs import (
    ColumnProfile,
    DataProfile,
    JobSpec,
    PartySpec,
    ProposeJob,
    Stage,
    SubmitJob,
    TrainSpec,
)
from schemas.record import Record
from schemas.tasks import TaskSucceeded
from streams.dataset import Dataset, DatasetProblem
from streams.identifiers import Identifiers
from streams.machine import Event, Output, Step, ToEvents, ToPeer, ToStage
from streams.machines.job import JobMachine, Policy

GUEST, HOST, STRANGER, JOB = "acme", "globex", "initech", "job-1"
SPEC = JobSpec("churn", PartySpec(GUEST, "customers"), "left", (PartySpec(HOST, "payments"),))
EAGER, ASKING = Policy(auto_approve=True), Policy(auto_approve=False)


def dataset(name: str) -> Dataset:
    """A small table; nothing in a job's coordination depends on its values."""
    profile = DataProfile(2, (ColumnProfile("x"),), name.encode().ljust(32, b"."))
    return Dataset(Identifiers.of(("a", "b")), ("x",), np.zeros((2, 1)), None, profile)


def machine(party: str, policy: Policy = EAGER) -> JobMachine:
    """A coordinator of this party."""
    return JobMachine(party, policy)


def succeeded(party: str, stage: Stage, job_id: str = JOB) -> TaskSucceeded:
    """What a stage process reports when it is done."""
    return TaskSucceeded(job_id, stage, party, 0, 0, 0, 0, ())


@dataclass
class World:
    """All parties' coordinators, what they told their houses, and what they asked of their stage processes."""

    machines: dict[str, JobMachine]
    resources: dict[str, Dataset | DatasetProblem | None]
    states: dict[str, Record] = field(default_factory=dict)
    events: dict[str, list[Record]] = field(default_factory=dict)
    commands: dict[str, list[tuple[str, Record]]] = field(default_factory=dict)
    outputs: dict[str, list[Output]] = field(default_factory=dict)
    crossed: list[tuple[str, str, Record]] = field(default_factory=list)
    waiting: deque[tuple[str, str, Record]] = field(default_factory=deque)

    def give(self, party: str, record: Record, sender: str | None = None) -> Step:
        """One input at one party; what it sends to others waits for `run`."""
        state = self.states.setdefault(party, self.machines[party].initial(JOB))
        wants_data = isinstance(record, (SubmitJob, ProposeJob))
        event = Event(decode(encode(record)), sender or party, self.resources.get(party) if wants_data else None)
        step = self.machines[party].step(state, event)
        assert step == self.machines[party].step(state, event), "equal inputs must give equal steps"
        self.states[party] = decode(encode(step.state))
        assert self.states[party] == step.state, "a state must survive being stored"
        self.outputs.setdefault(party, []).extend(step.outputs)
        for output in step.outputs:
            match output:
                case ToEvents(sent):
                    self.events.setdefault(party, []).append(sent)
                    self.waiting.append((party, party, sent))
                case ToPeer(receiver, sent):
                    self.crossed.append((party, receiver, sent))
                    self.waiting.append((party, receiver, sent))
                case ToStage(stage, sent):
                    self.commands.setdefault(party, []).append((stage, sent))
        return step

    def run(self) -> None:
        """Deliver until nothing is under way; events come back to their own coordinator, as from the events topic."""
        while self.waiting:
            sender, receiver, record = self.waiting.popleft()
            if receiver in self.machines:
                self.give(receiver, record, sender)

    def tell(self, party: str, record: Record, sender: str | None = None) -> None:
        """One input and all that follows from it."""
        self.give(party, record, sender)
        self.run()

    def types(self, party: str) -> list[str]:
        """The names of the events that a house saw, in order."""
        return [type(record).__name__ for record in self.events.get(party, [])]

    def finish_stage(self, stage: Stage) -> None:
        """Every party's stage process succeeds."""
        for party in self.machines:
            self.tell(party, succeeded(party, stage))


def world(host_policy: Policy = EAGER, resources: dict[str, Dataset | DatasetProblem | None] | None = None) -> World:
    """A guest and a host that have not heard of the job."""
    data: dict[str, Dataset | DatasetProblem | None] = {GUEST: dataset(GUEST), HOST: dataset(HOST)}
    return World({GUEST: machine(GUEST), HOST: machine(HOST, host_policy)}, data | (resources or {}))


def small_keys(spec: JobSpec = SPEC) -> JobSpec:
    """The spec with a key size that only tests may use."""
    return replace(spec, train=replace(TrainSpec(), key_bits=256))
