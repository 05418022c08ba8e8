"""The whole training schedule in plaintext: the same integers as the protocol, without encryption.

Answers how many passes, which box and which rank a table needs, against scikit-learn's fit on the pooled columns.

    python -m benchmarks.glm_simulation                      scikit-learn's breast cancer table, split in two
    python -m benchmarks.glm_simulation --data FOLDER        *_hetero_guest.csv.gz and *_hetero_host.csv.gz in FOLDER
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streams.kernels import metrics, step_rule
from streams.kernels.fixed_point import (
    FX,
    LOGIT_BITS,
    RESIDUAL_BITS,
    WEIGHT_BITS,
    add_intercept,
    largest,
    linear_predictor,
    weighted_sums,
)
from streams.kernels.guest_fit import add_penalty, fit_guest, penalised_loss, penalties
from streams.kernels.link_table import Basis, LinkTable, approximate_residuals, choose_table, count_outside
from streams.kernels.sigmoid import residuals
from streams.kernels.standardisation import fit_standardisation, standardise

#: The guest's columns in the demo split of the breast cancer table: weak ones, so that the host has something to add.
DEMO_GUEST_COLUMNS: tuple[str, ...] = tuple(
    f"{kind} {name}"
    for name in ("texture", "smoothness", "symmetry", "fractal dimension")
    for kind in ("mean", "worst")
)


@dataclass(frozen=True)
class Settings:
    """The part of a train spec that the simulation needs."""

    guest_clip: float = 8.0
    host_clip: float = 4.0
    rank: int = 6
    coarse_passes: int = 3
    max_passes: int = 12
    tolerance: float = 3e-4
    l2: float = 1.0
    feature_clip: float = 8.0
    basis: Basis = Basis.EVEN
    trusted_guest: bool = False


@dataclass
class Table:
    """Two parties' aligned columns."""

    name: str
    guest: NDArray[np.float64]
    host: NDArray[np.float64]
    label: NDArray[np.int8]


