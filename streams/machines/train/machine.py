"""The train stage's machine: sort out who may say what when, then hand over to the role's functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from schemas.alignment import AlignmentReady
from schemas.cohorts import CohortGranted, CohortRefused
from schemas.jobs import Stage
from schemas.record import Record
from schemas.tasks import LocalFault, PeerFault, StartTask, StopTask, TimerFired
from schemas.training import (
    ContinueTraining,
    EncryptedBasis,
    EncryptedResiduals,
    EncryptedShares,
    HostGradientShares,
    HostReport,
    MaskedHostGradient,
    MaskedResiduals,
    PlainLogits,
    StepDecided,
    TrainReady,
)
from schemas.training_states import (
    EarlyTrainReady,
    GuestTraining,
    HostTraining,
    PassState,
    TrainEnded,
    TrainPhase,
    TrainWaiting,
)
from streams.kernels.entropy import MIN_SECRET_BYTES, Secret
from streams.machine import Event, Step
from streams.machines.task import (
    MOST_EARLY,
    RefusalError,
    answer_alike,
    early_fault,
    fault_refusal,
    is_misplaced,
    keep_fault,
    stop_waiting,
    wait_for,
)
from streams.machines.train import cohort, gates, guest, guest_step, host, start
from streams.machines.train.outcome import OwnParty
from streams.machines.train.plan import MOST_CHUNK_ROWS
from streams.machines.train.protocol import PEER_RECORDS
from streams.machines.train.tools import Training, plan_of
from streams.machines.train.wire import refuse

_P = TrainPhase

#: (phase, record type) -> what the guest does with a peer's record that is due.
_GUEST: Final[dict[tuple[TrainPhase, type[Record]], Callable[..., Step]]] = {
    (_P.LOGITS, PlainLogits): guest.take_logits,
    (_P.BASIS, EncryptedBasis): guest.take_basis,
    (_P.BASIS, EncryptedShares): guest.take_shares,
    (_P.PRODUCTS, MaskedHostGradient): guest.answer_products,
}
_HOST: Final[dict[tuple[TrainPhase, type[Record]], Callable[..., Step]]] = {
    (_P.RESIDUALS, EncryptedResiduals): host.take_residuals,
    (_P.LOGITS, EncryptedResiduals): host.take_residuals,
    (_P.BASIS, MaskedResiduals): host.take_masked,
    (_P.SHARES, HostGradientShares): host.take_gradient,
}

#: Chunked records and which counter of the pass says how many of them came; split-link passes only, or the others only.
_SPLIT_CHUNKS: Final[dict[type[Record], str]] = {
    EncryptedBasis: "received",
    MaskedResiduals: "received",
    EncryptedShares: "returned",
}
_PLAIN_CHUNKS: Final[dict[type[Record], str]] = {PlainLogits: "received", EncryptedResiduals: "received"}

#: Phases that follow, in the same pass, the one in which the record was taken.
_TAKEN: Final[dict[type[Record], frozenset[TrainPhase]]] = {
    MaskedHostGradient: frozenset({_P.REPORT}),
    HostGradientShares: frozenset({_P.STEP}),
}


class TrainMachine:
    """A party's train stage, for all jobs, in either role.

    `secret` is the party's master secret, or what a replay has of it. `least_key_bits` and `most_chunk_rows` are
    lowered by tests and simulations, at both parties alike; no setting of a deployment leads here.
    """

    stage: str = Stage.TRAIN.value

    def __init__(
        self, party: str, secret: Secret, least_key_bits: int = 2048, most_chunk_rows: int = MOST_CHUNK_ROWS
    ) -> None:
        if isinstance(secret, bytes) and len(secret) < MIN_SECRET_BYTES:
            raise ValueError(f"the master secret has {len(secret)} bytes; at least {MIN_SECRET_BYTES} are needed")
        self._own = OwnParty(party, secret, least_key_bits, most_chunk_rows)

    def initial(self, key: str) -> Record:
        """A job that was not heard of yet."""
        return TrainWaiting(key)

    def step(self, state: Record, event: Event) -> Step:
        """Decide one input. See `protocol.py` for what may come when."""
        if not isinstance(state, TrainWaiting | GuestTraining | HostTraining):
            return Step(state)
        if isinstance(state, TrainWaiting):
            return self._guarded(self._wait, state, event, state.job_id, [])
        step = self._guarded(self._decide, state, event, state.setup.job_id, [state.setup.peer])
        if isinstance(step.state, TrainEnded):
            # In the transaction of the end, however it came: what was revealed until here counts.
            return Step(step.state, (*cohort.settle(self._own, state), *step.outputs))
        return step

    def _guarded(self, decide: Callable[..., Step], state: Record, event: Event, job_id: str, peers: list[str]) -> Step:
        try:
            return decide(state, event)
        except RefusalError as refusal:
            return Step(TrainEnded(job_id), (*stop_waiting(peers), self._own.task(job_id).failed(refusal)))

    def _wait(self, state: TrainWaiting, event: Event) -> Step:
        """Before the start: keep hand-overs and Readys, and what parties did wrong."""
        from_peer = event.sender != self._own.name
        misplaced = is_misplaced(event, self._own.name, state.job_id, PEER_RECORDS)
        match event.record:
            case TrainReady() as ready if from_peer and not misplaced:
                if len(state.early) >= MOST_EARLY or any(early.party == event.sender for early in state.early):
                    return Step(state)
                return Step(replace(state, early=(*state.early, EarlyTrainReady(event.sender, ready))))
            case _ if from_peer:
                return Step(replace(state, faults=keep_fault(state.faults, early_fault(state.job_id, event))))
            case AlignmentReady() as record:
                return Step(replace(state, alignment=state.alignment or record))
            case StopTask():
                return Step(TrainEnded(state.job_id))
            case LocalFault() as fault:
                raise fault_refusal(fault, self._own.name)
            case PeerFault() as fault:
                return Step(replace(state, faults=keep_fault(state.faults, fault)))
            case StartTask() as record:
                return start.start(self._own, state, record, event.resource)
        return Step(state)

    def _decide(self, state: Training, event: Event) -> Step:
        job_id, peers = state.setup.job_id, [state.setup.peer]
        alike = answer_alike(state, TrainEnded(job_id), event, self._own.task(job_id), peers, PEER_RECORDS)
        if alike is not None:
            return alike
        return self._go_on(state, event.record) if event.sender == self._own.name else self._hear(state, event)

    def _go_on(self, state: Training, record: Record) -> Step:
        """A record of the own party."""
        own, current = self._own, state.current
        match state, record:
            case _, TimerFired() as timer if timer.name == wait_for(state.setup.peer, 0).name:
                return self._run_out(state, timer)
            case _, TimerFired() as timer if state.phase is _P.COHORT and timer.name == wait_for(own.name, 0).name:
                return self._ask_again(state, timer)
            case _, CohortGranted() if state.phase is _P.COHORT:
                return start.go_on(own, state)
            case _, CohortRefused() as refused if state.phase is _P.COHORT:
                raise gates.not_accepted(refused.leak, own.name, refused.detail)
            case _, ContinueTraining(pass_index=-1, chunk=0) if state.phase is _P.KEYS:
                return start.make_keys(own, state)
            case GuestTraining(phase=_P.FITTING), ContinueTraining(pass_index=-1, chunk=1):
                return guest.fit_alone(own, state)
            case GuestTraining(phase=_P.RESIDUALS), ContinueTraining() if _is_next(record, current):
                return guest.send_residuals(own, state)
            case HostTraining(phase=_P.BASIS | _P.LOGITS), ContinueTraining() if _is_next(record, current):
                return host.send_chunk(own, state)
        return Step(state)

    def _hear(self, state: Training, event: Event) -> Step:
        """A record of the peer: one that was taken already changes nothing, one that is not due ends the task."""
        if _was_taken(state, event.record):
            return Step(state)
        setup = state.setup
        silent, resumed = self._own.task(setup.job_id).voice(state.memory.silent, setup.peer)
        step = self._take(replace(state, memory=replace(state.memory, silent=silent)), event)
        timer = () if isinstance(step.state, TrainEnded) else (wait_for(setup.peer, setup.spec.patience_seconds),)
        return Step(step.state, (*resumed, *step.outputs, *timer))

    def _take(self, state: Training, event: Event) -> Step:
        own, phase, record = self._own, state.phase, event.record
        if isinstance(record, TrainReady):
            if phase is _P.KEYS and isinstance(state, GuestTraining):
                raise refuse(state.setup, record, "a host is ready after the guest only")
            if phase not in (_P.KEYS, _P.READY) or state.ready is not None:
                raise refuse(state.setup, record, "differs from the one before")
            return start.hear_ready(own, state, record)
        match state, record:
            case GuestTraining(phase=_P.REPORT), HostReport(pass_index=state.current.pass_index):
                return guest_step.take_report(own, state, record, event)
            case HostTraining(phase=_P.STEP), StepDecided(pass_index=state.current.pass_index):
                return host.take_decision(own, state, record, event)
        handlers = _GUEST if isinstance(state, GuestTraining) else _HOST
        handler = handlers.get((phase, type(record)))
        if handler is None or not _is_due(record, state.current):
            raise refuse(state.setup, record, f"does not belong where the task stands ({phase})")
        return handler(own, state, record)

    def _run_out(self, state: Training, timer: TimerFired) -> Step:
        """The peer was silent for the job's patience: tell once, unless the own work is what takes so long."""
        setup = state.setup
        if self._is_busy(state):
            return Step(state, (wait_for(setup.peer, setup.spec.patience_seconds),))
        task = self._own.task(setup.job_id)
        silent, outputs = task.silence(state.memory.silent, timer, setup.spec.patience_seconds)
        return Step(replace(state, memory=replace(state.memory, silent=silent)), outputs)

    def _ask_again(self, state: Training, timer: TimerFired) -> Step:
        """The own register was silent for the job's patience: tell once. The question may have been lost on a fault."""
        setup = state.setup
        task = self._own.task(setup.job_id)
        silent, outputs = task.silence(state.memory.silent, timer, setup.spec.patience_seconds)
        state = replace(state, memory=replace(state.memory, silent=silent))
        return Step(state, (*outputs, *cohort.ask(self._own, setup)))

    def _is_busy(self, state: Training) -> bool:
        if state.phase in (_P.KEYS, _P.COHORT, _P.FITTING):
            return True
        if isinstance(state, GuestTraining):
            return state.phase is _P.RESIDUALS
        is_sending = state.phase in (_P.BASIS, _P.LOGITS)
        current = state.current
        return is_sending and current.sent < plan_of(state.setup, self._own.most_chunk_rows).chunks(current.rank)


