"""The end of a pass at either party: a gradient becomes numbers for the step rule, and a step becomes new weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from schemas.jobs import Reason
from schemas.models import ModelHalf
from schemas.training_states import NumberRow, PassState, TrainingMemory, TrainSetup
from streams.kernels.fixed_point import FX, RESIDUAL_BITS
from streams.kernels.guest_fit import WEIGHT_LIMIT, add_penalty
from streams.kernels.leak_budget import LeakBudget
from streams.kernels.link_table import MAX_SHARE_OUTSIDE, count_outside
from streams.kernels.step_rule import (
    Momentum,
    apply_step,
    largest_mean_gradient,
    new_scalars,
    next_momentum,
)
from streams.machines.task import RefusalError, violation
from streams.machines.train.masks import extend_digest
from streams.machines.train.outcome import OwnParty
from streams.machines.train.plan import TrainPlan, link_table, logit_clip
from streams.machines.train.tools import own_logits, penalty_of, preconditioner_of, role_of

#: Block-diagonal steps of two parties are safe at half length.
PARTIES = 2


def add_gradient(setup: TrainSetup, memory: TrainingMemory, sums: Sequence[int], dropped: int) -> TrainingMemory:
    """Remember X^T d, given without its low `dropped` bits, with the penalty's part added."""
    gradient = add_penalty(sums, FX + RESIDUAL_BITS - dropped, memory.weights, penalty_of(setup))
    return replace(memory, gradients=(*memory.gradients, NumberRow(gradient)))


def shared_scalars(setup: TrainSetup, memory: TrainingMemory, plan: TrainPlan) -> tuple[float, ...]:
    """This party's share of the new Gram row; empty where it would tell the step."""
    if plan.few_columns:
        return ()
    return new_scalars([row.values for row in memory.gradients], preconditioner_of(setup))


def largest_mean(memory: TrainingMemory, plan: TrainPlan) -> float:
    """The largest entry of the latest gradient over the number of rows."""
    return largest_mean_gradient(memory.gradients[-1].values, plan.rows)


def take_step(
    own: OwnParty, setup: TrainSetup, memory: TrainingMemory, coefficients: Sequence[float], plan: TrainPlan
) -> TrainingMemory:
    """Move the own weights: by the shared coefficients, or by the own block's momentum where there are none.

    Raises RefusalError when a weight leaves its fixed point, or is no number: the peer's scalars or coefficients are
    finite, but nothing more is known of them.
    """
    try:
        moved = _moved(setup, memory, coefficients, plan)
    except (OverflowError, ValueError) as error:
        raise violation(setup.peer, f"the numbers of {setup.peer} lead to weights that are none: {error}") from error
    if max(abs(weight) for weight in (*moved.weights, *moved.iterate)) >= WEIGHT_LIMIT:
        detail = f"a weight of {own.name} reached 2^10: raise train.l2, or look for columns that separate the labels"
        raise RefusalError(Reason.LOGITS_OUT_OF_BOX, own.name, detail)
    return moved


def _moved(setup: TrainSetup, memory: TrainingMemory, coefficients: Sequence[float], plan: TrainPlan) -> TrainingMemory:
    preconditioner = preconditioner_of(setup)
    gradients = [row.values for row in memory.gradients]
    if plan.few_columns:
        before = Momentum(memory.weights, memory.iterate, memory.age)
        after = next_momentum(before, gradients[-1], preconditioner, PARTIES)
        return replace(memory, weights=after.point, iterate=after.weights, age=after.age)
    weights = apply_step(memory.weights, gradients, coefficients, preconditioner)
    return replace(memory, weights=weights, iterate=weights)


def rows_outside(setup: TrainSetup, memory: TrainingMemory) -> int:
    """How many training rows have a logit of this party outside the link's box, at the last iterate."""
    logits = own_logits(setup, memory.iterate, slice(0, setup.rows))
    return count_outside(logits, logit_clip(setup.spec.train, role_of(setup)))


def make_half(own: OwnParty, setup: TrainSetup, memory: TrainingMemory) -> ModelHalf:
    """The party's half of the model at the last iterate. Raises RefusalError when its logits leave the link's box."""
    role, train = role_of(setup), setup.spec.train
    clip, outside = logit_clip(train, role), rows_outside(setup, memory)
    if outside > MAX_SHARE_OUTSIDE * setup.rows:
        detail = (
            f"{outside} of {setup.rows} logits of {own.name} lie beyond +-{clip}: raise train.{role}_logit_clip, "
            "lower train.feature_clip, or raise train.l2"
        )
        raise RefusalError(Reason.LOGITS_OUT_OF_BOX, own.name, detail)
    columns = len(setup.columns)
    return ModelHalf(
        party=own.name,
        role=role,
        model=setup.spec.name,
        columns=setup.columns,
        means=setup.means,
        scales=setup.scales,
        constant=setup.constant,
        feature_clip=train.feature_clip,
        weights=memory.iterate[:columns],
        intercept=memory.iterate[columns] if setup.label is not None else None,
        logit_clip=float(clip),
        spec_digest=setup.spec_digest,
        data_fingerprint=setup.fingerprint,
    )


def measure(
    setup: TrainSetup, memory: TrainingMemory, plan: TrainPlan, budget: LeakBudget, losses: Sequence[float] = ()
) -> dict[str, float]:
    """What a party reports at the end. Losses after the first are integrated from Gram rows, hence estimates."""
    rank = plan.full_rank
    numbers: dict[str, float] = {
        "passes": len(memory.gradients),
        "rank": rank,
        "sup_error": link_table(setup.spec.train).sup_error(rank) if rank else 0.0,
        "rows": setup.rows,
        "columns": len(setup.columns),
        "logits_outside": rows_outside(setup, memory),
        "largest_mean_gradient": largest_mean(memory, plan),
        "leak_bits": budget.bits,
        "leak_bits_limit": budget.limit,
    }
    return numbers | {f"loss_pass_{index}": loss for index, loss in enumerate(losses)}


def next_pass(memory: TrainingMemory, current: PassState, rank: int, report: bytes) -> tuple[TrainingMemory, PassState]:
    """Close the books of a pass: what came in goes into the transcript, everything else is forgotten."""
    transcript = extend_digest(
        memory.transcript, "pass", current.pass_index, current.inputs, current.returned_inputs, report
    )
    return replace(memory, transcript=transcript), PassState(current.pass_index + 1, rank)
