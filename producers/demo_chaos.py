"""SIGKILLs at seeded points of a job, each proven: the process is gone, and its parent saw it end by signal 9."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from consumers.supervisor import PROCESSES, running_pid
from infra.broker import EmbeddedBroker

#: Kills lie between these shares of the progress: before the first nothing is at stake, after the last a job may end.
#: Training usually ends before its last allowed pass, and then the job's progress jumps: most kills come before that.
FIRST_SHARE, LAST_SHARE = 0.02, 0.65
#: So that a process which has just been started again gets somewhere before the next blow, if the job leaves the time.
GAP_SECONDS = 0.5
PROOF_SECONDS = 20.0
LOOK_SECONDS = 0.02
BROKER = "broker"
#: From this many kills on, one of them hits the broker for certain.
BROKER_FROM_KILLS = 5


@dataclass(frozen=True)
class Kill:
    """One proven kill. `share` is the job's progress when it struck."""

    party: str
    process: str
    pid: int
    share: float


@dataclass(frozen=True)
class Blow:
    """One planned kill: at which share of the job's progress, and whom (an index of a process, or the broker)."""

    share: float
    target: int
    broker: bool


def plan_kills(seed: int, count: int, targets: int) -> tuple[Blow, ...]:
    """Kills spread over the job, in order: one in each of `count` equal pieces, its place and target from the seed."""
    draws = np.random.RandomState([seed % 2**32, 9])
    width = (LAST_SHARE - FIRST_SHARE) / max(1, count)
    blows = [
        Blow(
            FIRST_SHARE + (place + float(draws.random_sample())) * width,
            int(draws.randint(0, targets)),
            bool(draws.randint(0, targets) == 0),
        )
        for place in range(count)
    ]
    if count >= BROKER_FROM_KILLS and not any(blow.broker for blow in blows):
        chosen = int(draws.randint(0, count))
        blows[chosen] = Blow(blows[chosen].share, blows[chosen].target, True)
    return tuple(blows)


class Chaos:
    """A thread that carries out the plan while `progress()` (0 to 1) rises."""

    def __init__(
        self,
        seed: int,
        count: int,
        homes: dict[str, Path],
        broker: EmbeddedBroker,
        progress: Callable[[], float],
        say: Callable[[str], None],
    ) -> None:
        self._targets = [(party, name) for party in sorted(homes) for name in PROCESSES]
        self._plan = plan_kills(seed, count, len(self._targets) + 1)
        self._homes, self._broker, self._progress, self._say = homes, broker, progress, say
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chaos", daemon=True)
        #: Proven kills so far.
        self.kills: list[Kill] = []
        #: Why the thread gave up, if it did.
        self.problem: Exception | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Kill nobody any more; returns when the broker is up if it was being restarted."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            for place, blow in enumerate(self._plan):
                while self._progress() < blow.share:
                    if self._stopped.wait(LOOK_SECONDS):
                        return
                self._strike(blow)
                self._pause(place)
        except Exception as problem:  # noqa: BLE001  (reported by the demo, which ends the job)
            self.problem = problem

    def _pause(self, place: int) -> None:
        """After the blow at `place`: let the job breathe, unless it has run ahead of the plan."""
        if place + 1 < len(self._plan) and self._progress() < self._plan[place + 1].share:
            self._stopped.wait(GAP_SECONDS)

    def _strike(self, blow: Blow) -> None:
        share = self._progress()
        if blow.broker:
            pid = self._kill_broker()
            self.kills.append(Kill("", BROKER, pid, share))
            self._say(f"killed the broker (pid {pid}), and started it again on the same port")
            return
        start = blow.target % len(self._targets)
        deadline = time.monotonic() + PROOF_SECONDS
        while not self._stopped.is_set():
            for party, name in self._targets[start:] + self._targets[:start]:
                running = running_pid(self._homes[party], name)
                if running is not None and self._kill_process(self._homes[party], running):
                    self.kills.append(Kill(party, name, running, share))
                    self._say(f"killed {name} of {party} (pid {running})")
                    return
            if time.monotonic() > deadline:
                raise TimeoutError("no process of either party was there to be killed")
            time.sleep(LOOK_SECONDS)

    def _kill_process(self, home: Path, pid: int) -> bool:
        """Whether the supervisor saw this very process end by SIGKILL."""
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            process = psutil.Process(pid)
            process.send_signal(signal.SIGKILL)
            deadline = time.monotonic() + PROOF_SECONDS
            while time.monotonic() < deadline:
                if exit_code(home, pid) is not None:
                    return exit_code(home, pid) == -signal.SIGKILL and not process.is_running()
                time.sleep(LOOK_SECONDS)
        return False

    def _kill_broker(self) -> int:
        pid = self._broker.pid
        if pid is None:
            raise RuntimeError("the broker does not run")
        os.kill(pid, signal.SIGKILL)
        code = self._broker.wait(PROOF_SECONDS)
        if code != -signal.SIGKILL:
            raise RuntimeError(f"the broker ended with {code} instead of signal 9")
        self._broker.kill()  # lets go of what belonged to the dead process
        self._broker.start()
        return pid


def exit_code(home: Path, pid: int) -> int | None:
    """What the party's supervisor noted when this process ended."""
    journal = home / "log" / "supervisor.jsonl"
    for line in reversed(journal.read_text(encoding="utf-8").splitlines()):
        with contextlib.suppress(json.JSONDecodeError):  # the last line may be half written
            entry = json.loads(line)
            if entry["pid"] == pid and entry["what"] == "ended":
                return int(entry["exit"])
    return None