def phase_of(state: Record) -> TrainPhase:
    """Where the task of this state stands."""
    match state:
        case TrainWaiting():
            return _P.WAITING
        case GuestTraining() | HostTraining():
            return state.phase
    return _P.ENDED


def _is_next(record: ContinueTraining, current: PassState) -> bool:
    return (record.pass_index, record.chunk) == (current.pass_index, current.sent)


def _chunks_of(record: Any, current: PassState) -> int | None:
    """How many records of this type came in the current pass, if it has any."""
    counter = (_SPLIT_CHUNKS if current.rank else _PLAIN_CHUNKS).get(type(record))
    return None if counter is None else int(getattr(current, counter))


def _is_due(record: Any, current: PassState) -> bool:
    chunks = _chunks_of(record, current)
    return record.pass_index == current.pass_index and (chunks is None or record.chunk == chunks)


def _was_taken(state: Training, record: Any) -> bool:
    if isinstance(record, TrainReady):
        return record == state.ready
    current = state.current
    if state.phase in (_P.KEYS, _P.READY, _P.COHORT, _P.FITTING) or not hasattr(record, "pass_index"):
        return False
    if record.pass_index != current.pass_index:
        return 0 <= record.pass_index < current.pass_index and _is_from_peer(state, record)
    chunks = _chunks_of(record, current)
    if chunks is not None:
        return _is_from_peer(state, record) and 0 <= record.chunk < chunks
    return state.phase in _TAKEN.get(type(record), ())


def _is_from_peer(state: Training, record: Record) -> bool:
    """Whether the peer's role sends such records at all."""
    from_host = isinstance(record, PlainLogits | EncryptedBasis | EncryptedShares | MaskedHostGradient | HostReport)
    return from_host == isinstance(state, GuestTraining)
