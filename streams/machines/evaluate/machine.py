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
from streams.machines.task import (
    MOST_EARLY,
    RefusalError,
    Task,
    answer_alike,
    check_dataset,
    check_faults,
    early_fault,
    fault_refusal,
    is_misplaced,
    keep_fault,
    stop_waiting,
    violation,
    wait_for,
)

_Live = GuestEvaluation | HostEvaluation


class EvaluateMachine:
    """Measures on the hold-out. `chunk_rows` rows go into a record."""

    stage = str(Stage.EVALUATE)

    def __init__(self, party: str, chunk_rows: int = CHUNK_ROWS) -> None:
        self.party = party
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
        if isinstance(state, EvaluateWaiting):
            return self._wait(state, event, task, is_misplaced(event, self.party, task.job_id, PEER_RECORDS))
        alike = answer_alike(state, EvaluateEnded(task.job_id), event, task, _peers(state), PEER_RECORDS)
        if alike is not None:
            return alike
        match state, event.record:
            case _, TimerFired() as timer:
                silent, outputs = task.silence(state.silent, timer, state.setup.patience_seconds)
                return Step(replace(state, silent=silent), outputs)
            case _, (StartTask() | AlignmentReady() | ModelReady()):
                return Step(state)
            case HostEvaluation(), ContinueEvaluation():
                return Step(state)
            case GuestEvaluation(), _:
                return _with_voice(guest.step(state, event, task), event, task)
            case HostEvaluation(), _:
                return _with_voice(host.step(state, event, task, self.chunk_rows), event, task)
        raise violation(self.party, f"no case for {type(state).__name__}")

    def _wait(self, state: EvaluateWaiting, event: Event, task: Task, misplaced: bool) -> Step:
        """Before the start: keep hand-overs and Readys, and what parties did wrong."""
        from_peer = event.sender != self.party
        match event.record:
            case EvaluateReady() as ready if from_peer and not misplaced:
                return _keep_ready(state, event.sender, ready)
            case _ if from_peer:
                return Step(replace(state, faults=keep_fault(state.faults, early_fault(task.job_id, event))))
            case StopTask():
                return Step(EvaluateEnded(task.job_id))
            case LocalFault() as fault:
                raise fault_refusal(fault, self.party)
            case PeerFault() as fault:
                return Step(replace(state, faults=keep_fault(state.faults, fault)))
            case StartTask() as start:
                return self._start(state, start, event, task)
            case AlignmentReady() as alignment if state.alignment is None:
                return Step(replace(state, alignment=alignment))
            case ModelReady() as model if state.half is None:
                return Step(replace(state, half=model.half))
        return Step(state)

    def _start(self, waiting: EvaluateWaiting, start: StartTask, event: Event, task: Task) -> Step:
        dataset = check_dataset(event.resource, start.profile, self.party)
        early = {each.party: each.ready for each in waiting.early}
        outputs: list[Output] = [task.started()]
        state: _Live
        if start.role is Role.GUEST:
            state = prepare_guest(waiting, start, dataset, self.party)
        else:
            state = prepare_host(waiting, start, dataset, self.party)
        check_faults(waiting.faults, _peers(state), self.party)
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


def _keep_ready(state: EvaluateWaiting, sender: str, ready: EvaluateReady) -> Step:
    if len(state.early) >= MOST_EARLY or any(each.party == sender for each in state.early):
        return Step(state)
    return Step(replace(state, early=(*state.early, EarlyEvaluateReady(sender, ready))))


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
