"""The arithmetic of an open loop: when requests are due, and from when their latencies count."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.score_client import ScoreTimeoutError, make_request
from producers.score_load import LoadReport, LoadRun, count_due, due_at, nearest_rank, parse_ids
from producers.score_text import describe_mix, load_lines
from schemas.scoring import Outcome, ScoreJoined, ScoreReason
from tests.producers.score_responder import scored


@dataclass
class World:
    """A clock that moves by waiting only, and a server that answers what came `service` seconds ago."""

    service: float = 0.004
    now: float = 100.0
    #: The server takes nothing up from the first to the second of these times.
    stalled: tuple[float, float] = (0.0, 0.0)
    #: What sending costs.
    send_seconds: float = 0.0
    answer: Callable[[int, ScoreJoined], ScoreJoined | Exception] = lambda number, result: result
    sent: list[tuple[float, str]] = field(default_factory=list)
    waiting: list[tuple[float, int, Future[ScoreJoined]]] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        until = self.now + max(seconds, 1e-6)
        while due := [one for one in self.waiting if one[0] <= until]:
            at, number, future = min(due, key=lambda one: one[:2])
            self.waiting.remove((at, number, future))
            self.now = max(self.now, at)
            result = self.answer(number, scored(make_request("C1", "m")))
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
        self.now = until

    def send(self, entity_id: str, model: str, *, deadline_ms: int) -> Future[ScoreJoined]:
        self.sent.append((self.now, entity_id))
        future: Future[ScoreJoined] = Future()
        begins = self.stalled[1] if self.stalled[0] <= self.now < self.stalled[1] else self.now
        self.waiting.append((begins + self.service, len(self.sent) - 1, future))
        self.now += self.send_seconds
        return future

    def run(self, rate: float, seconds: float, ids: tuple[str, ...] = ("C1",)) -> LoadReport:
        run = LoadRun(self, ids, "m", rate=rate, seconds=seconds, deadline_ms=1000, clock=self.clock, wait=self.wait)
        return run.run()


def test_requests_leave_when_they_are_due_and_people_take_turns() -> None:
    world = World()
    report = world.run(rate=100, seconds=2, ids=("A", "B", "C"))
    assert [at for at, _ in world.sent] == pytest.approx([100 + i / 100 for i in range(200)], abs=1e-4)
    assert [person for _, person in world.sent[:4]] == ["A", "B", "C", "A"]
    assert (report.total, report.sent, report.ended, report.lost) == (200, 200, 200, 0)
    assert list(report.latencies_ms) == pytest.approx([4] * 200, abs=0.1)


def test_a_server_that_stands_still_is_seen_by_every_request_of_that_time() -> None:
    """For one second of ten, at 100 a second: a tenth of the latencies are spread evenly up to a second."""
    report = World(stalled=(103.0, 104.0)).run(rate=100, seconds=10)
    slow = sorted(latency for latency in report.latencies_ms if latency > 5)
    assert slow == pytest.approx([4 + 10 * i for i in range(1, 101)], abs=0.2)
    assert report.percentiles()["p50_ms"] == pytest.approx(4, abs=0.1)
    assert report.percentiles()["p99_ms"] == pytest.approx(904, abs=11)


def test_a_sender_that_cannot_keep_up_is_charged_for_it() -> None:
    """Sending takes 20 ms where 10 ms are given: the last of 100 leaves a second late, and its latency says so."""
    world = World(send_seconds=0.02)
    report = world.run(rate=100, seconds=1)
    last_sent, _ = world.sent[-1]
    assert last_sent == pytest.approx(100 + 99 * 0.02, abs=0.01)
    assert max(report.latencies_ms) >= 1000 * (last_sent - (100 + 0.99)) + 4


def test_a_load_counts_outcomes_and_what_was_lost() -> None:
    def answer(number: int, result: ScoreJoined) -> ScoreJoined | Exception:
        if number == 7:
            return ScoreTimeoutError("r7", "no result of request r7 in time")
        if number % 2:
            return replace(result, outcome=Outcome.DEGRADED, reason=ScoreReason.LATE, party="bureau")
        return result

    report = World(answer=answer).run(rate=10, seconds=1)
    assert (report.ended, report.lost, report.problem) == (9, 1, "no result of request r7 in time")
    assert report.outcomes == {("scored", "none", ""): 5, ("degraded", "late", "bureau"): 4}
    assert describe_mix(report.outcomes) == "5 scored, 4 degraded (late at bureau)"
    assert "lost 1" in "\n".join(load_lines(report))
    told = json.loads(json.dumps(report.mapping(), allow_nan=False))
    assert {"outcome": "degraded", "reason": "late", "party": "bureau", "count": 4} in told["outcomes"]
    assert (told["sent"], told["ended"], told["lost"]) == (10, 9, 1)


def test_a_load_of_which_everything_is_lost_has_no_latency() -> None:
    report = World(answer=lambda number, result: ScoreTimeoutError("r", "gone")).run(rate=10, seconds=0.5)
    assert (report.ended, report.lost) == (0, 5)
    assert json.loads(json.dumps(report.mapping(), allow_nan=False))["p99_ms"] is None
    assert "p99 -" in "\n".join(load_lines(report))


@given(st.floats(0, 1e4), st.floats(1e-3, 1e5), st.integers(0, 10_000))
def test_what_is_due_is_what_is_not_after_now(elapsed: float, rate: float, total: int) -> None:
    due = count_due(elapsed, rate, total)
    assert 0 <= due <= total
    assert due == total or due_at(due, rate) > elapsed
    assert due == 0 or due_at(due - 1, rate) <= elapsed


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.floats(0.001, 1))
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(values: list[float], share: float) -> None:
    found = nearest_rank(sorted(values), share)
    enough = [value for value in values if sum(other <= value for other in values) >= share * len(values)]
    assert found == min(enough)


def test_no_values_have_no_percentile() -> None:
    assert math.isnan(nearest_rank([], 0.5))


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("1..3", ["1", "2", "3"]),
        ("C008..C010", ["C008", "C009", "C010"]),
        ("eu-2-9..eu-2-11", ["eu-2-9", "eu-2-10", "eu-2-11"]),
        ("7..7", ["7"]),
    ],
)
def test_ranges_of_ids(text: str, ids: list[str]) -> None:
    assert parse_ids(text) == ids


@pytest.mark.parametrize("text", ["", "1..", "..3", "C1..D3", "5..2", "ids.txt", "1...3"])
def test_what_is_no_range_of_ids(text: str) -> None:
    with pytest.raises(ValueError, match=r"no range|before the first"):
        parse_ids(text)
