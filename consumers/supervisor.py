"""Runs a party's processes as separate OS processes and starts again what dies: they are crash-only processes.

    python -m consumers.supervisor --home DIR

    <home>/log/<process>.log         what the process wrote
    <home>/log/supervisor.jsonl      one line a start and an end: process, pid, exit code (-9 is SIGKILL), restarts
    <home>/run/<process>.pid         the process id while it runs

A process that ends with `NEEDS_A_PERSON` is not started again: its settings or keys are wrong. The supervisor ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import click

from consumers.exits import NEEDS_A_PERSON, PARENT_PIPE, end_with_parent

#: Process name -> arguments of the interpreter. One process a stage, so that a group's lag is a stage's lag.
PROCESSES: Mapping[str, tuple[str, ...]] = {
    "coordinator": ("-m", "consumers.coordinator"),
    "align": ("-m", "consumers.party_worker", "--stage", "align"),
    "train": ("-m", "consumers.party_worker", "--stage", "train"),
    "cohorts": ("-m", "consumers.cohort_register"),
    "evaluate": ("-m", "consumers.party_worker", "--stage", "evaluate"),
    "registrar": ("-m", "consumers.model_registrar"),
    "auditor": ("-m", "consumers.auditor"),
}
#: On request; jobs do not need it. One a party: it stands for no stage.
VIEW: Mapping[str, tuple[str, ...]] = {"view": ("-m", "consumers.view")}

#: Online scoring, by what a party is in it. History and accounts are kept by both.
SCORE_GUEST: Mapping[str, tuple[str, ...]] = {
    "score-router": ("-m", "consumers.score_router"),
    "score-joiner": ("-m", "consumers.score_joiner"),
    "score-parity": ("-m", "consumers.score_parity"),
}
SCORE_HOST: Mapping[str, tuple[str, ...]] = {"score-host": ("-m", "consumers.score_host")}
SCORE_BOOKS: Mapping[str, tuple[str, ...]] = {
    "score-history": ("-m", "consumers.score_history"),
    "score-reconciler": ("-m", "consumers.score_reconciler"),
}
SCORE_VIEW: Mapping[str, tuple[str, ...]] = {"score-view": ("-m", "consumers.score_view")}
#: All of them, by name.
SCORING: Mapping[str, tuple[str, ...]] = {**SCORE_GUEST, **SCORE_HOST, **SCORE_BOOKS, **SCORE_VIEW}
#: There is no use for two: what they do is not divided.
SINGLE = frozenset({"score-parity", "score-reconciler", "score-view"})

LOOK_SECONDS = 0.05
#: A process that lived this long died of something new: it is started again at once.
STABLE_SECONDS = 10.0
FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 0.1, 10.0
#: A step in progress may take some seconds; after this long the process is killed, which costs nothing but the step.
STOP_SECONDS = 10.0
#: Keeps a crash loop from filling the disk.
LOG_LIMIT_BYTES = 20_000_000


@dataclass
class Child:
    """One supervised process."""

    name: str
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restarts: int = -1
    start_at: float = 0.0
    delay: float = FIRST_DELAY_SECONDS


@dataclass
class Supervisor:
    """The processes of one party. `run` returns the exit code of the supervisor."""

    home: Path
    slot: int = 0
    processes: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: PROCESSES)
    children: dict[str, Child] = field(default_factory=dict)
    stopping: bool = False
    say: Callable[[str], None] = click.echo

    def run(self) -> int:
        """Start everything, keep it running until `stop`, and end everything."""
        for folder in (self.home / "log", self.home / "run"):
            folder.mkdir(parents=True, exist_ok=True)
        self.children = {name: Child(name) for name in self.processes}
        try:
            while not self.stopping:
                for child in self.children.values():
                    if self._look_after(child):
                        return NEEDS_A_PERSON
                time.sleep(LOOK_SECONDS)
        finally:
            self._end_all()
        return 0

    def stop(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Ask `run` to end; fit for a signal handler."""
        self.stopping = True

    def _look_after(self, child: Child) -> bool:
        """Start the process when it is due, take note when it died. True when a person has to act."""
        now = time.monotonic()
        if child.process is None:
            if now >= child.start_at:
                self._start(child)
            return False
        code = child.process.poll()
        if code is None:
            return False
        self._note_end(child, code)
        if code == NEEDS_A_PERSON:
            self.say(f"{child.name} cannot run: {self._last_line(child)}")
            return True
        child.delay = (
            FIRST_DELAY_SECONDS
            if now - child.started_at > STABLE_SECONDS
            else min(child.delay * 2, LONGEST_DELAY_SECONDS)
        )
        child.start_at = now + child.delay
        self.say(
            f"{child.name} ended with {code}, starting it again in {child.delay:.1f} s (log: {self._log_file(child)})"
        )
        return False

    def _start(self, child: Child) -> None:
        arguments = self.processes[child.name]
        command = [sys.executable, *arguments, "--home", str(self.home), "--slot", str(self.slot)]
        log_file = self._log_file(child)
        if log_file.exists() and log_file.stat().st_size > LOG_LIMIT_BYTES:
            log_file.replace(log_file.with_suffix(".log.1"))
        with log_file.open("ab") as log:
            # The pipe on standard input closes when this process ends, however it ends; the child then ends as well.
            # A session of its own keeps a Ctrl-C at the terminal from reaching the child before `stop` does.
            child.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, PARENT_PIPE: "1"},
            )
        child.started_at = time.monotonic()
        child.restarts += 1
        # Renamed into place: whoever sees the file reads all of it.
        unfinished = self._pid_file(child).with_suffix(".pid-new")
        unfinished.write_text(str(child.process.pid), encoding="utf-8")
        unfinished.replace(self._pid_file(child))
        self._journal(child, "started", child.process.pid, None)

    def _note_end(self, child: Child, code: int) -> None:
        assert child.process is not None
        self._journal(child, "ended", child.process.pid, code)
        if child.process.stdin is not None:
            child.process.stdin.close()
        child.process = None
        self._pid_file(child).unlink(missing_ok=True)

    def _end_all(self) -> None:
        running = [child for child in self.children.values() if child.process is not None]
        for child in running:
            assert child.process is not None
            child.process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for child in running:
            assert child.process is not None
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(max(0.1, deadline - time.monotonic()))
            if child.process.poll() is None:
                child.process.kill()
            self._note_end(child, child.process.wait())

    def _journal(self, child: Child, what: str, pid: int, code: int | None) -> None:
        entry = {
            "at": time.time(),
            "process": child.name,
            "what": what,
            "pid": pid,
            "exit": code,
            "restarts": child.restarts,
        }
        with (self.home / "log" / "supervisor.jsonl").open("a", encoding="utf-8") as journal:
            journal.write(json.dumps(entry) + "\n")

    def _log_file(self, child: Child) -> Path:
        return self.home / "log" / f"{self._file_name(child)}.log"

    def _pid_file(self, child: Child) -> Path:
        return self.home / "run" / f"{self._file_name(child)}.pid"

    def _file_name(self, child: Child) -> str:
        """Several sets of processes can share a home: those of slot 0 have no number."""
        return f"{child.name}.{self.slot}" if self.slot else child.name

    def _last_line(self, child: Child) -> str:
        lines = self._log_file(child).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def running_pid(home: Path, name: str) -> int | None:
    """The process id of a supervised process, if it runs now."""
    try:
        return int((home / "run" / f"{name}.pid").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def run_supervisor(
    home: Path, slot: int = 0, say: Callable[[str], None] = click.echo, *, with_view: bool = False
) -> int:
    """Supervise until SIGTERM, SIGINT or the end of a parent that left a pipe; returns the exit code."""
    processes = {**PROCESSES, **VIEW} if with_view and slot == 0 else PROCESSES
    return supervise(home, slot, processes, say)


def supervise(home: Path, slot: int, processes: Mapping[str, tuple[str, ...]], say: Callable[[str], None]) -> int:
    """As `run_supervisor`, for these processes."""
    supervisor = Supervisor(home, slot, processes, say=say)
    signal.signal(signal.SIGTERM, supervisor.stop)
    signal.signal(signal.SIGINT, supervisor.stop)
    end_with_parent(supervisor.stop)
    return supervisor.run()


@click.command()
@click.option(
    "--home", type=click.Path(path_type=Path, file_okay=False), required=True, help="The party's home folder."
)
@click.option(
    "--slot", type=int, default=0, show_default=True, help="Which of several equal sets of processes this is."
)
@click.option("--view", is_flag=True, help="Run the live view as well (slot 0 only).")
def main(home: Path, slot: int, view: bool) -> None:
    """Run a party's processes."""
    sys.exit(run_supervisor(home, slot, click.echo, with_view=view))


if __name__ == "__main__":
    main()
