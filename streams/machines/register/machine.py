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
from streams.machines.task import RefusalError, Task, fault_refusal, stop_waiting, violation, wait_for

_Live = GuestRegistration | HostRegistration


class RegisterMachine:
    """Keeps the own half and agrees with all parties on what the registries tell.

    `code_fingerprint` is what the process says its program is; it is published with the half. `secret` is not used:
    nothing is drawn here.
    """

    stage = str(Stage.REGISTER)

    def __init__(self, party: str, secret: bytes, code_fingerprint: str = "") -> None:
        self.party = party
        self.secret = secret
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
        from_peer = event.sender != self.party
        if from_peer != (type(event.record) in PEER_RECORDS):
            raise violation(event.sender, f"{event.sender} may not send a {type(event.record).__name__}")
        if from_peer and getattr(event.record, "job_id", None) != task.job_id:
            raise violation(event.sender, f"{event.sender} sent a record of another job under this one's key")
        if from_peer and isinstance(state, _Live) and event.sender not in _peers(state):
            return Step(state)  # A stranger to this job can neither take part in it nor end it.
        match state, event.record:
            case _, StopTask():
                return Step(RegisterEnded(task.job_id), stop_waiting(_peers(state)))
            case _, (LocalFault() | PeerFault()) as fault:
                raise fault_refusal(fault, self.party)
            case RegisterWaiting(), StartTask() as start:
                return self._start(state, start, task)
            case RegisterWaiting(), _:
                return _keep(state, event)
            case ((GuestRegistration() | HostRegistration()), TimerFired() as timer):
                silent, outputs = task.silence(state.silent, timer, state.spec.patience_seconds)
                return Step(replace(state, silent=silent), outputs)
            case ((GuestRegistration() | HostRegistration()), (StartTask() | ModelReady() | EvaluationReady())):
                return Step(state)
            case GuestRegistration(), _:
                return _with_voice(guest.step(state, event, task), event, task)
            case HostRegistration(), _:
                return _with_voice(host.step(state, event, task), event, task)
        raise violation(event.sender, f"{type(event.record).__name__} is not known here")

    def _start(self, waiting: RegisterWaiting, start: StartTask, task: Task) -> Step:
        half = self._check_half(waiting, start)
        blob, own = store_half(half, self.code_fingerprint)
        spec = start.spec
        if start.role is Role.HOST:
            offer = ToPeer(spec.guest.party, HalfStored(task.job_id, own, digest_of(spec)))
            host_state = HostRegistration(RegisterPhase.OFFERED, task.job_id, spec, blob, own)
            return Step(host_state, (task.started(), offer, wait_for(spec.guest.party, spec.patience_seconds)))
        if waiting.evaluation is None:
            detail = f"the evaluation did not reach the register stage of {self.party}"
            raise RefusalError(Reason.INTERNAL_ERROR, self.party, detail)
        state = GuestRegistration(RegisterPhase.COLLECTING, task.job_id, spec, blob, own, waiting.evaluation)
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


def _keep(state: RegisterWaiting, event: Event) -> Step:
    """Before the start: keep hand-overs and halves that hosts offer."""
    match event.record:
        case ModelReady() as model if state.half is None:
            return Step(replace(state, half=model.half))
        case EvaluationReady() as evaluation if state.evaluation is None:
            return Step(replace(state, evaluation=evaluation))
        case HalfStored() as stored:
            if any(early.party == event.sender for early in state.early):
                return Step(state)
            return Step(replace(state, early=(*state.early, EarlyHalf(event.sender, stored))))
        case record if type(record) in PEER_RECORDS:
            raise violation(event.sender, f"{type(record).__name__} came before this party was started")
    return Step(state)


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
