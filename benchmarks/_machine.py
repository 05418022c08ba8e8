"""What the figures were measured on: a figure of speed means nothing without it."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any, Final

#: Instruction sets that decide which of several programs a library for numbers or curves runs.
FLAGS_THAT_MATTER: Final = ("adx", "aes", "avx2", "avx512f", "avx512ifma", "avx512vl", "bmi2", "neon", "sha_ni", "vaes")


def describe(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, Any]:
    """The processor's name, cores and instruction sets, the system, and how busy it was when asked."""
    entries: dict[str, str] = {}
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            entries.setdefault(key.strip(), value.strip())
    flags = set((entries.get("flags") or entries.get("Features") or "").split())
    model = [entries.get("model name") or platform.processor() or "unknown"]
    model += [f"{key} {entries[key]}" for key in ("cpu family", "model") if key in entries]
    return {
        "cpu": ", ".join(model),
        "cores": os.cpu_count(),
        "flags": [flag for flag in FLAGS_THAT_MATTER if flag in flags],
        "system": f"{platform.system()} {platform.machine()}",
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }
