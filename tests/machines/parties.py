"""Small jobs for tests: specs, tables and secrets of a guest and one or more hosts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.jobs import (
    ColumnProfile,
    DataProfile,
    EvaluateSpec,
    JobSpec,
    PartySpec,
    Role,
    Stage,
)
from schemas.tasks import StartTask
from streams.dataset import Dataset
from streams.identifiers import Identifiers

JOB_ID = "job-1"


def secret_of(party: str) -> bytes:
    """The party's master secret."""
    return hashlib.sha256(f"secret of {party}".encode()).digest()


def make_spec(hosts: Sequence[str] = ("host",), *, holdout_fraction: float = 0.3) -> JobSpec:
    """A job of a guest and these hosts."""
    return JobSpec(
        name="credit",
        guest=PartySpec("guest", "table"),
        label="y",
        hosts=tuple(PartySpec(host, "table") for host in hosts),
        evaluate=EvaluateSpec(holdout_fraction),
    )


def make_dataset(
    ids: Sequence[str],
    values: NDArray[np.float64] | None = None,
    label: NDArray[np.int8] | None = None,
) -> Dataset:
    """A table with these identifiers; without values, one column that counts."""
    if values is None:
        values = np.arange(len(ids), dtype=np.float64).reshape(-1, 1)
    columns = tuple(f"x{index}" for index in range(values.shape[1]))
    content = repr((tuple(ids), values.tolist(), None if label is None else label.tolist())).encode()
    profile = DataProfile(len(ids), tuple(map(ColumnProfile, columns)), hashlib.sha256(content).digest())
    return Dataset(Identifiers.of(ids), columns, values, label, profile)


def start_task(stage: Stage, role: Role, spec: JobSpec, dataset: Dataset, job_id: str = JOB_ID) -> StartTask:
    """What a coordinator tells a stage process."""
    return StartTask(job_id, stage, role, spec, dataset.profile, ())


def role_of(party: str) -> Role:
    """The party called guest is the guest."""
    return Role.GUEST if party == "guest" else Role.HOST


def row_ids(datasets: Mapping[str, Dataset], party: str, rows: bytes) -> list[str]:
    """The identifiers at joint rows as a party reads them."""
    return [datasets[party].ids[row] for row in np.frombuffer(rows, dtype="<u4").tolist()]
