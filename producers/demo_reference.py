"""What the demo compares its model with: scikit-learn on one joined table, and on the guest's columns alone.

Only a demonstration can do this: it owns both tables. Rows, split, standardisation and clipping are those of the job.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from producers.demo_data import DemoTables
from schemas.jobs import TrainSpec
from streams.kernels.fixed_point import FX
from streams.kernels.standardisation import fit_standardisation, standardise

#: scikit-learn stops well before the fixed point of the loss with its default of 1e-4.
TOLERANCE, MOST_ITERATIONS = 1e-9, 10_000


@dataclass(frozen=True)
class Reference:
    """Hold-out labels, and the probabilities of two plaintext fits, in the order of the hold-out ids."""

    label: NDArray[np.int8]
    pooled: NDArray[np.float64]
    guest_only: NDArray[np.float64]
    auc_pooled: float
    auc_guest_only: float
    rows_in_common: int


def fit_references(tables: DemoTables, holdout_ids: Sequence[str], train: TrainSpec) -> Reference:
    """Fit both on all common rows but the hold-out, and score the hold-out.

    Raises:
        ValueError: an id of the hold-out is not a common row.
    """
    from sklearn.metrics import roc_auc_score

    guest, host = tables.guest.set_index("id"), tables.host.set_index("id")
    common = guest.index.intersection(host.index)
    unknown = set(holdout_ids) - set(common)
    if unknown:
        raise ValueError(f"{len(unknown)} ids of the hold-out are not in both tables, such as {min(unknown)!r}")
    training = common.difference(list(holdout_ids), sort=True)
    label = guest[tables.label].astype(np.int8)
    sides = (guest[list(tables.guest_features)], host[list(tables.host_features)])
    columns: list[NDArray[np.float64]] = []
    for side in sides:
        fitted = fit_standardisation(side.loc[training].to_numpy(np.float64))
        rows = side.loc[[*training, *holdout_ids]].to_numpy(np.float64)
        columns.append(np.ldexp(standardise(rows, fitted, train.feature_clip).astype(np.float64), -FX))
    n_train, y_train = len(training), np.asarray(label.loc[training], dtype=np.int8)
    y = np.asarray(label.loc[list(holdout_ids)], dtype=np.int8)
    pooled = _fit(np.hstack(columns), y_train, n_train, train.l2)
    guest_only = _fit(columns[0], y_train, n_train, train.l2)
    return Reference(
        y, pooled, guest_only, float(roc_auc_score(y, pooled)), float(roc_auc_score(y, guest_only)), len(common)
    )


def _fit(rows: NDArray[np.float64], label: NDArray[np.int8], n_train: int, l2: float) -> NDArray[np.float64]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1.0 / l2 if l2 else np.inf, tol=TOLERANCE, max_iter=MOST_ITERATIONS)
    model.fit(rows[:n_train], label)
    return np.asarray(model.predict_proba(rows[n_train:])[:, 1], dtype=np.float64)
