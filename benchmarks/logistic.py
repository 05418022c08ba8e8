"""Logistic regression of two parties, from submission to the registered model, on a real broker, beside SecretFlow.

`--data PREFIX` names the tables; without it the demo's own small table is used, which says more about start-up than
about speed. `ratios` is of `split_link`, the default of jobs, over `trusted_guest`.
"""

from __future__ import annotations

from typing import Any, Final

from benchmarks import split_link_job, trusted_guest_job

#: What others say of themselves, on their tables and machines: orientation, and no comparison.
PUBLISHED: Final = (
    {
        "library": "FATE 2.0, coordinated",
        "table": "100,000 rows, 30 + 300 columns",
        "machine": "two times 16 cores",
        "seconds_a_pass": 136,
        "source": "its documentation",
    },
    {
        "library": "FATE 2.0, SSHE",
        "table": "100,000 rows, 30 + 300 columns",
        "machine": "two times 16 cores",
        "seconds_a_pass": 294,
        "source": "its documentation",
    },
)


def run(data: str | None = None) -> dict[str, Any]:
    """One row for each privacy class: seconds, distance from the pooled fit, megabytes of memory and of records."""
    jobs = {"split_link": split_link_job.run(data), "trusted_guest": trusted_guest_job.run(data)}
    rows = [
        {
            "privacy": privacy,
            "joint_rows": job["rows"],
            "passes": job["passes"],
            "seconds": job["seconds"],
            "train_seconds": job["seconds_by_stage"]["train"],
            "auc": job["auc"],
            "auc_gap_to_pooled": job["auc_gap"],
            "megabytes_of_records": sum(job["bytes_by_stage"].values()) / 1e6,
            **{f"memory_mb_{party}": size for party, size in job["memory_mb_by_party"].items()},
        }
        for privacy, job in jobs.items()
    ]
    return {
        "rows": rows,
        "ratios": {"split_link_over_trusted_guest": jobs["split_link"]["seconds"] / jobs["trusted_guest"]["seconds"]},
        "not measured here": [dict(published) for published in PUBLISHED],
        "not_installed": {},
        **jobs,
    }
