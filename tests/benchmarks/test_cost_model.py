"""The cost model counts what the machines do, and adds up as it says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from benchmarks import cost_model
from benchmarks._cost_terms import OPERATIONS, Units, count_load
from benchmarks.cost_model import (
    HOP_SECONDS,
    HOPS_A_PASS,
    HOPS_OF_THE_FIRST,
    SERIAL_SECONDS,
    START_SECONDS,
    Shape,
    estimate,
    train_two_passes,
)
from benchmarks.train_arithmetic import GUEST, HOST
from streams.kernels.paillier import OwnerEncryptor, Refresher

SHAPE = Shape(300, 6, 5, rank=4, key_bits=1024, coarse_passes=0, passes=1)
#: An operation takes a second, whatever it is.
SECONDS = {rank: Units(dict.fromkeys(OPERATIONS, 1.0)) for rank in (0, 4)}


def test_ciphertexts_and_bytes_are_those_of_both_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    made: Counter[str] = Counter()

    def count(owner: type, method: str, name: str) -> None:
        real = getattr(owner, method)

        def counting(self: object, items: Sequence[object], *rest: Any) -> object:
            made[name] += len(items)
            return real(self, items, *rest)

        monkeypatch.setattr(owner, method, counting)

    count(OwnerEncryptor, "encrypt_many", "encrypt")
    count(Refresher, "refresh_many", "refresh")
    bench = train_two_passes(SHAPE)
    plan = SHAPE.plan()
    loads = [count_load(plan, rank) for rank in (0, plan.rank(1))]
    for name in ("encrypt", "refresh"):
        assert made[name] == sum(load.operations[party][name] for load in loads for party in (GUEST, HOST)), name
    modelled = sum(sum(load.sent.values()) for load in loads)
    # What is left are keys, reports and the frames of records.
    assert modelled < bench.wire < modelled * 1.02 + 5000


def test_twice_the_rows_are_twice_the_work_but_for_columns() -> None:
    plans = [replace(SHAPE, rows=rows).plan() for rows in (4000, 8000)]
    once, twice = (count_load(plan, 4).operations for plan in plans)
    assert twice[HOST]["multiply"] == 2 * once[HOST]["multiply"] == 40_000 * 1
    assert twice[GUEST]["combine"] == 2 * once[GUEST]["combine"]
    assert twice[HOST]["refresh"] == once[HOST]["refresh"] == SHAPE.host_columns
    assert twice[HOST]["encrypt"] == pytest.approx(2 * once[HOST]["encrypt"], rel=0.02)


def test_the_clock_is_what_takes_longest_and_then_what_waits() -> None:
    hops = HOPS_OF_THE_FIRST + HOPS_A_PASS
    waits = START_SECONDS + hops * HOP_SECONDS
    near = estimate(replace(SHAPE, bandwidth=1e15, round_trip=0.0), SECONDS)
    # One chunk a pass: filling the pipe takes two more.
    loads = {rank: count_load(SHAPE.plan(), rank) for rank in (0, 4)}
    busiest = [max(SECONDS[rank].seconds(load, party) for party in (GUEST, HOST)) for rank, load in loads.items()]
    assert near.seconds == pytest.approx(waits + 3 * sum(busiest))
    far = estimate(replace(SHAPE, bandwidth=1e15, round_trip=2.0), SECONDS)
    assert far.seconds == pytest.approx(near.seconds + hops)
    assert near.hops == hops
    narrow = estimate(replace(SHAPE, bandwidth=8.0, round_trip=0.0), SECONDS)
    assert narrow.seconds == pytest.approx(waits + sum(max(load.sent.values()) for load in loads.values()))
    assert narrow.processor == near.processor
    assert narrow.sent == {party: sum(load.sent[party] for load in loads.values()) for party in (GUEST, HOST)}


def test_more_cores_shorten_what_is_not_serial() -> None:
    many = replace(SHAPE, rows=20_000, bandwidth=1e15, round_trip=0.0)
    seconds = [estimate(replace(many, cores=cores), SECONDS).seconds for cores in (1, 4, 10**12)]
    chunks = many.plan().chunks(4)
    limit = START_SECONDS + (HOPS_OF_THE_FIRST + HOPS_A_PASS) * HOP_SECONDS + 20_000 * SERIAL_SECONDS * (1 + 2 / chunks)
    assert seconds[0] > 3.9 * (seconds[1] - limit) > 3.9 * (seconds[2] - limit)
    assert seconds[2] == pytest.approx(limit)


def test_a_shape_that_no_key_holds_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a modulus of"):
        estimate(replace(SHAPE, rank=8, key_bits=512), SECONDS)


def test_the_command_prints_core_hours_bytes_and_hours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    units = Units(dict.fromkeys(OPERATIONS, 0.001))
    monkeypatch.setattr(cost_model, "measure_for", lambda shape: {0: units, 4: units, 6: units})
    monkeypatch.setattr("sys.argv", ["cost_model", "--rows", "1000000", "--cores", "16"])
    cost_model.main()
    shown = capsys.readouterr().out
    assert "1,000,000 rows, 13 + 10 columns, rank 6, 2048 bits" in shown
    assert shown.count("core hours") == 2
