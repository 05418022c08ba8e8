"""The guest closes a pass: it alone runs the step rule, decides when to stop, and tells the host coefficients only."""

from __future__ import annotations

import math
from dataclasses import replace

from schemas.jobs import Stage
from schemas.training import HostReport, ModelReady, StepDecided
from schemas.training_states import GuestTraining, NumberRow, TrainEnded, TrainPhase
from streams.kernels.packing import centre
from streams.kernels.residual_product import join_halves
from streams.kernels.step_rule import (
    add_scalars,
    integrate_loss,
    next_coefficients,
    round_scalar,
    should_stop,
)
from streams.machine import Event, Step, ToPeer, ToStage
from streams.machines.task import stop_waiting
from streams.machines.train import gates, stepping
from streams.machines.train.masks import extend_digest
from streams.machines.train.outcome import OwnParty, describe_pass, tell_progress
from streams.machines.train.plan import TrainPlan
from streams.machines.train.tools import own_width, plan_of, split_integers
from streams.machines.train.wire import check_numbers, read_shares, refuse


def take_report(own: OwnParty, state: GuestTraining, record: HostReport, event: Event) -> Step:
    """Finish the own gradient, run the step rule, move, and begin the next pass or end."""
    setup, current = state.setup, state.current
    plan = plan_of(setup, own.most_chunk_rows)
    passes = current.pass_index + 1
    check_numbers(setup, record, record.scalars, 0 if plan.few_columns else passes, "scalars")
    if not (math.isfinite(record.largest_mean) and record.largest_mean >= 0.0):
        raise refuse(setup, record, "largest_mean must be a finite number of at least 0")
    memory = stepping.add_gradient(setup, state.memory, *_gradient_sums(state, record, plan))
    state = _add_gram_row(own.name, replace(state, memory=memory), record, plan)
    is_last = should_stop(
        (stepping.largest_mean(memory, plan), record.largest_mean),
        setup.spec.train.tolerance,
        passes=passes,
        max_passes=setup.spec.train.max_passes,
        full_rank=current.rank == plan.full_rank and current.pass_index > 0,
    )
    coefficients = state.steps[-1].values if state.steps else ()
    next_rank = 0 if is_last else plan.rank(passes)
    memory = stepping.take_step(own, setup, memory, coefficients, plan)
    decided = StepDecided(setup.job_id, current.pass_index, coefficients, next_rank, is_last)
    report = extend_digest(b"", "report", record.shares, repr(record.scalars), repr(record.largest_mean))
    memory, current = stepping.next_pass(memory, current, next_rank, report)
    memory = replace(memory, rows_done=passes * plan.rows)
    state = replace(state, memory=memory, current=current)
    outputs = (ToPeer(setup.peer, decided), tell_progress(own, setup, memory, plan, _describe(state, plan)))
    if not is_last:
        return Step(replace(state, phase=TrainPhase.BASIS if next_rank else TrainPhase.LOGITS), outputs)
    half = ModelReady(setup.job_id, stepping.make_half(own, setup, memory))
    budget = gates.budget_of(plan, setup.peer_columns, setup.positives, is_guest=False)
    measures = stepping.measure(setup, memory, plan, budget, state.losses)
    handed = (ToStage(Stage.EVALUATE, half), ToStage(Stage.REGISTER, half))
    ended = own.task(setup.job_id).succeeded(event, measures)
    return Step(TrainEnded(setup.job_id), (*outputs, *handed, *stop_waiting([setup.peer]), ended))


def _gradient_sums(state: GuestTraining, record: HostReport, plan: TrainPlan) -> tuple[list[int], int]:
    """X_G^T d and how many low bits it lacks: none where the guest knows the residuals."""
    setup, current = state.setup, state.current
    layout = plan.product_layout(current.rank)
    if current.rank:
        returned = read_shares(setup, record, record.shares, own_width(setup), layout)
        return join_halves(returned, split_integers(current.own_shares, layout), layout), layout.drop_bits
    if record.shares:
        raise refuse(setup, record, "shares came for a gradient that the guest knows")
    return [centre(total, layout.share_bits) for total in split_integers(current.share_sums, layout)], 0


def _add_gram_row(own: str, state: GuestTraining, record: HostReport, plan: TrainPlan) -> GuestTraining:
    """The new Gram row of both parties, the loss that it implies, and the step."""
    if plan.few_columns:
        return state
    own_scalars = stepping.shared_scalars(state.setup, state.memory, plan)
    # In the order of the parties' names, as every sum over parties.
    shares = sorted([(own, own_scalars), (state.setup.peer, record.scalars)])
    losses = state.losses
    try:
        row = add_scalars([scalars for _, scalars in shares])
        gram = (*state.gram, NumberRow(row))
        rows = [each.values for each in gram]
        if state.steps:
            losses = (*losses, integrate_loss(losses[-1], rows, state.steps[-1].values))
        step = next_coefficients(rows, [each.values for each in state.steps], stepping.PARTIES)
        rounded = NumberRow(tuple(round_scalar(value) for value in step))
    except (OverflowError, ValueError) as error:
        raise refuse(state.setup, record, f"scalars that no gradients have: {error}") from error
    return replace(state, gram=gram, losses=losses, steps=(*state.steps, rounded))


def _describe(state: GuestTraining, plan: TrainPlan) -> str:
    done = state.current.pass_index - 1
    text = describe_pass(done, plan.rank(done))
    return f"{text}, loss_pass_{done} {state.losses[done]:.6g}" if done < len(state.losses) else text
