"""How long the arithmetic of a training job takes, without Kafka: both machines in one process, on one core.

    python -m benchmarks.train_arithmetic                        synthetic rows like default_credit (21,000; 13 + 10)
    python -m benchmarks.train_arithmetic --rows 2048            a slice; per-row costs extrapolate linearly
    python -m benchmarks.train_arithmetic --data FOLDER --name default_credit --privacy trusted_guest

CPU seconds of every step are measured; the wall clock of two parties on a core each is simulated from them: a step
begins when its record is there and the party is free.
"""

from __future__ import annotations

import argparse
import heapq
import math
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.glm_simulation import folder_tables
from schemas.alignment import AlignmentReady, PartyRows
from schemas.codec import decode, encode
from schemas.cohorts import AskCohort, CohortGranted
from schemas.jobs import (
    ColumnProfile,
    DataProfile,
    EvaluateSpec,
    JobSpec,
    Leak,
    PartySpec,
    Privacy,
    Role,
    Stage,
    TrainSpec,
)
from schemas.record import Blob, Record
from schemas.tasks import StartTask, TaskFailed, TaskSucceeded
from schemas.training import ModelReady
from schemas.training_states import GuestTraining, HostTraining
from streams.dataset import Dataset
from streams.identifiers import Identifiers
from streams.kernels import metrics
from streams.kernels.fixed_point import FX
from streams.kernels.holdout import count_training_rows
from streams.kernels.standardisation import Standardisation, fit_standardisation, standardise
from streams.machine import Event, ToEvents, ToPeer, ToStage
from streams.machines.train import TrainMachine

GUEST, HOST, JOB = "guest", "host", "benchmark"
#: The share of rows that is held out, as in the default spec.
HOLDOUT = 0.3


def synthetic(
    rows: int, guest_columns: int = 13, host_columns: int = 10
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int8]]:
    """Columns with heavy tails and few values, as in default_credit; one row in five is positive."""
    rng = np.random.RandomState(0)
    guest, host = rng.standard_t(4, size=(rows, guest_columns)), rng.standard_t(4, size=(rows, host_columns))
    rounded, common = guest_columns // 2, min(3, guest_columns - guest_columns // 2, host_columns)
    guest[:, :rounded] = np.rint(guest[:, :rounded])
    host[:, :common] = 0.7 * guest[:, rounded : rounded + common] + 0.7 * host[:, :common]
    # However many columns there are, logits stay in the box.
    own, other = (rng.normal(size=size) / np.sqrt(size) for size in (guest_columns, host_columns))
    signal = 0.54 * guest @ own + 0.32 * host @ other - 1.6
    return guest, host, (rng.uniform(size=rows) < 1 / (1 + np.exp(-signal))).astype(np.int8)


def read_table(folder: Path, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int8]]:
    """The pair <name>_hetero_guest.csv.gz, <name>_hetero_host.csv.gz of a folder."""
    for table in folder_tables(folder):
        if table.name == name:
            return table.guest, table.host, table.label
    raise SystemExit(f"{folder} has no {name}_hetero_guest.csv.gz")


