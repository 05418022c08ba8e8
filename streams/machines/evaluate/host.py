"""A host of an evaluation: sends its part of the hold-out's logits once the guest is ready."""

from __future__ import annotations

from dataclasses import replace

from schemas.evaluation import EvaluateReady, HoldoutLogits, LogitsReceived
from schemas.evaluation_states import EvaluateEnded, EvaluatePhase, HostEvaluation
from streams.machine import Event, Output, Step, ToPeer
from streams.machines.evaluate.start import check_ready
from streams.machines.task import Task, stop_waiting, violation, wait_for

_LOGIT_BYTES = 4


def step(state: HostEvaluation, event: Event, task: Task, chunk_rows: int) -> Step:
    """Decide what a record does to the host's task. Raises `RefusalError`."""
    match state.phase, event.record:
        case EvaluatePhase.READY, EvaluateReady() as ready:
            return take_ready(state, ready, task, chunk_rows)
        case _, EvaluateReady() as ready:
            if ready != state.ready:
                raise violation(event.sender, f"{event.sender} announced its rows twice, differently")
            return Step(state)
        case EvaluatePhase.SENT, LogitsReceived() as receipt:
            if receipt.rows != state.setup.rows_holdout:
                raise violation(
                    event.sender, f"{event.sender} received {receipt.rows} of {state.setup.rows_holdout} logits"
                )
            measures = {"n_train": state.setup.rows_train, "n_holdout": state.setup.rows_holdout}
            outputs = (*stop_waiting((state.guest,)), task.succeeded(event, measures))
            return Step(EvaluateEnded(state.setup.job_id), outputs)
    raise violation(event.sender, f"{type(event.record).__name__} does not belong in phase {state.phase}")


def take_ready(state: HostEvaluation, ready: EvaluateReady, task: Task, chunk_rows: int) -> Step:
    """The guest's rows are ours: send the logits, all chunks at once, for they are few. Raises `RefusalError`."""
    setup = state.setup
    check_ready(setup, state.guest, ready)
    content = state.logits.content
    width = chunk_rows * _LOGIT_BYTES
    outputs: list[Output] = [
        ToPeer(state.guest, HoldoutLogits(setup.job_id, chunk, content[chunk * width : (chunk + 1) * width]))
        for chunk in range(-(-setup.rows_holdout // chunk_rows))
    ]
    outputs.append(task.progressed(setup.rows_holdout, setup.rows_holdout, "rows", "logits of the hold-out sent"))
    outputs.append(wait_for(state.guest, setup.patience_seconds))
    return Step(replace(state, phase=EvaluatePhase.SENT, ready=ready), tuple(outputs))
