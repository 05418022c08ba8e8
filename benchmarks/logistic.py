"""Logistic regression of two parties, from submission to the registered model, on a real broker, beside SecretFlow.

`--data PREFIX` names the tables; without it the demo's own small table is used, which says more about start-up than
about speed. A ratio is SecretFlow's seconds over those of `split_link`, the default of jobs.
"""

from __future__ import annotations

from typing import Any, Final

from benchmarks import split_link_job, trusted_guest_job
from benchmarks._logistic_rivals import compare

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
    """One row for each privacy class and rival: seconds, distance from the pooled fit, megabytes of a party."""
    jobs = {"split_link": split_link_job.run(data), "trusted_guest": trusted_guest_job.run(data)}
    missing: dict[str, str] = {}
    rivals = compare(data, missing)
    rows = [{"library": f"isthmus_{privacy}", **describe(job)} for privacy, job in jobs.items()]
    pooled = jobs["split_link"]["auc_pooled"]
    rows += [
        {"library": name, **report, "auc_gap_to_pooled": pooled - report["auc"]} for name, report in rivals.items()
    ]
    seconds = jobs["split_link"]["seconds"]
    return {
        "rows": rows,
        "ratios": {f"seconds_vs_{name}": round(report["seconds"] / seconds, 3) for name, report in rivals.items()},
        "notes": {
            "memory_mb": "of the party that took more, all its processes together",
            "isthmus": "from submission to the registered model: alignment, training, evaluation, sealed and recorded",
            "secretflow": "aligned beforehand, another hold-out of the same size; training and prediction only",
        },
        "not measured here": [dict(published) for published in PUBLISHED],
        "not_installed": missing,
        **jobs,
    }


def describe(job: dict[str, Any]) -> dict[str, Any]:
    """What compares, of a whole job's result."""
    return {
        "passes": job["passes"],
        "seconds": job["seconds"],
        "train_seconds": job["seconds_by_stage"]["train"],
        "auc": job["auc"],
        "auc_gap_to_pooled": job["auc_gap"],
        "megabytes_of_records": sum(job["bytes_by_stage"].values()) / 1e6,
        "memory_mb": max(job["memory_mb_by_party"].values()),
    }
