"""A guest and a host with a model that they trained, and the processes of online scoring."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import psutil

from consumers.exits import PARENT_PIPE
from consumers.party import open_party
from consumers.supervisor import running_pid
from infra.access import APPLICATION
from infra.broker import EmbeddedBroker
from infra.topics import results_topic, score_audit_topic
from producers.job_view import JobStatus
from producers.model_reader import find_model, load_half, read_models
from producers.score_client import ScoreClient
from producers.serving_client import Serving, read_serving, set_alias
from producers.topic_reader import connection_of
from schemas.codec import decode
from schemas.jobs import ServeSpec
from schemas.models import ModelRegistered
from schemas.record import Record
from schemas.scoring import ScoreJoined
from streams.kernels.scorecard import POINT_QUANTUM, count_points, restore_share, share_logit
from streams.kernels.scoring import quantise_logits, score_half
from streams.machines.evaluate.start import arrays_of
from tests.end_to_end.world import DATASET, House, World, await_true, read_all, running_world

GUEST_PROCESSES = ("score-router", "score-joiner", "score-history", "score-reconciler")
#: How long a request waits for the host.
PATIENCE_MS = 8_000
#: Accounts are compared for short times, so that tests need not wait for long ones.
STATEMENT_SECONDS = 10
HOST_PROCESSES = ("score-host", "score-history", "score-reconciler")


def isthmus(*arguments: str, expect: tuple[int, ...] = (0,)) -> str:
    """What the command prints. Fails when it ends with another code than expected."""
    done = subprocess.run(
        [sys.executable, "-m", "producers.cli", *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode in expect, done.stdout + done.stderr
    return done.stdout


@dataclass(frozen=True)
class Run:
    """A supervisor and what it belongs to."""

    house: House
    slot: int
    process: subprocess.Popen[bytes]


@dataclass
class Scoring:
    """What scores, and how to ask."""

    world: World
    broker: EmbeddedBroker
    model: ModelRegistered
    #: A later version of it.
    second: ModelRegistered
    runs: list[Run] = field(default_factory=list)

    @property
    def keys(self) -> set[str]:
        """Both versions, as the serving topic names them."""
        return {f"{model.name}/{model.version}" for model in (self.model, self.second)}

    def set_alias(self, version: str, *, canary: str = "", permille: int = 0, shadow: str = "") -> None:
        """What `isthmus model alias small@live VERSION` does, without the start of a process."""
        settings = self.world.guest.settings
        set_alias(
            settings, "small@live", version, canary_version=canary, canary_permille=permille, shadow_version=shadow
        )

    def client(self) -> ScoreClient:
        """A client of the guest's."""
        settings = self.world.guest.settings
        return ScoreClient(settings.party, connection_of(settings, APPLICATION))

    def start(self, house: House, *names: str, slot: int = 0) -> None:
        """Run these processes under a supervisor, as `isthmus score run` does."""
        options = [word for name in names for word in ("--process", name)]
        command = [
            sys.executable,
            "-m",
            "producers.cli",
            "score",
            "run",
            "--home",
            str(house.home),
            "--slot",
            str(slot),
        ]
        with (house.home / "log" / f"score-run.{slot}.log").open("ab") as log:
            process = subprocess.Popen(
                [*command, "--slot", str(slot), *options],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, PARENT_PIPE: "1"},
            )
        self.runs.append(Run(house, slot, process))

    def start_all(self) -> None:
        """Everything but parity checks and views."""
        self.start(self.world.guest, *GUEST_PROCESSES)
        self.start(self.world.host, *HOST_PROCESSES)

    def stop(self, house: House | None = None) -> None:
        """End the processes of one house, or of both."""
        self._end([run for run in self.runs if house in (None, run.house)])

    def stop_slot(self, slot: int) -> None:
        """End the processes of this slot, at both houses."""
        self._end([run for run in self.runs if run.slot == slot])

    def _end(self, ended: list[Run]) -> None:
        for run in ended:
            run.process.terminate()
        for run in ended:
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.process.wait(20)
            if run.process.poll() is None:
                run.process.kill()
                run.process.wait()
            if run.process.stdin is not None:
                run.process.stdin.close()
            self.runs.remove(run)

    def kill(self, house: House, name: str) -> None:
        """SIGKILL, proven: the process is gone, and its supervisor saw it end by signal 9.

        One that had just ended by itself, as some do after the broker was killed, was not hit: its successor is.
        """

        def exits_of(pid: int) -> list[int]:
            return [entry["exit"] for entry in house.journal() if entry["what"] == "ended" and entry["pid"] == pid]

        exits: list[int] = []
        while -signal.SIGKILL not in exits:
            self.await_so(lambda: self.is_running(house, name), f"{name} runs")
            pid = running_pid(house.home, name)
            if pid is None:
                continue
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(pid).send_signal(signal.SIGKILL)
            self.await_so(lambda pid=pid: exits_of(pid) != [], f"the supervisor notes the end of {name}")  # type: ignore[misc]
            exits = exits_of(pid)

    def await_so(self, condition: Callable[[], bool], what: str) -> None:
        """Look again and again until it is so."""
        await_true(condition, what, self.world.guest.client.poll)

    def is_running(self, house: House, name: str) -> bool:
        """Whether the process has a process id now."""
        return (house.home / "run" / f"{name}.pid").exists()

    def serving(self) -> Serving:
        """What the serving topic says."""
        return read_serving(self.world.guest.settings)

    def offline_points(self, entity_ids: list[str], model: ModelRegistered | None = None) -> dict[str, tuple[int, int]]:
        """(Logit, points) of persons that both know, from the tables and the halves alone."""
        model = model or self.model
        logits: dict[str, list[int]] = {}
        for house, table in ((self.world.guest, self.world.tables.guest), (self.world.host, self.world.tables.host)):
            half = load_half(open_party(house.home), model)
            rows = table.set_index("id").loc[entity_ids, list(half.columns)].to_numpy(dtype=np.float64)
            part = score_half(rows, arrays_of(half))
            if house is self.world.host:
                shares = [share_logit(int(value), POINT_QUANTUM) for value in quantise_logits(part)]
                values = [restore_share(share, POINT_QUANTUM) for share in shares]
            else:
                values = [int(value) for value in part]
            for entity_id, value in zip(entity_ids, values, strict=True):
                logits.setdefault(entity_id, []).append(value)
        serve = model.spec.serve
        return {
            entity_id: (sum(parts), count_points(sum(parts), serve.base_points, serve.points_to_double_odds))
            for entity_id, parts in logits.items()
        }

    def results(self) -> list[ScoreJoined]:
        """Every committed result so far."""
        return [
            record for record in self._read(results_topic(self.world.guest.party)) if isinstance(record, ScoreJoined)
        ]

    def audit(self, house: House) -> list[Record]:
        """The house's books so far."""
        return self._read(score_audit_topic(house.party))

    def _read(self, topic: str) -> list[Record]:
        partitions = range(self.world.guest.settings.topics.partitions)
        messages = read_all(self.broker.admin_connection, [(topic, partition) for partition in partitions])
        return [decode(message.value() or b"") for message in messages]


