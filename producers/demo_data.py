"""The demo's tables: one public table, cut in two by columns, with ids that overlap only partly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from producers.spec import DemoDataError

#: The share of rows that each side keeps, so that there is something to intersect: drawn from the seed, for each side
#: on its own.
KEPT_SHARE = 0.9

#: The guest's columns of the breast-cancer table: weak ones, so that joining visibly helps.
GUEST_COLUMNS = (
    "mean texture",
    "worst texture",
    "mean smoothness",
    "worst smoothness",
    "mean symmetry",
    "worst symmetry",
    "mean fractal dimension",
    "worst fractal dimension",
)


@dataclass(frozen=True)
class DemoTables:
    """Both sides' tables. The guest's has the columns `id`, `label` and features, the host's `id` and features."""

    title: str
    guest: pd.DataFrame
    host: pd.DataFrame
    label: str

    @property
    def guest_features(self) -> tuple[str, ...]:
        """Columns that the guest trains on."""
        return tuple(str(name) for name in self.guest.columns if name not in ("id", self.label))

    @property
    def host_features(self) -> tuple[str, ...]:
        """Columns that the host trains on."""
        return tuple(str(name) for name in self.host.columns if name != "id")


def breast_cancer(seed: int, rows: int | None = None, kept: float = KEPT_SHARE) -> DemoTables:
    """scikit-learn's breast-cancer table (569 rows, 30 columns): a clinic has the diagnosis, a laboratory has not."""
    from sklearn.datasets import load_breast_cancer

    table = load_breast_cancer()
    names = [str(name) for name in table.feature_names]
    whole = pd.DataFrame(table.data, columns=names)
    whole.insert(0, "id", [f"patient-{number:04d}" for number in range(len(whole))])
    whole["malignant"] = 1 - table.target
    if rows is not None:
        whole = whole.sample(n=min(rows, len(whole)), random_state=np.random.RandomState(seed))
    guest = whole[["id", "malignant", *GUEST_COLUMNS]]
    host = whole[["id", *(name for name in names if name not in GUEST_COLUMNS)]]
    return DemoTables(
        "Breast cancer: a clinic and a laboratory",
        drop_rows(guest, seed, "guest", kept),
        drop_rows(host, seed, "host", kept),
        "malignant",
    )


def read_pair(prefix: Path, seed: int, rows: int | None = None, kept: float = KEPT_SHARE) -> DemoTables:
    """`PREFIX_guest.csv[.gz]` (with `id` and the label `y`) and `PREFIX_host.csv[.gz]` (with `id`).

    `rows` keeps so many of the guest's ids; then each side keeps the share `kept` of its rows, drawn from the seed.
    Raises `DemoDataError` when a file or a column is missing.
    """
    guest, host = (_read(prefix, side) for side in ("guest", "host"))
    if "y" not in guest.columns:
        raise DemoDataError(
            f"{prefix}_guest.csv has no column y, which holds the label; it has {', '.join(guest.columns)}"
        )
    if rows is not None and rows < len(guest):
        guest = guest.sample(n=rows, random_state=np.random.RandomState(seed))
        host = host[host["id"].isin(guest["id"])]
    return DemoTables(prefix.name, drop_rows(guest, seed, "guest", kept), drop_rows(host, seed, "host", kept), "y")


def drop_rows(table: pd.DataFrame, seed: int, side: str, kept: float) -> pd.DataFrame:
    """The table in another order and with the share `kept` of its rows, both drawn from seed and side."""
    draws = np.random.RandomState([seed % 2**32, {"guest": 1, "host": 2}[side]])
    order = draws.permutation(len(table))
    chosen = order[: math.ceil(round(len(table) * kept, 6))]
    return table.iloc[chosen].reset_index(drop=True)


def _read(prefix: Path, side: str) -> pd.DataFrame:
    for suffix in (".csv", ".csv.gz"):
        path = prefix.with_name(f"{prefix.name}_{side}{suffix}")
        if path.exists():
            try:
                table = pd.read_csv(path, dtype={"id": str})
            except (ValueError, OSError) as error:
                raise DemoDataError(f"{path} cannot be read: {error}") from error
            if "id" not in table.columns:
                raise DemoDataError(f"{path} has no column id; it has {', '.join(table.columns)}")
            return table
    raise DemoDataError(f"there is no {prefix}_{side}.csv or {prefix}_{side}.csv.gz")
