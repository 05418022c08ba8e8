"""The alignment of two tables of 100,000 rows as a stage of a job, over Kafka. Limits: 25 s, 500 MB a party.

With `ISTHMUS_PSI_ROWS=1000000` the limits are the same, with 10000000 it is 1 GB.

Beside it stands the same arithmetic without Kafka (`benchmarks.psi`): as all of one core for both parties, and as the
share of the busier party, which nothing with a core a party can go below. The job goes on to a model of one column
each, so that it ends as every job does; only its alignment is timed.
`ISTHMUS_PSI_ROWS` is the number of rows of each table; half of them are common.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import psi
from benchmarks._whole_job import run_demo

LIMIT_SECONDS = 25.0
LIMIT_MEMORY_MB = 500 if psi.ROWS <= 1_000_000 else 1000


def run() -> dict[str, Any]:
    """Seconds of the stage beside those of the arithmetic alone, and memory."""
    with tempfile.TemporaryDirectory() as name:
        prefix = Path(name) / "people"
        common = write_tables(prefix, psi.ROWS)
        job = run_demo(
            *("--data", str(prefix), "--privacy", "trusted_guest", "--kept", "1", "--max-passes", "1"),
        )
    if job["n_intersection"] != common:
        raise ArithmeticError(f"{job['n_intersection']} joint rows instead of {common}: the figures would be worthless")
    _, accounts = psi.align_tables()
    seconds = [account.seconds for account in accounts.values()]
    return {
        "rows_of_each_table": psi.ROWS,
        "joint_rows": common,
        "align_seconds": job["seconds_by_stage"]["align"],
        "limit_seconds": LIMIT_SECONDS,
        "arithmetic_seconds_of_both": sum(seconds),
        "arithmetic_seconds_of_the_busier": max(seconds),
        "ratio_to_the_busier": job["seconds_by_stage"]["align"] / max(seconds),
        "align_bytes": job["bytes_by_stage"]["align"],
        "align_memory_mb_by_party": {party: found.get("align") for party, found in job["memory_mb_by_stage"].items()},
        "memory_mb_by_party": job["memory_mb_by_party"],
        "resident_mb_by_party": job["resident_mb_by_party"],
        "limit_memory_mb": LIMIT_MEMORY_MB,
    }


def write_tables(prefix: Path, rows: int) -> int:
    """`PREFIX_guest.csv` and `PREFIX_host.csv` with a column each; the number of ids that they share."""
    common = round(rows * psi.COMMON_SHARE)
    draws = np.random.RandomState(7)
    column = draws.normal(size=rows)
    label = (draws.uniform(size=rows) < 1 / (1 + np.exp(-column))).astype(int)
    guest = pd.DataFrame({"id": [f"customer-{n:09}" for n in range(rows)], "y": label, "income": column})
    first = rows - common
    host = pd.DataFrame(
        {"id": [f"customer-{n:09}" for n in range(first, first + rows)], "visits": draws.normal(size=rows)}
    )
    guest.to_csv(prefix.with_name(f"{prefix.name}_guest.csv"), index=False)
    host.to_csv(prefix.with_name(f"{prefix.name}_host.csv"), index=False)
    return common
