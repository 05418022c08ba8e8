"""What a job may reveal beyond the protocol's leak table, checked before anything is revealed.

A leak must be accepted by name: in the spec, and by every party (the task carries what all accepted).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.jobs import JobSpec, Leak, Privacy, Reason
from streams.kernels.leak_budget import MINIMUM_SUPPORT, LeakBudget, check_budget, rare_columns, shared_scalars
from streams.machines.task import RefusalError
from streams.machines.train.plan import TrainPlan

#: How many columns an error text names.
NAMED_COLUMNS = 10


def require(leak: Leak, spec: JobSpec, accepted: Sequence[Leak], own: str, detail: str) -> None:
    """End the task unless spec and parties accepted the leak."""
    if not (leak in spec.accept_leaks and leak in accepted):
        raise not_accepted(leak, own, detail)


def not_accepted(leak: Leak, own: str, detail: str) -> RefusalError:
    """The end of a task for want of an acceptance."""
    text = f"{detail}; every party would have to accept {leak} by name (accept_leaks)"
    return RefusalError(Reason.LEAK_NOT_ACCEPTED, own, text)


def check_privacy(spec: JobSpec, accepted: Sequence[Leak], own: str) -> None:
    """`trusted_guest` lets the guest recover the host's rows."""
    if spec.train.privacy is Privacy.TRUSTED_GUEST:
        require(Leak.HOST_ROWS_TO_GUEST, spec, accepted, own, "privacy trusted_guest shows the guest every host row")


def check_support(
    spec: JobSpec, accepted: Sequence[Leak], own: str, features: NDArray[np.int32], columns: Sequence[str]
) -> None:
    """A column's gradient tells the label sum over the few rows in which it differs from its most frequent value."""
    rare = rare_columns(features)
    if not rare:
        return
    named = ", ".join(f"{columns[column.index]!r} in {column.support}" for column in rare[:NAMED_COLUMNS])
    more = f" and {len(rare) - NAMED_COLUMNS} more" if len(rare) > NAMED_COLUMNS else ""
    detail = (
        f"columns that differ from their most frequent value in fewer than {MINIMUM_SUPPORT} of {features.shape[0]} "
        f"training rows: {named}{more}"
    )
    require(Leak.RARE_COLUMN, spec, accepted, own, detail)


def received_scalars(plan: TrainPlan, passes: int, *, is_guest: bool) -> int:
    """Numbers besides gradients that a party receives: Gram rows and maxima at the guest, coefficients at a host."""
    if plan.few_columns:
        return passes if is_guest else 0
    return shared_scalars(passes) if is_guest else passes * (passes + 1) // 2


def budget_of(
    plan: TrainPlan, columns: int, positives: int | None, *, is_guest: bool, passes: int | None = None
) -> LeakBudget:
    """The budget of a party with so many columns (the guest's intercept included), of all passes that may come."""
    passes = plan.train.max_passes if passes is None else passes
    scalars = received_scalars(plan, passes, is_guest=is_guest)
    return check_budget(passes, columns, scalars, plan.rows, positives)


def check_budgets(spec: JobSpec, accepted: Sequence[Leak], own: str, budgets: Sequence[tuple[str, LeakBudget]]) -> None:
    """More bits than half of what the labels hold could be solved for labels."""
    for party, budget in budgets:
        if budget.exceeded:
            detail = f"for {party} {budget.describe()}"
            require(Leak.SMALL_TABLE, spec, accepted, own, detail)
