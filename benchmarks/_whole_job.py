"""Run `isthmus demo` as a user would, in its own process, and watch what its parties take."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import psutil

#: How often memory is sampled, in seconds.
SAMPLING_SECONDS = 0.5


class MemoryWatch(threading.Thread):
    """Samples the memory of every home's processes below one process, until told to stop.

    A party has seven processes that share the interpreter and its libraries; what several share counts once, in equal
    parts (`Pss` of proc_pid_smaps(5)). Their resident sizes are summed as well: those count it for each.
    """

    def __init__(self, root: int, folder: Path) -> None:
        super().__init__(daemon=True)
        self._root = root
        self._folder = str(folder)
        self._ended = threading.Event()
        #: Largest sums over a party's processes that one sample saw, in bytes: shared pages in parts, and in full.
        self.largest_bytes: dict[str, int] = {}
        self.largest_resident_bytes: dict[str, int] = {}

    def run(self) -> None:
        """Sample until `end`."""
        while not self._ended.wait(SAMPLING_SECONDS):
            totals: dict[str, int] = {}
            resident: dict[str, int] = {}
            for process in psutil.Process(self._root).children(recursive=True):
                try:
                    # A process that reads a table works for the one that started it.
                    party = self._party(process) or self._party(process.parent())
                    if party is not None:
                        memory = process.memory_full_info()
                        totals[party] = totals.get(party, 0) + memory.pss
                        resident[party] = resident.get(party, 0) + memory.rss
                except psutil.Error:
                    continue  # it ended while we looked
            for largest, found in ((self.largest_bytes, totals), (self.largest_resident_bytes, resident)):
                for party, total in found.items():
                    largest[party] = max(total, largest.get(party, 0))

    def end(self) -> None:
        """Stop sampling."""
        self._ended.set()

    def _party(self, process: psutil.Process | None) -> str | None:
        """The folder name of the home that a process was started with."""
        command = [] if process is None else process.cmdline()
        if "--home" not in command:
            return None
        return Path(command[command.index("--home") + 1]).name


def run_demo(*arguments: str) -> dict[str, Any]:
    """The demo's JSON result, with `memory_mb_by_party` and `resident_mb_by_party` added.

    RuntimeError with the output's end when it fails.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "demo"
        command = [sys.executable, "-m", "producers.cli", "demo", "--json", "--folder", str(folder), *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            watch = MemoryWatch(process.pid, folder)
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
        result[key] = {party: round(size / 2**20) for party, size in sorted(largest.items())}
    return result
