"""The train stage's table is the whole truth: every (role, phase, record) is decided, and nothing else ever happens."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schemas.alignment import AlignmentReady
from schemas.codec import encode
from schemas.cohorts import CohortCharged, CohortRefused
from schemas.jobs import Leak, Privacy, Reason
from schemas.record import Record
from schemas.tasks import (
    LocalFault,
    PeerFault,
    StartTask,
    StopTask,
    TaskFailed,
    TaskResumed,
    TaskSuspended,
    TimerFired,
)
from schemas.training import ContinueTraining
from schemas.training_states import TrainPhase, TrainWaiting
from streams.machine import Event, Machine, Step, ToEvents, ToPeer, ToStage
from streams.machines.train import TRANSITIONS, TrainMachine, phase_of
from streams.machines.train.protocol import PEER_RECORDS
from tests.machines.driver import Driver
from tests.machines.train_cases import (
    GUEST,
    HOST,
    JOB,
    SECRETS,
    TRAIN,
    Case,
    ledgers_after,
    make_case,
    make_driver,
    run_case,
)

ROLES = {GUEST: "guest", HOST: "host"}
SPLIT, TRUSTED = make_case(max_passes=3), make_case(max_passes=3, privacy=Privacy.TRUSTED_GUEST)
TABLE = {(t.role, t.phase, t.event): t for t in TRANSITIONS}


def sent_by(step: Step) -> tuple[type[Record], ...]:
    """The types of the records that a step sends anywhere."""
    return tuple(type(output.record) for output in step.outputs if isinstance(output, ToPeer | ToStage | ToEvents))


class Observer:
    """Notes every step of a run: where it began, what came, where it led."""

    def __init__(self, case: Case, seeds: int = 0) -> None:
        self.steps: list[tuple[str, TrainPhase, Event, Step]] = []
        #: The first state in each (party, phase), together with the machine.
        self.states: dict[tuple[str, TrainPhase], Record] = {}
        #: The first event of each type at each party.
        self.events: dict[tuple[str, type[Record]], Event] = {}
        self.case = case
        for late in (HOST, GUEST):
            # A party starts late: the other's Ready comes before its StartTask, then while it makes its key.
            driver = make_driver(case, inspect=self.inspect)
            commands = driver.channels.pop((late, late, TRAIN))
            driver.run()
            driver.channels[late, late, TRAIN] = commands
            driver.run()
        for seed in range(seeds):
            run_case(case, inspect=self.inspect, seed=seed)
        driver = run_case(case, inspect=self.inspect)
        self._refuse(driver)
        for party in (GUEST, HOST):
            last = driver.states[party, TRAIN]
            self.states.setdefault((party, phase_of(last)), last)

    def _refuse(self, driver: Driver) -> None:
        """Another job of nearly the same rows, which the register of one party knows and refuses."""
        leaks = tuple(leak for leak in Leak if leak is not Leak.OVERLAPPING_COHORT)
        names = (*(str(index) for index in range(len(self.case.label) - 1)), "another")
        case = replace(self.case, spec=replace(self.case.spec, accept_leaks=leaks), names=names[::-1])
        for party, ledger in ledgers_after(driver).items():
            refused = make_driver(case, inspect=self.inspect, ledgers={party: ledger}).run()
            assert refused.events_of(party, TaskFailed)

    def inspect(self, machine: Machine, state: Record, event: Event) -> None:
        if not isinstance(machine, TrainMachine):
            return
        party = machine._own.name
        step = machine.step(state, event)
        self.steps.append((party, phase_of(state), event, step))
        self.states.setdefault((party, phase_of(state)), state)
        self.events.setdefault((party, type(event.record)), event)


@pytest.fixture(scope="module", params=["split_link", "trusted_guest"])
def observer(request: pytest.FixtureRequest) -> Observer:
    return Observer(SPLIT if request.param == "split_link" else TRUSTED)


def test_every_step_of_a_run_is_a_row_of_the_table(observer: Observer) -> None:
    for party, phase, event, step in observer.steps:
        row = TABLE.get((ROLES[party], phase, type(event.record)))
        assert row is not None, (party, phase, event.record)
        assert phase_of(step.state) in row.to, (party, phase, event.record)
        assert set(sent_by(step)) <= set(row.sends), (party, phase, event.record)


def test_every_row_of_the_table_happens() -> None:
    """Faults, timers and StopTask are walked below; all other rows occur in jobs, in some order of arrival."""
    happened = {
        (ROLES[party], phase, type(event.record))
        for case in (SPLIT, TRUSTED)
        for party, phase, event, _ in Observer(case, seeds=8).steps
    }
    anytime = (StopTask, LocalFault, PeerFault, TimerFired)
    assert {key for key in TABLE if key[2] not in anytime} == happened


def test_every_record_in_every_phase_is_decided(observer: Observer) -> None:
    """Whatever comes whenever: a row of the table, no change at all, or an end with blame. Never an exception."""
    for (party, phase), state in observer.states.items():
        machine = TrainMachine(party, SECRETS[party], 256, 20)
        peer = HOST if party == GUEST else GUEST
        events = [event for (receiver, _), event in observer.events.items() if receiver == party]
        events += [replace(event, sender=peer) for (receiver, _), event in observer.events.items() if receiver == peer]
        own = (StopTask(JOB, None), LocalFault(JOB, Reason.INTERNAL_ERROR, "x"), TimerFired(JOB, f"patience/{peer}", 1))
        events += [Event(record, party) for record in own]
        events += [Event(PeerFault(JOB, peer, Reason.PROTOCOL_VIOLATION, "x"), party)]
        events += [Event(ContinueTraining(JOB, index, chunk), party) for index in (-1, 0, 9) for chunk in (0, 1, 99)]
        events += [Event(TimerFired(JOB, "unknown", 1), party)]
        for event in events:
            check_decision(machine, party, phase, state, event)


def check_decision(machine: TrainMachine, party: str, phase: TrainPhase, state: Record, event: Event) -> None:
    step = machine.step(state, event)
    if step == Step(state):
        return
    if isinstance(state, TrainWaiting) and event.sender != party:
        # A stranger, or a peer's fault: kept until it is known who takes part.
        assert isinstance(step.state, TrainWaiting) and not step.outputs
        return
    assert phase is not TrainPhase.ENDED
    row = TABLE.get((ROLES[party], phase, type(event.record)))
    failures = [o.record for o in step.outputs if isinstance(o, ToEvents) and isinstance(o.record, TaskFailed)]
    if failures:
        assert phase_of(step.state) is TrainPhase.ENDED
        is_fault = isinstance(event.record, LocalFault | PeerFault)
        is_told = isinstance(event.record, StartTask | CohortRefused)
        assert is_fault or is_told or failures[0].reason is Reason.PROTOCOL_VIOLATION, (phase, event.record)
        assert is_fault or is_told or failures[0].blame == event.sender
        return
    assert row is not None, (party, phase, event.record, step.outputs)
    assert phase_of(step.state) in row.to
    assert set(sent_by(step)) <= {*row.sends, TaskResumed, TaskSuspended}


def test_own_records_are_never_taken_from_a_peer(observer: Observer) -> None:
    for (party, phase), state in observer.states.items():
        if phase is TrainPhase.ENDED:
            continue
        machine = TrainMachine(party, SECRETS[party], 256, 20)
        peer = HOST if party == GUEST else GUEST
        own = [event.record for (receiver, kind), event in observer.events.items() if kind not in PEER_RECORDS]
        for record in (*own, StopTask(JOB, None), TimerFired(JOB, f"patience/{peer}", 1)):
            step = machine.step(state, Event(record, peer))
            if isinstance(state, TrainWaiting):
                assert step == Step(replace(state, faults=step.state.faults))  # type: ignore[attr-defined]
                continue
            assert phase_of(step.state) is TrainPhase.ENDED
            told = [o.record for o in step.outputs if isinstance(o, ToEvents)]
            (failed,) = [each for each in told if not isinstance(each, CohortCharged)]
            assert isinstance(failed, TaskFailed) and failed.blame == peer


def test_a_first_alignment_is_kept_against_a_second() -> None:
    machine = TrainMachine(GUEST, SECRETS[GUEST], 256)
    first = SPLIT.alignment(GUEST)
    state = machine.step(machine.initial(JOB), Event(first, GUEST)).state
    second: AlignmentReady = replace(first, n_joint=1)
    assert machine.step(state, Event(second, GUEST)) == Step(state)
    assert encode(state)


def test_an_unpromising_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="bytes"):
        TrainMachine(GUEST, b"short")