@dataclass
class Outcome:
    """One simulated job: what happened pass by pass and how it compares. `pooled_*` are scikit-learn's."""

    auc: list[float] = field(default_factory=list)
    ks: list[float] = field(default_factory=list)
    largest_means: list[float] = field(default_factory=list)
    outside: list[tuple[int, int]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    exact_losses: list[float] = field(default_factory=list)
    ranks: list[int] = field(default_factory=list)
    largest_logits: tuple[float, float] = (0.0, 0.0)
    pooled_auc: float = 0.0
    pooled_ks: float = 0.0
    guest_auc: float = 0.0
    weights: tuple[tuple[int, ...], ...] = ()
    weight_gap: float = 0.0

    @property
    def passes(self) -> int:
        """Passes made, the one from the guest's own fit included."""
        return len(self.auc)

    def describe(self) -> str:
        """One line of figures."""
        return (
            f"passes {self.passes} (ranks sum to {sum(self.ranks)}), guest alone {self.guest_auc:.4f}, "
            f"AUC {self.auc[-1]:.5f} pooled {self.pooled_auc:.5f} gap {self.auc[-1] - self.pooled_auc:+.1e}, "
            f"KS {self.ks[-1]:.4f} gap {self.ks[-1] - self.pooled_ks:+.1e}, weights {self.weight_gap:.1e}, "
            f"largest logits {self.largest_logits[0]:.1f}/{self.largest_logits[1]:.1f}, outside {self.outside[-1]}, "
            f"loss {self.losses[-1]:.3f} true {self.exact_losses[-1]:.3f}"
        )


class Block:
    """One party's share of the training: its columns, its weights, its gradients."""

    def __init__(self, columns: NDArray[np.int32], train: NDArray[np.int64], penalty: tuple[float, ...]) -> None:
        self.columns = columns
        self.features = np.ascontiguousarray(columns[train])
        self.penalty = penalty
        self.preconditioner = step_rule.fit_preconditioner(self.features, penalty)
        self.gradients: list[tuple[float, ...]] = []
        self.move_to((0,) * columns.shape[1])

    def move_to(self, weights: tuple[int, ...]) -> None:
        """Begin at these weights."""
        self.weights = weights
        self.momentum = step_rule.Momentum(weights, weights)

    def logits(self) -> NDArray[np.int64]:
        """Of the training rows."""
        return linear_predictor(self.features, self.weights)

    def add_gradient(self, d: NDArray[np.int64]) -> float:
        """Truncated to 20 bits like the protocol's shares; returns max |g| / n."""
        n = self.features.shape[0]
        drop = FX + RESIDUAL_BITS + (n - 1).bit_length() - step_rule.SCALAR_BITS
        sums = tuple(value >> drop for value in weighted_sums(self.features, d))
        self.gradients.append(add_penalty(sums, FX + RESIDUAL_BITS - drop, self.weights, self.penalty))
        return step_rule.largest_mean_gradient(self.gradients[-1], n)


def run(table: Table, settings: Settings, seed: int = 0, holdout: float = 0.3) -> Outcome:
    """Simulate one job on one random split of the rows."""
    n = table.label.shape[0]
    order = np.random.RandomState(seed).permutation(n)
    train, rest = order[: n - int(n * holdout)], order[n - int(n * holdout) :]
    guest, host = (
        standardise(values, fit_standardisation(values[train]), settings.feature_clip)
        for values in (table.guest, table.host)
    )
    blocks = (
        Block(add_intercept(guest), train, penalties(guest.shape[1] + 1, settings.l2, intercept=True)),
        Block(host, train, penalties(host.shape[1], settings.l2, intercept=False)),
    )
    outcome = Outcome()
    fit = fit_guest(blocks[0].features, table.label[train], blocks[0].penalty)
    blocks[0].move_to(fit.weights)
    outcome.losses.append(fit.loss)
    outcome.guest_auc = metrics.auc(table.label[rest], linear_predictor(blocks[0].columns[rest], fit.weights))
    make_passes(blocks, table.label, train, rest, settings, outcome)
    outcome.weights = tuple(block.weights for block in blocks)
    compare(outcome, blocks, train, rest, table.label, settings.l2)
    return outcome


def make_passes(
    blocks: tuple[Block, Block],
    label: NDArray[np.int8],
    train: NDArray[np.int64],
    rest: NDArray[np.int64],
    settings: Settings,
    outcome: Outcome,
) -> None:
    """The schedule: pass 0 with exact residuals, coarse passes, passes at full rank, until the gradient is small."""
    link = choose_table(settings.guest_clip, settings.host_clip, settings.basis)
    few = min(blocks[0].features.shape[1] - 1, blocks[1].features.shape[1]) <= step_rule.FEW_COLUMNS
    rows: list[tuple[float, ...]] = []
    steps: list[tuple[float, ...]] = []
    for number in range(settings.max_passes):
        a, b = (block.logits() for block in blocks)
        rank = step_rule.rank_of_pass(number, settings.coarse_passes, settings.rank)
        exact = number == 0 or settings.trusted_guest
        if exact:
            d = residuals(a + b, label[train])
        else:
            d = approximate_residuals(link.phi(a, rank), link.psi(b, rank), label[train])
        outcome.ranks.append(0 if exact else rank)
        tops = [block.add_gradient(d) for block in blocks]
        outcome.largest_means.append(max(tops))
        if few:
            for block in blocks:
                block.momentum = step_rule.next_momentum(block.momentum, block.gradients[-1], block.preconditioner, 2)
                block.weights = block.momentum.point
        else:
            shares = [step_rule.new_scalars(block.gradients, block.preconditioner) for block in blocks]
            rows.append(step_rule.add_scalars(shares))
            if number:
                outcome.losses.append(step_rule.integrate_loss(outcome.losses[-1], rows, steps[-1]))
            steps.append(step_rule.next_coefficients(rows, steps, 2))
            for block in blocks:
                block.weights = step_rule.apply_step(block.weights, block.gradients, steps[-1], block.preconditioner)
        take_measures(blocks, label, train, rest, link, outcome)
        full = settings.trusted_guest or rank == settings.rank
        if number and step_rule.should_stop(
            tops, settings.tolerance, passes=number + 1, max_passes=settings.max_passes, full_rank=full
        ):
            break


def take_measures(
    blocks: tuple[Block, Block],
    label: NDArray[np.int8],
    train: NDArray[np.int64],
    rest: NDArray[np.int64],
    link: LinkTable,
    outcome: Outcome,
) -> None:
    """Hold-out measures, true loss and rows outside the box, after a step."""
    columns = np.hstack([block.columns for block in blocks])
    weights = blocks[0].weights + blocks[1].weights
    scores = linear_predictor(columns[rest], weights)
    outcome.auc.append(metrics.auc(label[rest], scores))
    outcome.ks.append(metrics.ks(label[rest], scores))
    penalty = blocks[0].penalty + blocks[1].penalty
    outcome.exact_losses.append(penalised_loss(columns[train], label[train], weights, penalty))
    a, b = (block.logits() for block in blocks)
    outcome.outside.append((count_outside(a, link.guest_clip), count_outside(b, link.host_clip)))
    outcome.largest_logits = (largest(a) / 2**LOGIT_BITS, largest(b) / 2**LOGIT_BITS)


def compare(
    outcome: Outcome,
    blocks: tuple[Block, Block],
    train: NDArray[np.int64],
    rest: NDArray[np.int64],
    label: NDArray[np.int8],
    l2: float,
) -> None:
    """Fit scikit-learn on the pooled, clipped, standardised columns and note the gaps."""
    from sklearn.linear_model import LogisticRegression

    features = np.ldexp(np.hstack([blocks[0].columns[:, :-1], blocks[1].columns]).astype(np.float64), -FX)
    model = LogisticRegression(C=1.0 / l2, tol=1e-10, max_iter=1000, solver="newton-cholesky")
    model.fit(features[train], label[train])
    scores = model.decision_function(features[rest])
    outcome.pooled_auc = metrics.auc(label[rest], scores)
    outcome.pooled_ks = metrics.ks(label[rest], scores)
    own = np.ldexp(np.array(blocks[0].weights[:-1] + blocks[1].weights, dtype=np.float64), -WEIGHT_BITS)
    outcome.weight_gap = float(np.abs(own - model.coef_[0]).max())


def breast_cancer(guest_columns: tuple[str, ...] = DEMO_GUEST_COLUMNS) -> Table:
    """scikit-learn's table with these columns at the guest and the others at the host; class 1 is malignant."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    names = [str(name) for name in data.feature_names]
    mine = [names.index(name) for name in guest_columns]
    other = [index for index in range(len(names)) if index not in mine]
    return Table("breast_cancer", data.data[:, mine], data.data[:, other], (1 - data.target).astype(np.int8))


def folder_tables(folder: Path) -> Iterator[Table]:
    """Every pair <name>_hetero_guest.csv.gz, <name>_hetero_host.csv.gz: columns id, y (guest), features."""
    import pandas as pd

    for path in sorted(folder.glob("*_hetero_guest.csv.gz")):
        name = path.name.removesuffix("_hetero_guest.csv.gz")
        guest = pd.read_csv(path).set_index("id")
        host = pd.read_csv(folder / f"{name}_hetero_host.csv.gz").set_index("id").loc[guest.index]
        label = guest.pop("y").to_numpy().astype(np.int8)
        yield Table(name, guest.to_numpy(dtype=np.float64), host.to_numpy(dtype=np.float64), label)


def main() -> None:
    """Print one line a table and seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of *_hetero_{guest,host}.csv.gz pairs")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--basis", type=Basis, default=Basis.EVEN, help="even or centred")
    for name, default in (("guest-clip", 8.0), ("host-clip", 4.0), ("l2", 1.0), ("tolerance", 3e-4)):
        parser.add_argument(f"--{name}", type=float, default=default)
    for name, count in (("rank", 6), ("coarse-passes", 3), ("max-passes", 12)):
        parser.add_argument(f"--{name}", type=int, default=count)
    given = parser.parse_args()
    settings = Settings(
        guest_clip=given.guest_clip,
        host_clip=given.host_clip,
        rank=given.rank,
        coarse_passes=given.coarse_passes,
        max_passes=given.max_passes,
        tolerance=given.tolerance,
        basis=given.basis,
        l2=given.l2,
    )
    for table in folder_tables(given.data) if given.data else [breast_cancer()]:
        for seed in range(given.seeds):
            print(f"{table.name} seed {seed}: {run(table, settings, seed).describe()}", flush=True)


if __name__ == "__main__":
    main()
