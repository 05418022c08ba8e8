"""A whole trusted-guest job, as `split_link_job`. Limit: 1 minute."""

from __future__ import annotations

from typing import Any

from benchmarks import split_link_job

LIMIT_SECONDS = 60.0


def run(data: str | None = None) -> dict[str, Any]:
    """Seconds, distance from the pooled fit and memory, each beside its limit."""
    return split_link_job.run(data, privacy="trusted_guest", limit_seconds=LIMIT_SECONDS)
