"""`isthmus demo`: a broker, two parties with separate homes and processes, one job, and what came of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from confluent_kafka.admin import AdminClient
from rich.console import Console

from consumers.exits import PARENT_PIPE
from infra.access import OPERATOR
from infra.broker import EmbeddedBroker, Tuning
from infra.settings import PartySettings
from producers.demo_chaos import Chaos, Kill
from producers.demo_data import DemoTables, breast_cancer, read_pair
from producers.demo_parties import DemoOptions, demo_folder, demo_job_id, make_homes, make_spec, make_topics
from producers.job_client import JobClient, JobError
from producers.job_view import JobView
from producers.lag import find_idle_stages
from producers.progress import ProgressBoard, job_fraction
from producers.topic_reader import QUIET, connection_of
from schemas.jobs import JobSpec

#: On top of the job's own deadline: after that nobody is expected to say anything any more.
GRACE_SECONDS = 60.0
#: The job begins without processes that have not started by then.
START_SECONDS = 60.0
#: The supervisors end their processes within 10 s.
STOP_SECONDS = 20.0
POLL_SECONDS = 0.05
#: The other party may still have a few events to come when the first one has ended.
LAST_WORDS_SECONDS = 20.0


@dataclass
class DemoRun:
    """A job that has ended, and everything needed to report about it."""

    options: DemoOptions
    tables: DemoTables
    spec: JobSpec
    job_id: str
    settings: dict[str, PartySettings]
    views: dict[str, JobView] = field(default_factory=dict)
    kills: list[Kill] = field(default_factory=list)
    supervisors: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    setup_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def guest(self) -> str:
        """The guest's name."""
        return self.spec.guest.party

    @property
    def view(self) -> JobView:
        """The job as the guest sees it."""
        return self.views[self.guest]


class Interrupted(BaseException):
    """SIGTERM asked the demo to end."""


@contextmanager
def running_demo(options: DemoOptions, console: Console) -> Iterator[DemoRun]:
    """Set up, run the job to its end, and hand it over while the broker still runs. Afterwards nothing is left running.

    Raises:
        JobError: nothing was heard of the job for longer than its deadline, or the folder cannot be used.
        BrokerError, JarError, TopicError, DemoDataError: as they say.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        stack.enter_context(_interruptible())
        tables = _read_tables(options)
        spec = make_spec(options, tables)
        folder = stack.enter_context(demo_folder(options.folder))
        # The demo's own table is small.
        tuning = Tuning.BRIEF if options.data is None else Tuning.BRIEF_WITH_CIPHERS
        broker = EmbeddedBroker(folder / "broker", tuning=tuning)
        stack.callback(broker.stop)
        console.print("starting Apache Kafka, making two parties", style="dim")
        broker.start()
        guest, host = make_homes(folder, options, tables, spec, broker)
        settings = {guest.party: guest, host.party: host}
        for party in settings.values():
            make_topics(party, broker)
        run = DemoRun(options, tables, spec, demo_job_id(options.seed, spec), settings)
        for party in settings.values():
            run.supervisors[party.party] = stack.enter_context(_supervised(party))
        _await_processes(run)
        run.setup_seconds = time.monotonic() - began
        _run_job(run, broker, console, stack)
        yield run


def _read_tables(options: DemoOptions) -> DemoTables:
    if options.data is None:
        return breast_cancer(options.seed, options.rows, options.kept)
    return read_pair(options.data, options.seed, options.rows, options.kept)


def _await_processes(run: DemoRun) -> None:
    """Until each stage of both parties has a process, so that the job's seconds are the job's.

    One that cannot start is told of while the job waits for it (`_check`).
    """
    admins = {
        party: AdminClient(dict(connection_of(settings, OPERATOR)), logger=QUIET)
        for party, settings in run.settings.items()
    }
    deadline = time.monotonic() + START_SECONDS
    while any(find_idle_stages(admin, party) for party, admin in admins.items()):
        if time.monotonic() > deadline or any(process.poll() is not None for process in run.supervisors.values()):
            return
        time.sleep(POLL_SECONDS)


def _run_job(run: DemoRun, broker: EmbeddedBroker, console: Console, stack: ExitStack) -> None:
    clients = {
        party: stack.enter_context(JobClient(party, connection_of(settings)))
        for party, settings in run.settings.items()
    }
    board = ProgressBoard(console, list(clients))
    fraction = 0.0
    homes = {party: settings.home for party, settings in run.settings.items()}
    chaos = Chaos(run.options.seed, run.options.kills, homes, broker, lambda: fraction, board.note)
    run.kills = chaos.kills
    started = time.monotonic()
    deadline = started + run.spec.deadline_seconds + GRACE_SECONDS
    clients[run.guest].submit(run.spec, run.job_id)
    with board:
        if run.options.kills:
            chaos.start()
        try:
            while not all(party in run.views and run.views[party].ended for party in clients):
                _check(run, chaos, deadline)
                for party, client in clients.items():
                    if client.poll(POLL_SECONDS) and (view := client.view(run.job_id)) is not None:
                        run.views[party] = view
                        board.show(view)
                        fraction = job_fraction(list(run.views.values()))
                if run.guest in run.views and run.view.ended:
                    deadline = min(deadline, time.monotonic() + LAST_WORDS_SECONDS)
        finally:
            chaos.stop()
    run.seconds = time.monotonic() - started


def _check(run: DemoRun, chaos: Chaos, deadline: float) -> None:
    if chaos.problem is not None:
        raise JobError(f"the kills could not be carried out: {chaos.problem}")
    for party, supervisor in run.supervisors.items():
        if supervisor.poll() is not None:
            log = run.settings[party].home / "log" / "supervisor.log"
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
            raise JobError(f"the processes of {party} cannot run: {' / '.join(lines)}")
    if time.monotonic() < deadline:
        return
    if run.guest in run.views and run.view.ended:
        silent = [party for party in run.settings if party not in run.views or not run.views[party].ended]
        raise JobError(f"the job ended at {run.guest}, but {', '.join(silent)} did not say so")
    raise JobError(f"the job did not end within its deadline; its logs are in {run.options.folder}/*/log")


@contextmanager
def _supervised(settings: PartySettings) -> Iterator[subprocess.Popen[bytes]]:
    """The party's supervisor as a process of its own, with the party's processes below it."""
    log_folder = settings.home / "log"
    log_folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "consumers.supervisor", "--home", str(settings.home)]
    with (log_folder / "supervisor.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, PARENT_PIPE: "1"},
        )
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM unwinds like Ctrl-C, so that everything which was started is ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def log_hint(folder: Path) -> str:
    """Where to look when something went wrong."""
    return f"logs: {folder}/*/log/*.log, {folder}/broker/broker.log"
