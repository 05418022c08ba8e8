"""A whole split-link job on two files, beside the pooled fit. Limits: 10 minutes, 1e-4 of AUC, 1 GB a party.

`--data PREFIX` names the files; without it the demo's own table is used, which says little about speed.
"""

from __future__ import annotations

from typing import Any

from benchmarks._whole_job import run_demo

LIMIT_SECONDS = 600.0
LIMIT_AUC_GAP = 1e-4
LIMIT_MEMORY_MB = 1000


def run(data: str | None = None, privacy: str = "split_link", limit_seconds: float = LIMIT_SECONDS) -> dict[str, Any]:
    """Seconds, distance from the pooled fit and memory, each beside its limit."""
    arguments = ["--privacy", privacy, "--kept", "1"]
    if data is not None:
        arguments += ["--data", data]
    job = run_demo(*arguments)
    gap = abs(job["auc"] - job["auc_pooled"])
    return {
        "seconds": job["seconds"],
        "limit_seconds": limit_seconds,
        "seconds_by_stage": job["seconds_by_stage"],
        "bytes_by_stage": job["bytes_by_stage"],
        "rows": job["n_intersection"],
        "passes": job["passes"],
        "auc": job["auc"],
        "auc_pooled": job["auc_pooled"],
        "auc_guest_only": job["auc_guest_only"],
        "auc_gap": gap,
        "limit_auc_gap": LIMIT_AUC_GAP,
        "memory_mb_by_party": job["memory_mb_by_party"],
        "limit_memory_mb": LIMIT_MEMORY_MB,
        "model_sha256": job["model_sha256"],
    }
