"""What a `split_link` job will cost: processor seconds, bytes, rounds and hours from its shape, and how right that is.

    python -m benchmarks.cost_model --rows 1000000 --guest-columns 13 --host-columns 10 --bandwidth 1000 --rtt 20
    python -m benchmarks cost_model --json             the model beside whole passes of both machines, at small shapes
    ISTHMUS_COST_POINTS=full python -m benchmarks cost_model --json         the same at nine shapes: some minutes

Operations are counted from the layouts that the machines use; what each takes is measured on this machine, on the path
that computes here. What is fitted is said in `TAKEN_OVER`.
"""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from benchmarks._cost_terms import Units, count_load, measure_units
from benchmarks.train_arithmetic import GUEST, HOLDOUT, HOST, Bench, synthetic
from schemas.jobs import EvaluateSpec, JobSpec, Leak, PartySpec, TrainSpec
from streams.kernels.holdout import count_training_rows
from streams.machines.train.plan import MOST_CHUNK_ROWS, TrainPlan, make_plan

#: Of `benchmarks.engine_overhead` and whole jobs: seconds of a hop through the broker, with its transaction, and of a
#: job's start and end.
HOP_SECONDS: Final = 0.006
START_SECONDS: Final = 4.0
#: Of a profile of `train_arithmetic`: seconds of a row that are Python's, so that more threads do not shorten them.
SERIAL_SECONDS: Final = 25e-6
#: Messages one after the other in a pass: basis, masked residuals, shares, gradient, its shares, report, step; and in
#: the first, where the guest knows the residuals.
HOPS_A_PASS: Final = 7
HOPS_OF_THE_FIRST: Final = 5
TAKEN_OVER: Final = {
    "seconds of a hop": HOP_SECONDS,
    "seconds to start and end a job": START_SECONDS,
    "seconds of a row on one thread": SERIAL_SECONDS,
}

SMALL: Final = ((10_000, 10), (10_000, 30))
FULL: Final = tuple((rows, columns) for rows in (10_000, 30_000, 100_000) for columns in (10, 30, 100))


@dataclass(frozen=True)
class Shape:
    """A job: training rows, columns of each party, passes after the first, and where its parties are.

    `bandwidth` in bits a second in each direction, `round_trip` in seconds, `cores` that each party gives one job, as
    threads of the native kernel.
    """

    rows: int
    guest_columns: int
    host_columns: int
    rank: int = TrainSpec.rank
    key_bits: int = TrainSpec.key_bits
    coarse_passes: int = TrainSpec.coarse_passes
    passes: int = 8
    bandwidth: float = 1e9
    round_trip: float = 0.02
    cores: int = 1

    def plan(self) -> TrainPlan:
        """The schedule and layouts that both machines derive. Raises ValueError for what a key cannot hold."""
        train = TrainSpec(rank=self.rank, key_bits=self.key_bits, coarse_passes=self.coarse_passes)
        return make_plan(train, self.rows, self.guest_columns, self.host_columns, MOST_CHUNK_ROWS)


@dataclass(frozen=True)
class Estimate:
    """Processor seconds by party, bytes by direction (from the party named), seconds on the clock."""

    processor: dict[str, float]
    sent: dict[str, float]
    hops: int
    seconds: float
    records: int


def estimate(shape: Shape, units: dict[int, Units]) -> Estimate:
    """The whole training; `units` by rank, as `measure_for` gives them.

    Parties work at the same time, on different chunks, each on one chunk after the other: a pass takes the busier one's
    seconds and two chunks more to fill the pipe, or the transfer if that is longer, and then what waits for each other.
    """
    plan = shape.plan()
    ranks = [0, *(plan.rank(index) for index in range(1, shape.passes + 1))]
    processor, sent = {GUEST: 0.0, HOST: 0.0}, {GUEST: 0.0, HOST: 0.0}
    seconds, records, hops = START_SECONDS, 0, 0
    for rank in ranks:
        load = count_load(plan, rank)
        own = {party: units[rank].seconds(load, party) for party in processor}
        transfer = max(8 * load.sent[party] / shape.bandwidth for party in sent)
        chunks = plan.chunks(rank)
        serial = SERIAL_SECONDS * shape.rows if rank else 0.0
        compute = (serial + max(0.0, max(own.values()) - serial) / shape.cores) * (1 + 2 / chunks)
        waits = HOPS_A_PASS if rank else HOPS_OF_THE_FIRST
        seconds += max(compute, transfer) + waits * (shape.round_trip / 2 + HOP_SECONDS)
        records, hops = records + load.records, hops + waits
        for party in processor:
            processor[party] += own[party]
            sent[party] += load.sent[party]
    return Estimate(processor, sent, hops, seconds, records)


