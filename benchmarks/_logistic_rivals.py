"""Logistic regression of two parties beside SecretFlow's, on the same table in the same run."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.rivals.environments import measure
from producers.demo_data import DemoTables, breast_cancer, read_pair
from schemas.jobs import EvaluateSpec

SEED: Final = 1

#: Protocols of SecretFlow: everything shared, and encrypted with Paillier.
PROTOCOLS: Final = ("ss", "hess")


def compare(data: str | None, missing: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Figures of each protocol that could be measured. Their rows are aligned beforehand, and nothing is recorded."""
    tables = breast_cancer(SEED, None, 1.0) if data is None else read_pair(Path(data), SEED, None, 1.0)
    found = {}
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "table.npz"
        write_table(tables, file)
        for protocol in PROTOCOLS:
            report = measure("secretflow", "secretflow", (str(file), protocol), missing)
            if report is not None:
                found[f"secretflow_{protocol}"] = report
    # The reasons are kept by protocol, not by the name of a file that is gone.
    for key in [key for key in missing if str(file) in key]:
        missing[key.replace(f" {file}", "")] = missing.pop(key)
    return found


def write_table(tables: DemoTables, file: Path) -> None:
    """The joint rows in a drawn order, features standardised: the first ones are for training, the rest held out."""
    joint = tables.guest.merge(tables.host, on="id", suffixes=("", " (host)")).sample(frac=1, random_state=SEED)
    width = len(tables.guest.columns)
    own = joint[list(tables.guest_features)]
    np.savez(
        file,
        guest=standardised(own),
        host=standardised(joint.iloc[:, width:]),
        label=joint[tables.label].to_numpy().astype(np.int32),
        training=round(len(joint) * (1 - EvaluateSpec.holdout_fraction)),
    )


def standardised(columns: pd.DataFrame) -> NDArray[np.float64]:
    """Mean 0 and deviation 1; a constant column becomes 0."""
    values = columns.to_numpy(dtype=np.float64)
    deviations = values.std(axis=0)
    centred: NDArray[np.float64] = values - values.mean(axis=0)
    return centred / np.where(deviations == 0, 1, deviations)