@contextmanager
def scoring_world(folder: Path, broker: EmbeddedBroker, parties: tuple[str, str]) -> Iterator[Scoring]:
    """Train two versions of a small model, load both tables as features, check the versions, and serve the first."""
    with running_world(folder, broker, parties) as world:
        # A busy machine may be slow; what is late is a test of its own.
        serve = ServeSpec(host_patience_ms=PATIENCE_MS)
        specs = [world.spec(serve=serve), world.spec(serve=serve, train=replace(world.spec().train, l2=60.0))]
        jobs = [world.submit(spec) for spec in specs]
        for job_id in jobs:
            view = world.await_end(job_id)
            assert view.status is JobStatus.SUCCEEDED, view
        for house in world.houses:
            house.stop()
        models = read_models(world.guest.settings)
        for house in world.houses:
            settings = house.home / "party.yaml"
            settings.write_text(settings.read_text() + f"score: {{statement_seconds: {STATEMENT_SECONDS}}}\n")
        first, second = (find_model(models, f"small/{job_id}") for job_id in jobs)
        scoring = Scoring(world, broker, first, second)
        features = ",".join(world.tables.guest_features)
        isthmus("features", "load", "--dataset", DATASET, "--columns", features, "--home", str(world.guest.home))
        isthmus("features", "load", "--dataset", DATASET, "--home", str(world.host.home))
        try:
            scoring.start(world.guest, "score-parity")
            scoring.start_all()
            scoring.await_so(lambda: scoring.keys <= scoring.serving().versions.keys(), "the versions are checked")
            scoring.set_alias(scoring.model.version)
            yield scoring
        finally:
            scoring.stop()
