"""A load of scoring requests in an open loop, and what came of it.

Request i is due i / rate seconds after the beginning, whatever became of those before it, and its latency counts from
when it was due: a server that stands still for a second then shows a second in the latencies of all requests of that
second, and not in one only ("coordinated omission").
"""

from __future__ import annotations

import math
import re
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from producers.score_client import ScoreClientError
from producers.topic_reader import BrokerUnavailableError
from schemas.scoring import ScoreJoined

#: The longest wait between two looks at the clock, and how often `tell` is called.
LOOK_SECONDS, TELL_SECONDS = 0.05, 0.25
_RANGE = re.compile(r"(?P<first>\D*(?:\d*\D+)?)(?P<low>\d+)\.\.(?P<second>\D*(?:\d*\D+)?)(?P<high>\d+)")


class Sender(Protocol):
    """What a load needs of a client; `ScoreClient` has it."""

    def send(self, entity_id: str, model: str, *, deadline_ms: int) -> Future[ScoreJoined]:
        """As `ScoreClient.send`."""
        ...


def parse_ids(text: str) -> list[str]:
    """`C0001..C0500` -> 500 ids, with the zeros of the first. Raises `ValueError`."""
    match = _RANGE.fullmatch(text)
    if match is None or match["first"] != match["second"]:
        raise ValueError(f"{text!r} is no range of ids such as 1..500 or C0001..C0500")
    low, high, width = int(match["low"]), int(match["high"]), len(match["low"])
    if high < low:
        raise ValueError(f"{text!r}: the last id is before the first")
    return [f"{match['first']}{number:0{width}d}" for number in range(low, high + 1)]


def due_at(index: int, rate: float) -> float:
    """When request `index` is to be sent, in seconds after the beginning."""
    return index / rate


def count_due(elapsed: float, rate: float, total: int) -> int:
    """How many requests were to be sent by now: those with `due_at` <= `elapsed`."""
    due = math.floor(elapsed * rate) + 1
    # Rounding of the product may be off by one either way.
    while due > 0 and due_at(due - 1, rate) > elapsed:
        due -= 1
    while due_at(due, rate) <= elapsed:
        due += 1
    return max(0, min(total, due))


def nearest_rank(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the ordered values do not exceed; NaN for none."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


@dataclass
class LoadReport:
    """What came of a load. Latencies are in ms from when a request was due, of those that had an outcome."""

    rate: float
    total: int
    sent: int = 0
    #: Requests without an outcome: not taken by the broker, or no result in time.
    lost: int = 0
    #: From the beginning to the last outcome.
    seconds: float = 0.0
    outcomes: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    latencies_ms: array[float] = field(default_factory=lambda: array("d"))
    #: The first error there was.
    problem: str = ""

    @property
    def ended(self) -> int:
        """Requests with an outcome."""
        return len(self.latencies_ms)

    def percentiles(self) -> Mapping[str, float]:
        """`p50_ms`, `p90_ms`, `p99_ms`, `max_ms` by nearest rank."""
        ordered = sorted(self.latencies_ms)
        shares = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "max_ms": 1.0}
        return {name: round(nearest_rank(ordered, share), 3) for name, share in shares.items()}

    def mapping(self) -> dict[str, Any]:
        """For `--json`."""
        figures: dict[str, Any] = {
            "rate": self.rate,
            "sent": self.sent,
            "ended": self.ended,
            "lost": self.lost,
            "seconds": round(self.seconds, 3),
            "per_second": round(self.ended / self.seconds, 1) if self.seconds > 0 else 0.0,
            "outcomes": [
                {"outcome": outcome, "reason": reason, "party": party, "count": count}
                for (outcome, reason, party), count in self.outcomes.most_common()
            ],
            "problem": self.problem,
        }
        # JSON knows no NaN.
        return {**figures, **{name: None if math.isnan(value) else value for name, value in self.percentiles().items()}}


class LoadRun:
    """One load. `run` blocks until every request has an outcome or is lost."""

    def __init__(
        self,
        client: Sender,
        entity_ids: Sequence[str],
        model: str,
        *,
        rate: float,
        seconds: float,
        deadline_ms: int,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        """Ids are used in turn. `wait` sleeps for at most so many seconds."""
        self._client, self._ids, self._model = client, entity_ids, model
        self._deadline_ms, self._clock, self._wait = deadline_ms, clock, wait
        self._lock = threading.Lock()
        self._began = 0.0
        self.report = LoadReport(rate, math.ceil(rate * seconds))

    def run(self, tell: Callable[[LoadReport], None] = lambda report: None) -> LoadReport:
        """Send everything when it is due, then wait for what is in flight; `tell` is called now and then."""
        report = self.report
        self._began = told = self._clock()
        while report.ended + report.lost < report.total:
            now = self._clock()
            while now - told < TELL_SECONDS and report.sent < count_due(now - self._began, report.rate, report.total):
                self._send(report.sent)
                report.sent += 1
                now = self._clock()
            if now - told >= TELL_SECONDS:
                told = now
                tell(report)
            idle = self._began + due_at(report.sent, report.rate) - now if report.sent < report.total else LOOK_SECONDS
            self._wait(max(0.0, min(idle, LOOK_SECONDS)))
        tell(report)
        return report

    def _send(self, index: int) -> None:
        due = self._began + due_at(index, self.report.rate)
        person = self._ids[index % len(self._ids)]
        try:
            future = self._client.send(person, self._model, deadline_ms=self._deadline_ms)
        except (ScoreClientError, BrokerUnavailableError) as error:
            self._note_lost(error)
            return
        future.add_done_callback(partial(self._note, due))

    def _note(self, due: float, future: Future[ScoreJoined]) -> None:
        now = self._clock()
        error = future.exception()
        if error is not None:
            self._note_lost(error)
            return
        result = future.result()
        with self._lock:
            self.report.outcomes[result.outcome, result.reason, result.party] += 1
            self.report.latencies_ms.append((now - due) * 1000)
            self.report.seconds = max(self.report.seconds, now - self._began)

    def _note_lost(self, error: BaseException) -> None:
        with self._lock:
            self.report.lost += 1
            self.report.problem = self.report.problem or str(error)
