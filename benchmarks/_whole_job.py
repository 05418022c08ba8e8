"""Run `isthmus demo` as a user would, in its own process, and watch what its parties take."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

#: How often memory is sampled, in seconds.
SAMPLING_SECONDS = 0.5


@dataclass
class _Sample:
    """A party's memory at one moment, in bytes, and what each of its workers has computed, in seconds."""

    bytes: int = 0
    resident_bytes: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


class MemoryWatch(threading.Thread):
    """Samples the memory of every home's processes below one process, until told to stop.

    A party has seven processes that share the interpreter and its libraries; what several share counts once, in equal
    parts (`Pss` of proc_pid_smaps(5)). Their resident sizes are summed as well: those count it for each.
    """

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self._root = root
        self._ended = threading.Event()
        self._before: dict[str, _Sample] = {}
        #: Largest sums over a party's processes that one sample saw, in bytes: shared pages in parts, and in full.
        self.largest_bytes: dict[str, int] = {}
        self.largest_resident_bytes: dict[str, int] = {}
        #: The first of them by party and stage: that of the party's worker which computed most since the last sample.
        self.largest_bytes_by_stage: dict[str, dict[str, int]] = {}

    def run(self) -> None:
        """Sample until `end`."""
        while not self._ended.wait(SAMPLING_SECONDS):
            now: dict[str, _Sample] = {}
            for process in psutil.Process(self._root).children(recursive=True):
                with contextlib.suppress(psutil.Error):  # it ended while we looked
                    _add(now, process)
            for party, sample in now.items():
                self._keep(party, sample)
            self._before = now

    def end(self) -> None:
        """Stop sampling."""
        self._ended.set()

    def _keep(self, party: str, sample: _Sample) -> None:
        self.largest_bytes[party] = max(sample.bytes, self.largest_bytes.get(party, 0))
        self.largest_resident_bytes[party] = max(sample.resident_bytes, self.largest_resident_bytes.get(party, 0))
        before = self._before.get(party, _Sample()).seconds
        computed = {stage: seconds - before.get(stage, seconds) for stage, seconds in sample.seconds.items()}
        stage = max(computed, key=lambda name: computed[name], default="")
        by_stage = self.largest_bytes_by_stage.setdefault(party, {})
        if computed.get(stage, 0) > SAMPLING_SECONDS / 10:
            by_stage[stage] = max(sample.bytes, by_stage.get(stage, 0))


def _add(samples: dict[str, _Sample], process: psutil.Process) -> None:
    """Add a process to its party's sample. One that reads a table works for the one that started it."""
    parent = process.parent()
    command = process.cmdline()
    if "--home" not in command and parent is not None:
        command = parent.cmdline()
    if "--home" not in command:
        return
    sample = samples.setdefault(Path(command[command.index("--home") + 1]).name, _Sample())
    memory = process.memory_full_info()
    sample.bytes += memory.pss
    sample.resident_bytes += memory.rss
    if "--stage" in command:
        stage = command[command.index("--stage") + 1]
        spent = process.cpu_times()
        sample.seconds[stage] = sample.seconds.get(stage, 0.0) + spent.user + spent.system


def run_demo(*arguments: str) -> dict[str, Any]:
    """The demo's JSON result, with `memory_mb_by_party`, `memory_mb_by_stage` and `resident_mb_by_party` added.

    RuntimeError with the output's end when it fails.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "demo"
        command = [sys.executable, "-m", "producers.cli", "demo", "--json", "--folder", str(folder), *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            watch = MemoryWatch(process.pid)
            watch.start()
            output, _ = process.communicate()
            watch.end()
        if process.returncode != 0:
            raise RuntimeError(f"the demo ended with {process.returncode}:\n{output[-3000:]}")
    result: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    for key, largest in (
        ("memory_mb_by_party", watch.largest_bytes),
        ("resident_mb_by_party", watch.largest_resident_bytes),
    ):
        result[key] = _megabytes(largest)
    stages = sorted(watch.largest_bytes_by_stage.items())
    result["memory_mb_by_stage"] = {party: _megabytes(largest) for party, largest in stages}
    return result


def _megabytes(sizes: dict[str, int]) -> dict[str, int]:
    return {name: round(size / 2**20) for name, size in sorted(sizes.items())}
