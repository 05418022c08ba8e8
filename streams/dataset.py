"""What a process loads for a machine: a party's own rows, or everything that is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.jobs import DataProfile, Mistake
from streams.identifiers import Identifiers


@dataclass(frozen=True, eq=False)
class Dataset:
    """One party's checked table. Row k of everything belongs to `ids[k]`; ids are normalised and distinct.

    `values` is float64, shape (rows, columns), finite. `label` is int8 of 0 and 1, shape (rows,), at the guest only.
    """

    ids: Identifiers
    columns: tuple[str, ...]
    values: NDArray[np.float64]
    label: NDArray[np.int8] | None
    profile: DataProfile


@dataclass(frozen=True)
class DatasetProblem:
    """The table cannot be used; every mistake that was found, with paths such as `hosts[0].features[2]`."""

    mistakes: tuple[Mistake, ...]
