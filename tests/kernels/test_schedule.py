"""The whole schedule in plaintext reaches the pooled fit: the claim that the protocol's accuracy rests on."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import pytest

from benchmarks.glm_simulation import Settings, Table, breast_cancer, run
from streams.kernels.link_table import MAX_SHARE_OUTSIDE, Basis

DEMO = Settings(guest_clip=6, host_clip=24, rank=8, coarse_passes=3, l2=10, tolerance=1e-3)


def credit_like(seed: int, host_columns: int = 6, n: int = 6_000) -> Table:
    """Columns correlated across parties, labels from a logistic model that needs both."""
    draws = np.random.RandomState(seed)
    common = draws.standard_normal((n, 2))
    guest = common @ draws.standard_normal((2, 5)) + draws.standard_normal((n, 5))
    host = common @ draws.standard_normal((2, host_columns)) + draws.standard_normal((n, host_columns))
    both = np.hstack([guest, host])
    logits = both @ draws.standard_normal(both.shape[1]) * 0.35 - 1.0
    label = (draws.uniform(size=n) < 1 / (1 + np.exp(-logits))).astype(np.int8)
    return Table("credit_like", guest, host, label)


@pytest.mark.parametrize("seed", range(2))
def test_split_link_reaches_the_pooled_fit(seed: int) -> None:
    outcome = run(credit_like(seed), Settings(), seed)
    assert outcome.passes <= 12
    assert abs(outcome.auc[-1] - outcome.pooled_auc) <= 1e-4
    assert abs(outcome.ks[-1] - outcome.pooled_ks) <= 2e-3
    assert outcome.weight_gap <= 1e-2
    assert outcome.pooled_auc - outcome.guest_auc >= 0.01


def test_the_centred_basis_reaches_it_at_rank_four() -> None:
    """Two ranks less than the even basis, as long as logits crowd in the middle of the box."""
    centred = run(credit_like(1), Settings(basis=Basis.CENTRED, rank=4, coarse_passes=0), 1)
    even = run(credit_like(1), Settings(), 1)
    assert abs(centred.auc[-1] - centred.pooled_auc) <= 1e-4
    assert sum(centred.ranks) <= 0.8 * sum(even.ranks)


def test_exact_residuals_reach_it_closer_still() -> None:
    outcome = run(credit_like(0), Settings(trusted_guest=True, tolerance=2e-6, max_passes=20), 0)
    assert outcome.passes < 20
    assert abs(outcome.auc[-1] - outcome.pooled_auc) <= 2e-6
    assert outcome.weight_gap <= 1e-4


def test_the_demo_ends_at_the_pooled_fit() -> None:
    for seed in range(3):
        outcome = run(breast_cancer(), DEMO, seed)
        assert outcome.passes <= DEMO.max_passes
        assert abs(outcome.auc[-1] - outcome.pooled_auc) <= 1e-3
        assert outcome.guest_auc <= outcome.auc[-1] - 0.02
        assert outcome.outside[-1] == (0, 0)


def test_a_host_with_few_columns_shares_no_scalars_and_still_gets_there() -> None:
    outcome = run(credit_like(1, host_columns=3), dataclasses.replace(Settings(), max_passes=30), 1)
    assert outcome.passes < 30
    assert len(outcome.losses) == 1
    assert abs(outcome.auc[-1] - outcome.pooled_auc) <= 1e-4


def test_the_integrated_loss_follows_the_true_one() -> None:
    outcome = run(credit_like(0), Settings(), 0)
    assert outcome.losses[-1] == pytest.approx(outcome.exact_losses[-1], rel=5e-3)


def test_a_model_is_the_same_integers_on_every_machine() -> None:
    """No BLAS, no LAPACK, no libm between the table and these weights: their digest is a constant of the project."""
    weights = run(breast_cancer(), DEMO, 0).weights
    assert hashlib.sha256(repr(weights).encode()).hexdigest()[:16] == "b540e5a12d1c71c1"


def test_rows_somewhat_outside_the_box_cost_little() -> None:
    """5 % of the host's logits beyond its clip; the gate refuses at 1 %."""
    table = credit_like(1)
    outcome = run(table, Settings(host_clip=3.0, guest_clip=4.0), 1)
    n_train = 4_200
    assert MAX_SHARE_OUTSIDE < max(outcome.outside[-1]) / n_train < 0.1
    assert abs(outcome.auc[-1] - outcome.pooled_auc) <= 3e-4


def test_two_runs_give_the_same_bits() -> None:
    first, second = (run(credit_like(0, n=800), Settings(), 0) for _ in range(2))
    assert first == second
