"""Two tables of which half the rows are common, and what a process took for them."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def identifiers(rows: int) -> tuple[list[str], list[str]]:
    """Identifiers of the guest and of the host, `rows` each, half of them common."""
    shift = rows - rows // 2
    return [f"customer-{n:09}" for n in range(rows)], [f"customer-{n:09}" for n in range(shift, shift + rows)]


def peak_megabytes(status: Path = Path("/proc/self/status")) -> float:
    """The most resident memory that this process had."""
    if status.is_file():
        # Linux' getrusage answers with the peak of the process that started this one, if that was higher.
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
