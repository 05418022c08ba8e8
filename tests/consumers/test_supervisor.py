"""What dies is started again; what a person has to repair is not; and nothing survives its parent."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from consumers.exits import NEEDS_A_PERSON, PARENT_PIPE
from consumers.supervisor import PROCESSES, Supervisor, running_pid

DEADLINE_SECONDS = 60
#: Tells that it runs by a line in a pipe, then waits for SIGTERM.
WAITING = "import os, signal, sys; os.write(int(sys.argv[1]), b'%d\\n' % os.getpid()); signal.pause()"


@contextmanager
def _running(supervisor: Supervisor) -> Iterator[list[int]]:
    """The supervisor in a thread; the list holds its exit code afterwards."""
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(supervisor.run()))
    thread.start()
    try:
        yield codes
    finally:
        supervisor.stop()
        thread.join(DEADLINE_SECONDS)
    assert codes, "the supervisor ended"


def _journal(home: Path) -> list[dict[str, Any]]:
    lines = (home / "log" / "supervisor.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture
def reports() -> Iterator[tuple[int, Any]]:
    """A pipe whose writing end children inherit; the reader gives one process id a line."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    with os.fdopen(reading, encoding="ascii") as lines:
        yield writing, lines
        os.close(writing)


def test_a_killed_process_is_started_again_and_its_end_is_noted(
    tmp_path: Path, reports: tuple[int, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, lines = reports
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: popen(*a, **k, pass_fds=(writing,)))
    said: queue.Queue[str] = queue.Queue()
    supervisor = Supervisor(tmp_path, processes={"worker": ("-c", WAITING, str(writing))}, say=said.put)
    with _running(supervisor) as codes:
        first = int(lines.readline())
        assert running_pid(tmp_path, "worker") == first
        os.kill(first, signal.SIGKILL)
        second = int(lines.readline())
        assert "ended with -9" in said.get(timeout=DEADLINE_SECONDS)
    assert codes == [0]
    assert not psutil.pid_exists(second), "stopping ends the processes"
    assert running_pid(tmp_path, "worker") is None
    told = [(entry["what"], entry["pid"], entry["exit"], entry["restarts"]) for entry in _journal(tmp_path)]
    assert told == [
        ("started", first, None, 0),
        ("ended", first, -signal.SIGKILL, 0),
        ("started", second, None, 1),
        ("ended", second, -signal.SIGTERM, 1),
    ]


def test_wrong_settings_end_the_supervisor_with_the_reason(tmp_path: Path) -> None:
    said: queue.Queue[str] = queue.Queue()
    script = f"import sys; print('party.yaml: no such party'); sys.exit({NEEDS_A_PERSON})"
    with _running(Supervisor(tmp_path, processes={"worker": ("-c", script)}, say=said.put)) as codes:
        assert said.get(timeout=DEADLINE_SECONDS) == "worker cannot run: party.yaml: no such party"
    assert codes == [NEEDS_A_PERSON]
    assert len(_journal(tmp_path)) == 2, "it is not started again"


def test_a_crash_loop_slows_down(tmp_path: Path) -> None:
    said: queue.Queue[str] = queue.Queue()
    with _running(Supervisor(tmp_path, processes={"worker": ("-c", "raise SystemExit(1)")}, say=said.put)):
        texts = [said.get(timeout=DEADLINE_SECONDS) for _ in range(3)]
    assert [text.split(" in ")[1].split(" s")[0] for text in texts] == ["0.2", "0.4", "0.8"]
    assert all("worker.log" in text for text in texts)


def test_a_process_ends_when_its_parent_is_gone() -> None:
    script = (
        "import signal, threading, consumers.exits as exits\n"
        "over = threading.Event()\n"
        "exits.end_with_parent(over.set)\n"
        "print('running', flush=True)\n"
        "raise SystemExit(0 if over.wait(60) else 1)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, PARENT_PIPE: "1"},
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdout.readline() == b"running\n"
    child.stdin.close()
    assert child.wait(DEADLINE_SECONDS) == 0
    child.stdout.close()


@pytest.mark.parametrize("name", PROCESSES)
def test_a_home_without_settings_needs_a_person(name: str, tmp_path: Path) -> None:
    command = [sys.executable, *PROCESSES[name], "--home", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False)
    assert done.returncode == NEEDS_A_PERSON
    assert "party.yaml" in done.stderr
    assert "isthmus party init" in done.stderr
