"""The evaluate stage as one machine for both roles."""

from __future__ import annotations

from dataclasses import replace

from schemas.alignment import AlignmentReady
from schemas.evaluation import ContinueEvaluation, EvaluateReady
from schemas.evaluation_states import (
    EarlyEvaluateReady,
    EvaluateEnded,
    EvaluateWaiting,
    GuestEvaluation,
    HostEvaluation,
)
from schemas.jobs import Role, Stage
from schemas.record import Record
from schemas.tasks import LocalFault, PeerFault, StartTask, StopTask, TimerFired
from schemas.training import ModelReady
from streams.machine import Event, Output, Step, ToPeer, ToStage
from streams.machines.evaluate import guest, host
from streams.machines.evaluate.protocol import CHUNK_ROWS, FIT_GUEST_ALONE, PEER_RECORDS
from streams.machines.evaluate.start import announce, prepare_guest, prepare_host
from streams.machines.task import RefusalError, Task, check_dataset, fault_refusal, stop_waiting, violation, wait_for

_Live = GuestEvaluation | HostEvaluation


class EvaluateMachine:
    """Measures on the hold-out. `secret` is not used: nothing is drawn here; `chunk_rows` rows go into a record."""

    stage = str(Stage.EVALUATE)

    def __init__(self, party: str, secret: bytes, chunk_rows: int = CHUNK_ROWS) -> None:
        self.party = party
        self.secret = secret
        self.chunk_rows = chunk_rows

    def initial(self, key: str) -> Record:
        """Waits for hand-overs and StartTask."""
        return EvaluateWaiting(key)

    def step(self, state: Record, event: Event) -> Step:
        """Decide. Never raises for what others sent."""
        if isinstance(state, EvaluateEnded):
            return Step(state)
        assert isinstance(state, EvaluateWaiting | GuestEvaluation | HostEvaluation)
        job_id = state.job_id if isinstance(state, EvaluateWaiting) else state.setup.job_id
        task = Task(job_id, Stage.EVALUATE, self.party)
        try:
            return self._decide(state, event, task)
        except RefusalError as refusal:
            return Step(EvaluateEnded(job_id), (task.failed(refusal), *stop_waiting(_peers(state))))

    def _decide(self, state: EvaluateWaiting | _Live, event: Event, task: Task) -> Step:
        from_peer = event.sender != self.party
        if from_peer != (type(event.record) in PEER_RECORDS):
            raise violation(event.sender, f"{event.sender} may not send a {type(event.record).__name__}")
        if from_peer and getattr(event.record, "job_id", None) != task.job_id:
            raise violation(event.sender, f"{event.sender} sent a record of another job under this one's key")
        if from_peer and isinstance(state, _Live) and event.sender not in _peers(state):
            return Step(state)  # A stranger to this job can neither take part in it nor end it.
        match state, event.record:
            case _, StopTask():
                return Step(EvaluateEnded(task.job_id), stop_waiting(_peers(state)))
            case _, (LocalFault() | PeerFault()) as fault:
                raise fault_refusal(fault, self.party)
            case EvaluateWaiting(), StartTask() as start:
                return self._start(state, start, event, task)
            case EvaluateWaiting(), _:
                return _keep(state, event)
            case ((GuestEvaluation() | HostEvaluation()), TimerFired() as timer):
                silent, outputs = task.silence(state.silent, timer, state.setup.patience_seconds)
                return Step(replace(state, silent=silent), outputs)
            case ((GuestEvaluation() | HostEvaluation()), (StartTask() | AlignmentReady() | ModelReady())):
                return Step(state)
            case GuestEvaluation(), _:
                return _with_voice(guest.step(state, event, task), event, task)
            case HostEvaluation(), ContinueEvaluation():
                return Step(state)
            case HostEvaluation(), _:
                return _with_voice(host.step(state, event, task, self.chunk_rows), event, task)
        raise violation(event.sender, f"{type(event.record).__name__} is not known here")

    def _start(self, waiting: EvaluateWaiting, start: StartTask, event: Event, task: Task) -> Step:
        dataset = check_dataset(event.resource, start.profile, self.party)
        early = {each.party: each.ready for each in waiting.early}
        outputs: list[Output] = [task.started()]
        state: _Live
        if start.role is Role.GUEST:
            state = prepare_guest(waiting, start, dataset, self.party)
        else:
            state = prepare_host(waiting, start, dataset, self.party)
        for peer in _peers(state):
            outputs += [
                ToPeer(peer, announce(state.setup, self.chunk_rows)),
                wait_for(peer, state.setup.patience_seconds),
            ]
            if peer not in early:
                continue
            if isinstance(state, GuestEvaluation):
                step = guest.take_ready(state, peer, early[peer])
            else:
                step = host.take_ready(state, early[peer], task, self.chunk_rows)
            assert isinstance(step.state, _Live)
            state = step.state
            outputs += step.outputs
        if isinstance(state, GuestEvaluation):
            outputs.append(ToStage(Stage.EVALUATE, ContinueEvaluation(task.job_id, FIT_GUEST_ALONE)))
        return Step(state, tuple(outputs))


def _keep(state: EvaluateWaiting, event: Event) -> Step:
    """Before the start: keep hand-overs and a peer's first Ready."""
    match event.record:
        case AlignmentReady() as alignment if state.alignment is None:
            return Step(replace(state, alignment=alignment))
        case ModelReady() as model if state.half is None:
            return Step(replace(state, half=model.half))
        case EvaluateReady() as ready:
            if any(each.party == event.sender for each in state.early):
                return Step(state)
            return Step(replace(state, early=(*state.early, EarlyEvaluateReady(event.sender, ready))))
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
        case GuestEvaluation():
            return tuple(link.party for link in state.links)
        case HostEvaluation():
            return (state.guest,)
    return ()