def measure_for(shape: Shape) -> dict[int, Units]:
    """Units for each rank that the shape's passes have."""
    plan = shape.plan()
    return {rank: measure_units(plan, rank) for rank in {plan.rank(index) for index in range(shape.passes + 1)}}


def run() -> dict[str, Any]:
    """Measured and modelled, of the first pass at full rank and of the pass before; a ratio of 1 is right."""
    points = FULL if os.environ.get("ISTHMUS_COST_POINTS") == "full" else SMALL
    rows = [check(rows, columns) for rows, columns in points]
    worst = {
        key: max((row[key] for row in rows), key=lambda ratio: abs(ratio - 1))
        for key in ("guest_seconds_ratio", "host_seconds_ratio", "bytes_ratio")
    }
    return {"rows": rows, "ratios": worst, "taken_over": TAKEN_OVER}


def check(rows: int, columns: int) -> dict[str, float]:
    """Whole passes of both machines beside the model; half of the columns at each party."""
    half = columns // 2
    shape = Shape(rows, half, columns - half, coarse_passes=0, passes=1)
    bench = train_two_passes(shape)
    plan, units = shape.plan(), measure_for(shape)
    rank = plan.rank(1)
    load = count_load(plan, rank)
    found: dict[str, float] = {"rows": rows, "columns": columns, "rank": rank}
    for party in (GUEST, HOST):
        measured, modelled = bench.by_pass[party, 1, rank], units[rank].seconds(load, party)
        found |= {f"{party}_seconds": measured, f"{party}_seconds_modelled": modelled}
        found[f"{party}_seconds_ratio"] = measured / modelled
    modelled_bytes = sum(sum(count_load(plan, each).sent.values()) for each in (0, rank))
    return found | {
        "bytes": bench.wire,
        "bytes_modelled": modelled_bytes,
        "bytes_ratio": bench.wire / modelled_bytes,
    }


def train_two_passes(shape: Shape) -> Bench:
    """Both machines in this process, on made-up columns: the pass with exact residuals and one at full rank."""
    joint = next(rows for rows in itertools.count(shape.rows) if count_training_rows(rows, HOLDOUT) == shape.rows)
    guest, host, label = synthetic(joint, shape.guest_columns, shape.host_columns)
    train = TrainSpec(rank=shape.rank, coarse_passes=shape.coarse_passes, max_passes=2, key_bits=shape.key_bits)
    hosts = (PartySpec(HOST, "host"),)
    spec = JobSpec("cost", PartySpec(GUEST, "guest"), "y", hosts, train=train, accept_leaks=tuple(Leak))
    bench = Bench(replace(spec, evaluate=EvaluateSpec(HOLDOUT)), {GUEST: guest, HOST: host}, label)
    bench.run()
    return bench


def describe(shape: Shape, found: Estimate) -> Iterable[str]:
    """Lines for people."""
    columns = f"{shape.guest_columns} + {shape.host_columns} columns"
    yield f"{shape.rows:,} rows, {columns}, rank {shape.rank}, {shape.key_bits} bits"
    for party in (GUEST, HOST):
        yield f"  {party:5}  {found.processor[party] / 3600:10.2f} core hours  {found.sent[party] / 1e9:8.2f} GB sent"
    yield f"  {found.records:,} records, {found.hops} of them one after the other, {found.seconds / 3600:.2f} hours"


def main() -> None:
    """Print the estimate for one shape."""
    parser = argparse.ArgumentParser(description="What a split_link job will cost on machines like this one")
    parser.add_argument("--rows", type=int, required=True, help="training rows")
    parser.add_argument("--guest-columns", type=int, default=13)
    parser.add_argument("--host-columns", type=int, default=10)
    parser.add_argument("--rank", type=int, default=Shape.rank)
    parser.add_argument("--key-bits", type=int, default=Shape.key_bits)
    parser.add_argument("--passes", type=int, default=Shape.passes)
    parser.add_argument("--bandwidth", type=float, default=1000.0, help="megabits a second in each direction")
    parser.add_argument("--rtt", type=float, default=20.0, help="milliseconds to the broker and back")
    parser.add_argument("--cores", type=int, default=1, help="cores of each party for this job")
    given = parser.parse_args()
    shape = Shape(
        given.rows,
        given.guest_columns,
        given.host_columns,
        rank=given.rank,
        key_bits=given.key_bits,
        passes=given.passes,
        bandwidth=given.bandwidth * 1e6,
        round_trip=given.rtt / 1e3,
        cores=given.cores,
    )
    print("\n".join(describe(shape, estimate(shape, measure_for(shape)))))


if __name__ == "__main__":
    main()
