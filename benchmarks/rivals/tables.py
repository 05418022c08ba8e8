"""Tables for libraries of two parties, ports for these, and what a process took."""

from __future__ import annotations

import resource
import socket
import sys
from contextlib import ExitStack
from pathlib import Path


def identifiers(rows: int) -> tuple[list[str], list[str]]:
    """Identifiers of the guest and of the host, `rows` each, half of them common."""
    shift = rows - rows // 2
    return [f"customer-{n:09}" for n in range(rows)], [f"customer-{n:09}" for n in range(shift, shift + rows)]


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(listener.getsockname()[1]) for listener in listeners]


def peak_megabytes(status: Path = Path("/proc/self/status")) -> float:
    """The most resident memory that this process had."""
    if status.is_file():
        # Linux' getrusage answers with the peak of the process that started this one, if that was higher.
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