class Bench:
    """Two machines and a clock for each."""

    def __init__(self, spec: JobSpec, values: dict[str, NDArray[np.float64]], label: NDArray[np.int8]) -> None:
        self.spec = spec
        self.machines = {party: TrainMachine(party, party.encode() * 8, spec.train.key_bits) for party in values}
        self.states: dict[str, Record] = {party: machine.initial(JOB) for party, machine in self.machines.items()}
        self.free = dict.fromkeys(values, 0.0)
        self.queues: dict[str, list[tuple[float, int, str, bytes | Record, object]]] = {p: [] for p in values}
        self.order = 0
        self.seconds: dict[tuple[str, str], float] = defaultdict(float)
        self.calls: dict[tuple[str, str], int] = defaultdict(int)
        self.longest: dict[str, tuple[float, str]] = dict.fromkeys(values, (0.0, ""))
        self.by_pass: dict[tuple[str, int, int], float] = defaultdict(float)
        self.wire = 0
        self.halves: dict[str, ModelReady] = {}
        self.state_bytes = 0
        self.pass_ends: list[float] = []
        self.passes = 0
        self.blobs: dict[bytes, bytes] = {}
        for party, table in values.items():
            self._start(party, table, label)

    def _start(self, party: str, table: NDArray[np.float64], label: NDArray[np.int8]) -> None:
        n = len(label)
        names = tuple(f"{party}_{index}" for index in range(table.shape[1]))
        profile = DataProfile(n, tuple(ColumnProfile(name) for name in names), b"f" * 32)
        dataset = Dataset(Identifiers.of(map(str, range(n))), names, table, label if party == GUEST else None, profile)
        rows = Blob.of(np.arange(n, dtype="<u4").tobytes())
        ready = AlignmentReady(JOB, rows, n, (PartyRows(GUEST, n), PartyRows(HOST, n)), b"f" * 32)
        role = Role.GUEST if party == GUEST else Role.HOST
        task = StartTask(JOB, Stage.TRAIN, role, self.spec, profile, self.spec.accept_leaks)
        self._post(0.0, party, party, ready, None)
        self._post(0.0, party, party, task, dataset)

    def _post(self, at: float, sender: str, receiver: str, record: Record, resource: object) -> None:
        self.order += 1
        data: bytes | Record = encode(record) if sender != receiver else record
        if isinstance(data, bytes):
            self.wire += len(data)
        heapq.heappush(self.queues[receiver], (at, self.order, sender, data, resource))

    def run(self) -> None:
        """Serve whoever can begin first, until nothing is left."""
        while any(self.queues.values()):
            party = min(
                (p for p, queue in self.queues.items() if queue), key=lambda p: max(self.free[p], self.queues[p][0][0])
            )
            at, _, sender, data, resource = heapq.heappop(self.queues[party])
            self._serve(party, max(self.free[party], at), sender, data, resource)

    def _serve(self, party: str, begin: float, sender: str, data: bytes | Record, resource: object) -> None:
        state = self.states[party]
        where = state.current if isinstance(state, GuestTraining | HostTraining) else None
        started = time.process_time()
        record = decode(data) if isinstance(data, bytes) else data
        step = self.machines[party].step(state, Event(record, sender, resource))
        self.state_bytes = max(self.state_bytes, len(encode(step.state)))
        took = time.process_time() - started
        self.states[party] = step.state
        self.free[party] = begin + took
        name = type(record).__name__
        self.seconds[party, name] += took
        self.calls[party, name] += 1
        self.longest[party] = max(self.longest[party], (took, name))
        if where is not None and name != "TrainReady" and getattr(record, "pass_index", -1) >= 0:
            self.by_pass[party, where.pass_index, where.rank] += took
        for output in step.outputs:
            match output:
                case ToPeer(peer, sent):
                    self._post(self.free[party], party, peer, sent, None)
                case ToStage(stage, sent) if stage == Stage.TRAIN:
                    self._post(self.free[party], party, party, sent, None)
                case ToStage(_, AskCohort()):
                    # There is no earlier job: the register would say so at once.
                    self._post(self.free[party], party, party, CohortGranted(JOB), None)
                case ToStage(_, ModelReady() as half):
                    self.halves[party] = half
                case ToEvents(TaskFailed() as failed):
                    raise SystemExit(f"{failed.party}: {failed.reason}: {failed.detail}")
                case ToEvents(TaskSucceeded() as event) if party == GUEST:
                    self.measures = {measure.name: measure.value for measure in event.measures}


def holdout_auc(bench: Bench, values: dict[str, NDArray[np.float64]], label: NDArray[np.int8]) -> float:
    """AUC of the trained halves on the held-out rows."""
    first = count_training_rows(len(label), HOLDOUT)
    score = np.zeros(len(label) - first)
    for party, table in values.items():
        half = bench.halves[party].half
        scaling = Standardisation(half.means, half.scales, half.constant)
        score += standardise(table[first:], scaling, half.feature_clip) @ np.array(half.weights, dtype=np.float64)
    return metrics.auc(label[first:], score)


