"""The register stage as one machine for both roles."""

from __future__ import annotations

from dataclasses import replace

from schemas.digests import digest_of
from schemas.evaluation import EvaluationReady
from schemas.jobs import Reason, Role, Stage
from schemas.models import ModelHalf
from schemas.record import Record
from schemas.registration import HalfStored
from schemas.registration_states import (
    EarlyHalf,
    GuestRegistration,
    HostRegistration,
    RegisterEnded,
    RegisterPhase,
    RegisterWaiting,
)
from schemas.tasks import LocalFault, PeerFault, StartTask, StopTask, TimerFired
from schemas.training import ModelReady
from streams.machine import Event, Output, Step, ToPeer
from streams.machines.register import guest, host
from streams.machines.register.model import store_half
from streams.machines.register.protocol import PEER_RECORDS
from streams.machines.task import (
    MOST_EARLY,
    RefusalError,
    Task,
    answer_alike,
    check_faults,
    early_fault,
    fault_refusal,
    is_misplaced,
    keep_fault,
    stop_waiting,
    violation,
    wait_for,
)

_Live = GuestRegistration | HostRegistration


class RegisterMachine:
    """Keeps the own half and agrees with all parties on what the registries tell.

    `code_fingerprint` is what the process says its program is; it is published with the half.
    """

    stage = str(Stage.REGISTER)

    def __init__(self, party: str, code_fingerprint: str = "") -> None:
        self.party = party
        self.code_fingerprint = code_fingerprint

    def initial(self, key: str) -> Record:
        """Waits for hand-overs and StartTask."""
        return RegisterWaiting(key)

    def step(self, state: Record, event: Event) -> Step:
        """Decide. Never raises for what others sent."""
        if isinstance(state, RegisterEnded):
            return Step(state)
        assert isinstance(state, RegisterWaiting | GuestRegistration | HostRegistration)
        task = Task(state.job_id, Stage.REGISTER, self.party)
        try:
            return self._decide(state, event, task)
        except RefusalError as refusal:
            return Step(RegisterEnded(state.job_id), (task.failed(refusal), *stop_waiting(_peers(state))))

    def _decide(self, state: RegisterWaiting | _Live, event: Event, task: Task) -> Step:
        if isinstance(state, RegisterWaiting):
            return self._wait(state, event, task, is_misplaced(event, self.party, task.job_id, PEER_RECORDS))
        alike = answer_alike(state, RegisterEnded(task.job_id), event, task, _peers(state), PEER_RECORDS)
        if alike is not None:
            return alike
        match state, event.record:
            case _, TimerFired() as timer:
                silent, outputs = task.silence(state.silent, timer, state.spec.patience_seconds)
                return Step(replace(state, silent=silent), outputs)
            case _, (StartTask() | ModelReady() | EvaluationReady()):
                return Step(state)
            case GuestRegistration(), _:
                return _with_voice(guest.step(state, event, task), event, task)
            case HostRegistration(), _:
                return _with_voice(host.step(state, event, task), event, task)
        raise violation(self.party, f"no case for {type(state).__name__}")

    def _wait(self, state: RegisterWaiting, event: Event, task: Task, misplaced: bool) -> Step:
        """Before the start: keep hand-overs and halves that hosts offer, and what parties did wrong."""
        from_peer = event.sender != self.party
        match event.record:
            case HalfStored() as stored if from_peer and not misplaced:
                return _keep_half(state, event.sender, stored)
            case _ if from_peer:
                return Step(replace(state, faults=keep_fault(state.faults, early_fault(task.job_id, event))))
            case StopTask():
                return Step(RegisterEnded(task.job_id))
            case LocalFault() as fault:
                raise fault_refusal(fault, self.party)
            case PeerFault() as fault:
                return Step(replace(state, faults=keep_fault(state.faults, fault)))
            case StartTask() as start:
                return self._start(state, start, task)
            case ModelReady() as model if state.half is None:
                return Step(replace(state, half=model.half))
            case EvaluationReady() as evaluation if state.evaluation is None:
                return Step(replace(state, evaluation=evaluation))
        return Step(state)

    def _start(self, waiting: RegisterWaiting, start: StartTask, task: Task) -> Step:
        half = self._check_half(waiting, start)
        blob, own = store_half(half, self.code_fingerprint)
        spec = start.spec
        if start.role is Role.HOST:
            offer = ToPeer(spec.guest.party, HalfStored(task.job_id, own, digest_of(spec)))
            host_state = HostRegistration(RegisterPhase.OFFERED, task.job_id, spec, blob, own)
            check_faults(waiting.faults, _peers(host_state), self.party)
            return Step(host_state, (task.started(), offer, wait_for(spec.guest.party, spec.patience_seconds)))
        if waiting.evaluation is None:
            detail = f"the evaluation did not reach the register stage of {self.party}"
            raise RefusalError(Reason.INTERNAL_ERROR, self.party, detail)
        state = GuestRegistration(RegisterPhase.COLLECTING, task.job_id, spec, blob, own, waiting.evaluation)
        check_faults(waiting.faults, _peers(state), self.party)
        outputs: list[Output] = [task.started()]
        outputs += [wait_for(peer, spec.patience_seconds) for peer in _peers(state)]
        for early in waiting.early:
            if early.party in _peers(state):
                step = guest.take_half(state, early.party, early.stored)
                assert isinstance(step.state, GuestRegistration)
                state = step.state
                outputs += step.outputs
        return Step(state, tuple(outputs))

    def _check_half(self, waiting: RegisterWaiting, start: StartTask) -> ModelHalf:
        half = waiting.half
        if half is None:
            raise RefusalError(Reason.INTERNAL_ERROR, self.party, f"no half reached the register stage of {self.party}")
        if (half.party, half.role, half.spec_digest) != (self.party, start.role, digest_of(start.spec)):
            raise RefusalError(Reason.INTERNAL_ERROR, self.party, "the model's half is of another job or party")
        return half


def _keep_half(state: RegisterWaiting, sender: str, stored: HalfStored) -> Step:
    if len(state.early) >= MOST_EARLY or any(each.party == sender for each in state.early):
        return Step(state)
    return Step(replace(state, early=(*state.early, EarlyHalf(sender, stored))))


def _with_voice(step: Step, event: Event, task: Task) -> Step:
    """If the sender's silence was told, tell that it is over."""
    if not isinstance(step.state, _Live):
        return step
    silent, resumed = task.voice(step.state.silent, event.sender)
    return Step(replace(step.state, silent=silent), resumed + step.outputs)


def _peers(state: Record) -> tuple[str, ...]:
    match state:
        case GuestRegistration():
            return tuple(sorted(host.party for host in state.spec.hosts))
        case HostRegistration():
            return (state.spec.guest.party,)
    return ()
