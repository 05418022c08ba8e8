"""The guest of an evaluation: collects the hosts' logits, measures, and writes the report."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from schemas.codec import encode
from schemas.evaluation import (
    ContinueEvaluation,
    EvaluateReady,
    EvaluationReady,
    HoldoutLogits,
    LogitsReceived,
    ReportStored,
)
from schemas.evaluation_states import EvaluateEnded, EvaluateLink, EvaluatePhase, GuestEvaluation
from schemas.jobs import Stage
from schemas.record import Blob
from streams.kernels.fixed_point import add_intercept
from streams.kernels.guest_fit import fit_guest, penalties
from streams.machine import Event, Output, Step, ToEvents, ToPeer, ToStage
from streams.machines.evaluate.protocol import FIT_GUEST_ALONE, MEASURE
from streams.machines.evaluate.report import SHARED_MEASURES, write_report
from streams.machines.evaluate.start import check_ready
from streams.machines.task import Task, stop_waiting, violation, wait_for

_LOGIT_BYTES = 4


def step(state: GuestEvaluation, event: Event, task: Task) -> Step:
    """Decide what a record does to the guest's task. Raises `RefusalError`."""
    match state.phase, event.record:
        case EvaluatePhase.COLLECTING, ContinueEvaluation(_, part) if part == FIT_GUEST_ALONE:
            return _fit_guest(state)
        case EvaluatePhase.MEASURING, ContinueEvaluation(_, part) if part == MEASURE:
            return _measure(state, event, task)
        case _, ContinueEvaluation():
            return Step(state)
        case _, EvaluateReady() as ready:
            return take_ready(state, event.sender, ready)
        case _, HoldoutLogits() as record:
            return _take_logits(state, _link(state, event.sender), record, task)
    raise violation(event.sender, f"{type(event.record).__name__} does not belong in phase {state.phase}")


def take_ready(state: GuestEvaluation, sender: str, ready: EvaluateReady) -> Step:
    """A host announced itself. Raises `RefusalError`."""
    link = _link(state, sender)
    if link.ready is not None:
        if link.ready != ready:
            raise violation(sender, f"{sender} announced its rows twice, differently")
        return Step(state)
    check_ready(state.setup, sender, ready)
    state = _with_link(state, replace(link, ready=ready))
    return Step(state, (wait_for(sender, state.setup.patience_seconds),))


def _fit_guest(state: GuestEvaluation) -> Step:
    """What the guest would have without any host: the measure of what joining brought."""
    if state.guest_weights:
        return Step(state)
    features = np.frombuffer(state.train.content, "<i4").astype(np.int32).reshape(-1, state.columns)
    label = np.frombuffer(state.train_label.content, np.int8)
    penalty = penalties(state.columns + 1, state.l2, intercept=True)
    fit = fit_guest(add_intercept(features), label, penalty)
    return _advance(replace(state, guest_weights=fit.weights), ())


def _take_logits(state: GuestEvaluation, link: EvaluateLink, record: HoldoutLogits, task: Task) -> Step:
    if link.ready is None:
        raise violation(link.party, f"{link.party} sends logits before it announced how many")
    taken, ready = len(link.logits), link.ready
    if 0 <= record.chunk < taken:
        return Step(state)
    if record.chunk != taken or record.chunk >= ready.chunks:
        raise violation(link.party, f"chunk {record.chunk} of logits came when {taken} of {ready.chunks} were there")
    rows = min(ready.chunk_rows, ready.rows - record.chunk * ready.chunk_rows)
    if len(record.logits) != rows * _LOGIT_BYTES:
        raise violation(
            link.party,
            f"chunk {record.chunk} of logits has {len(record.logits)} bytes instead of {rows * _LOGIT_BYTES}",
        )
    link = replace(link, logits=(*link.logits, Blob.of(record.logits)))
    state = _with_link(state, link)
    done = sum(min(len(each.logits) * each.ready.chunk_rows, ready.rows) for each in state.links if each.ready)
    outputs: list[Output] = [task.progressed(done, ready.rows * len(state.links), "rows", "logits received")]
    if len(link.logits) == ready.chunks:
        outputs.append(ToPeer(link.party, LogitsReceived(state.setup.job_id, ready.rows)))
        outputs.extend(stop_waiting((link.party,)))
    else:
        outputs.append(wait_for(link.party, state.setup.patience_seconds))
    return _advance(state, tuple(outputs))


def _advance(state: GuestEvaluation, outputs: tuple[Output, ...]) -> Step:
    """Measure as soon as nothing is missing."""
    complete = all(link.ready is not None and len(link.logits) == link.ready.chunks for link in state.links)
    if not complete or not state.guest_weights:
        return Step(state, outputs)
    begin = ToStage(Stage.EVALUATE, ContinueEvaluation(state.setup.job_id, MEASURE))
    return Step(replace(state, phase=EvaluatePhase.MEASURING), (*outputs, begin))


def _measure(state: GuestEvaluation, event: Event, task: Task) -> Step:
    setup = state.setup
    report = write_report(state)
    blob = Blob.of(encode(report))
    shared = tuple(measure for measure in report.measures if measure.name in SHARED_MEASURES)
    ready = EvaluationReady(setup.job_id, report.measures, shared, setup.rows_train, setup.rows_holdout, blob)
    outputs = (
        ToStage(Stage.REGISTER, ready),
        ToEvents(ReportStored(setup.job_id, task.party, blob)),
        task.succeeded(event, {measure.name: measure.value for measure in report.measures}),
    )
    return Step(EvaluateEnded(setup.job_id, blob), outputs)


def _link(state: GuestEvaluation, party: str) -> EvaluateLink:
    return next(link for link in state.links if link.party == party)


def _with_link(state: GuestEvaluation, link: EvaluateLink) -> GuestEvaluation:
    return replace(state, links=tuple(link if each.party == link.party else each for each in state.links))