def pooled_auc(values: dict[str, NDArray[np.float64]], label: NDArray[np.int8], train: TrainSpec) -> float:
    """scikit-learn's fit on the pooled, clipped columns."""
    from sklearn.linear_model import LogisticRegression

    first = count_training_rows(len(label), HOLDOUT)
    columns = [
        standardise(table, fit_standardisation(table[:first]), train.feature_clip) / 2.0**FX
        for table in values.values()
    ]
    features = np.hstack(columns)
    model = LogisticRegression(C=1 / train.l2, tol=1e-10, max_iter=1000, solver="newton-cholesky")
    model.fit(features[:first], label[:first])
    return metrics.auc(label[first:], model.decision_function(features[first:]))


def report(bench: Bench, rows: int) -> None:
    """Seconds by message and by pass, the simulated wall clock, and the slowest step."""
    print(f"{'party':6} {'message':22} {'calls':>6} {'CPU s':>8}")
    for (party, name), seconds in sorted(bench.seconds.items(), key=lambda item: -item[1]):
        if seconds > 0.005:
            print(f"{party:6} {name:22} {bench.calls[party, name]:6} {seconds:8.2f}")
    for (party, number, rank), seconds in sorted(bench.by_pass.items()):
        print(f"{party:6} pass {number} rank {rank}: {seconds:7.2f} s, {seconds / rows * 1e6:6.0f} us a row")
    for party, (seconds, name) in bench.longest.items():
        print(f"{party:6} longest step {seconds:.2f} s ({name})")
    print(f"largest state record {bench.state_bytes} bytes, {bench.wire / 1e6:.1f} MB between the parties")
    print(f"simulated wall clock with a core for each party: {max(bench.free.values()):.1f} s")
    totals = {party: math.fsum(s for (p, _), s in bench.seconds.items() if p == party) for party in bench.free}
    print(f"CPU seconds in all: {', '.join(f'{party} {seconds:.1f}' for party, seconds in totals.items())}")


def main() -> None:
    """Run one job and report."""
    parser = argparse.ArgumentParser(description="The arithmetic of a training job")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--name", default="default_credit")
    parser.add_argument("--rows", type=int, default=21_000, help="training rows")
    parser.add_argument("--privacy", default=Privacy.SPLIT_LINK, choices=list(Privacy))
    parser.add_argument("--key-bits", type=int, default=2048)
    parser.add_argument("--rank", type=int, default=TrainSpec.rank)
    parser.add_argument("--coarse-passes", type=int, default=TrainSpec.coarse_passes)
    parser.add_argument("--max-passes", type=int, default=TrainSpec.max_passes)
    arguments = parser.parse_args()
    joint = round(arguments.rows / (1 - HOLDOUT))
    guest, host, label = read_table(arguments.data, arguments.name) if arguments.data else synthetic(joint)
    order = np.random.RandomState(0).permutation(len(label))[:joint]
    values = {GUEST: guest[order], HOST: host[order]}
    train = TrainSpec(
        privacy=Privacy(arguments.privacy),
        rank=arguments.rank,
        coarse_passes=arguments.coarse_passes,
        max_passes=arguments.max_passes,
        key_bits=arguments.key_bits,
    )
    hosts = (PartySpec(HOST, "host"),)
    spec = JobSpec("benchmark", PartySpec(GUEST, "guest"), "y", hosts, train=train, accept_leaks=tuple(Leak))
    bench = Bench(replace(spec, evaluate=EvaluateSpec(HOLDOUT)), values, label[order])
    started = time.monotonic()
    bench.run()
    report(bench, count_training_rows(joint, HOLDOUT))
    print(f"this run took {time.monotonic() - started:.1f} s")
    print({name: round(value, 6) for name, value in bench.measures.items()})
    auc, pooled = holdout_auc(bench, values, label[order]), pooled_auc(values, label[order], train)
    print(f"hold-out AUC {auc:.5f}, pooled {pooled:.5f}, gap {auc - pooled:+.1e}")


if __name__ == "__main__":
    main()
