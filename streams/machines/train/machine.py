"""The train stage's machine: sort out who may say what when, then hand over to the role's functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from schemas.alignment import AlignmentReady
from schemas.jobs import Reason, Stage
from schemas.record import Record
from schemas.tasks import LocalFault, PeerFault, StartTask, StopTask, TaskResumed, TaskSuspended, TimerFired
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
from streams.kernels.entropy import MIN_SECRET_BYTES
from streams.machine import CancelTimer, Event, Output, Step, ToEvents, Traffic
from streams.machines.train import guest, guest_step, host, start
from streams.machines.train.outcome import PATIENCE, OwnParty, TaskEndError, fail, start_timer
from streams.machines.train.plan import MOST_CHUNK_ROWS
from streams.machines.train.protocol import OWN_RECORDS
from streams.machines.train.tools import Training, plan_of

#: Readies of different senders that are kept before the own StartTask names the peer.
MOST_EARLY: Final = 16

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

    `secret` is the party's master secret. `least_key_bits` and `most_chunk_rows` are lowered by tests and simulations,
    at both parties alike; no setting of a deployment leads here.
    """

    stage: str = Stage.TRAIN.value

    def __init__(
        self, party: str, secret: bytes, least_key_bits: int = 2048, most_chunk_rows: int = MOST_CHUNK_ROWS
    ) -> None:
        if len(secret) < MIN_SECRET_BYTES:
            raise ValueError(f"the master secret has {len(secret)} bytes; at least {MIN_SECRET_BYTES} are needed")
        self._own = OwnParty(party, secret, least_key_bits, most_chunk_rows)

    def initial(self, key: str) -> Record:
        """A job that was not heard of yet."""
        return TrainWaiting(key)

    def step(self, state: Record, event: Event) -> Step:
        """Decide one input. See `protocol.py` for what may come when."""
        if not isinstance(state, TrainWaiting | GuestTraining | HostTraining):
            return Step(state)
        job_id = state.job_id if isinstance(state, TrainWaiting) else state.setup.job_id
        try:
            return self._decide(state, event)
        except TaskEndError as error:
            return fail(self._own.name, job_id, error.reason, error.blame, error.detail)

    def _decide(self, state: TrainWaiting | Training, event: Event) -> Step:
        record, own = event.record, self._own.name
        is_own = event.sender == own
        if not isinstance(state, TrainWaiting) and not is_own and event.sender != state.setup.peer:
            return Step(state)  # Not part of this job.
        if is_own != isinstance(record, OWN_RECORDS):
            raise _violation(event.sender, record, "does not come from there")
        match record:
            case StopTask():
                job_id = state.job_id if isinstance(state, TrainWaiting) else state.setup.job_id
                return Step(TrainEnded(job_id), (CancelTimer(PATIENCE),))
            case LocalFault():
                raise TaskEndError(record.reason, own, record.detail)
            case PeerFault():
                if not isinstance(state, TrainWaiting) and record.party != state.setup.peer:
                    return Step(state)
                raise TaskEndError(record.reason, record.party, record.detail)
        if isinstance(state, TrainWaiting):
            return self._wait(state, event)
        if is_own:
            return self._go_on(state, record)
        return self._hear(state, record, event.traffic)

    def _wait(self, state: TrainWaiting, event: Event) -> Step:
        match event.record:
            case AlignmentReady() as record:
                return Step(replace(state, alignment=state.alignment or record))
            case StartTask() as record:
                return start.start(self._own, state, record, event.resource)
            case TrainReady() as record:
                if any(early.sender == event.sender for early in state.readies) or len(state.readies) >= MOST_EARLY:
                    return Step(state)
                return Step(replace(state, readies=(*state.readies, EarlyTrainReady(event.sender, record))))
            case TimerFired() | ContinueTraining():
                return Step(state)
        raise _violation(event.sender, event.record, "came before the task started")

    def _go_on(self, state: Training, record: Record) -> Step:
        """A record of the own party."""
        current = state.current
        match state, record:
            case _, TimerFired(name="patience"):
                return self._run_out(state)
            case _, ContinueTraining(pass_index=-1, chunk=0) if state.phase is _P.KEYS:
                return start.make_keys(self._own, state)
            case GuestTraining(phase=_P.FITTING), ContinueTraining(pass_index=-1, chunk=1):
                return guest.fit_alone(self._own, state)
            case GuestTraining(phase=_P.RESIDUALS), ContinueTraining() if _is_next(record, current):
                return guest.send_residuals(self._own, state)
            case HostTraining(phase=_P.BASIS | _P.LOGITS), ContinueTraining() if _is_next(record, current):
                return host.send_chunk(self._own, state)
        return Step(state)

    def _hear(self, state: Training, record: Record, traffic: Traffic) -> Step:
        """A record of the peer: one that was taken already changes nothing, one that is not due ends the task."""
        if _was_taken(state, record):
            return Step(state)
        job_id = state.setup.job_id
        outputs: tuple[Output, ...] = ()
        if state.memory.is_suspended:
            state = replace(state, memory=replace(state.memory, is_suspended=False))
            outputs = (ToEvents(TaskResumed(job_id, Stage.TRAIN, self._own.name)),)
        step = self._take(state, record, traffic)
        timer = () if isinstance(step.state, TrainEnded) else (start_timer(state.setup.spec.patience_seconds),)
        return Step(step.state, (*outputs, *step.outputs, *timer))

    def _take(self, state: Training, record: Record, traffic: Traffic) -> Step:
        own, phase, peer = self._own, state.phase, state.setup.peer
        if isinstance(record, TrainReady):
            if phase not in (_P.KEYS, _P.READY) or state.ready is not None:
                raise _violation(peer, record, "differs from the one before")
            return start.hear_ready(own, state, record)
        match state, record:
            case GuestTraining(phase=_P.REPORT), HostReport(pass_index=state.current.pass_index):
                return guest_step.take_report(own, state, record, traffic)
            case HostTraining(phase=_P.STEP), StepDecided(pass_index=state.current.pass_index):
                return host.take_decision(own, state, record, traffic)
        handlers = _GUEST if isinstance(state, GuestTraining) else _HOST
        handler = handlers.get((phase, type(record)))
        if handler is None or not _is_due(record, state.current):
            raise _violation(peer, record, f"does not belong where the task stands ({phase})")
        return handler(own, state, record)

    def _run_out(self, state: Training) -> Step:
        """The peer was silent for the job's patience: tell once, unless the own work is what takes so long."""
        setup = state.setup
        if self._is_busy(state):
            return Step(state, (start_timer(setup.spec.patience_seconds),))
        if state.memory.is_suspended:
            return Step(state)
        state = replace(state, memory=replace(state.memory, is_suspended=True))
        suspended = TaskSuspended(setup.job_id, Stage.TRAIN, self._own.name, Reason.PEER_SILENT, setup.peer)
        return Step(state, (ToEvents(suspended),))

    def _is_busy(self, state: Training) -> bool:
        if state.phase in (_P.KEYS, _P.FITTING):
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


def _violation(sender: str, record: Record, detail: str) -> TaskEndError:
    return TaskEndError(Reason.PROTOCOL_VIOLATION, sender, f"{type(record).__name__}: {detail}")


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
    if state.phase in (_P.KEYS, _P.READY, _P.FITTING) or not hasattr(record, "pass_index"):
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
